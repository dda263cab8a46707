"""How long a dataset takes to be on the device, and how much memory, by stage.

    .venv/bin/python scripts/bench_loading.py --dataset cifar10 --data-dir FOLDER_OF_TFDS_DATASETS

With --zca the whitening is fitted the first time and read from --cache-dir after that.
"""

import argparse
import itertools
import resource
import time
from pathlib import Path

import jax

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import fit_transform, load_raw, normalised


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--zca", action="store_true")
    parser.add_argument("--cache-dir", type=Path, default=Path("runs/cache"))
    given = parser.parse_args()
    config = DataConfig(dataset=given.dataset, data_dir=given.data_dir, zca=given.zca)
    marks = [("start", time.perf_counter())]
    raw = load_raw(config)
    marks.append(("read", time.perf_counter()))
    transform = fit_transform(raw, zca=config.zca, cache_dir=given.cache_dir)
    marks.append(("transform fitted or read", time.perf_counter()))
    dataset = normalised(raw, transform)
    marks.append(("normalised", time.perf_counter()))
    arrays = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    jax.block_until_ready(jax.device_put(arrays))
    marks.append(("on the device", time.perf_counter()))
    for (_, before), (name, now) in itertools.pairwise(marks):
        print(f"{name}: {now - before:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"together: {marks[-1][1] - marks[0][1]:.1f} s, peak memory {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
