"""Every export of a run, read back by the library that it is for and evaluated by fresh networks.

Started by scripts/check_exports. The set itself and each export are evaluated by the same networks.
Arrays must be equal to the bit, and pictures to half a level of their eight bits.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ddpp_jax import load_distilled
from ddpp_jax.configs import DistillJob, EvaluateConfig, ModelConfig, setting
from ddpp_jax.data import from_shown, is_whitening, load_raw, transform_from
from ddpp_jax.evaluate import score
from ddpp_jax.export import FORMATS, pixel_range
from ddpp_jax.sets import DistilledSet

os.environ["HF_HUB_OFFLINE"] = "1"


def torch_tensors(folder, names):
    import torch

    loaded = [torch.load(folder / f"{name}.pt", weights_only=True) for name in names]
    assert loaded[0].dtype == torch.float32
    images, labels, rate = (tensor.numpy() for tensor in loaded)
    return np.moveaxis(images, 1, 3), labels, float(rate)


def safe_tensors(folder):
    import safetensors.torch

    found = safetensors.torch.load_file(folder / "distilled.safetensors")
    return found["images"].numpy(), found["labels"].numpy(), float(found["lr"])


def npz(folder):
    with np.load(folder / "distilled.npz", allow_pickle=False) as file:
        return file["images"], file["labels"], float(file["lr"])


def unpacked(pictures, folder, small):
    """Images as networks see them, of eight bits and the range that they stand for."""
    ends = json.loads((folder / "images" / "range.json").read_text())
    pixels = np.stack(pictures).astype(np.float32) / 255
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    pixels = ends["low"] + pixels * np.float32(ends["high"] - ends["low"])
    return from_shown(transform_from(small.transform), pixels)


def image_folder(folder, small):
    import torchvision

    found = torchvision.datasets.ImageFolder(folder / "images")
    folders = json.loads((folder / "images" / "range.json").read_text())["classes"]
    names = [found.classes.index(name) for name in folders]
    # torchvision opens all pictures in colour.
    grey = torchvision.transforms.Grayscale() if small.images.shape[3] == 1 else lambda image: image
    pictures, labels = zip(
        *((np.asarray(grey(image)), label) for image, label in found), strict=True
    )
    order = np.argsort([names.index(label) for label in labels], kind="stable")
    images = unpacked([pictures[place] for place in order], folder, small)
    return images, np.sort([names.index(label) for label in labels]), small.alpha


def hub_folder(folder, small):
    """By `datasets`, from the card: what the Hub would show of the repository."""
    import datasets
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(folder / "README.md")
    assert card.data.task_categories == ["image-classification"]
    with tempfile.TemporaryDirectory() as cache:
        found = datasets.load_dataset(str(folder), split="train", cache_dir=cache)
        names = found.features["label"].names
        folders = list(json.loads((folder / "images" / "range.json").read_text())["classes"])
        labels = [folders.index(names[row["label"]]) for row in found]
        order = np.argsort(labels, kind="stable")
        pictures = [np.asarray(found[int(place)]["image"]) for place in order]
    return unpacked(pictures, folder, small), np.sort(labels), small.alpha


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--data-dir", help="folder of prepared datasets")
    parser.add_argument("--eval-epochs", type=int, default=300)
    given = parser.parse_args()
    small = load_distilled(given.run)
    settings = small.origin["settings"]
    job: DistillJob = setting("digits")
    data = type(job.data)(**{**settings["data"], "data_dir": given.data_dir})
    raw = load_raw(data)
    x_test, model = small.seen(raw.x_test), ModelConfig(**settings["model"])

    def evaluated(images, labels, rate):
        return score(
            DistilledSet(images, np.asarray(labels, np.int32), rate, raw.class_names),
            x_test,
            raw.y_test,
            model=model,
            config=EvaluateConfig(eval_epochs=given.eval_epochs),
            operations=data.operations,
        )

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "export"
        command = [sys.executable, "-m", "ddpp_jax.export", str(given.run), "--out", str(folder)]
        subprocess.run([*command, "--formats", ",".join(FORMATS), "--quiet"], check=True)
        order = np.argsort(small.labels, kind="stable")
        readers = {
            "the set itself": lambda: (small.images[order], small.labels[order], small.alpha),
            "npz, NumPy": lambda: npz(folder),
            "safetensors, safetensors.torch": lambda: safe_tensors(folder),
            "mtt, torch.load": lambda: torch_tensors(
                folder, ("images_best", "labels_best", "lr_best")
            ),
            "dd-ranking, torch.load": lambda: torch_tensors(folder, ("images", "labels", "lr")),
            "png, torchvision ImageFolder": lambda: image_folder(folder, small),
            "card and png, datasets": lambda: hub_folder(folder, small),
        }
        expected = evaluated(*readers["the set itself"]())
        for name, reader in readers.items():
            images, labels, rate = reader()
            found = evaluated(images, labels, rate)
            most = float(np.abs(images - small.images[order]).max())
            print(
                f"{name}: {len(labels)} images, off by at most {most:.2g}, "
                f"{100 * found.mean:.1f} ± {100 * found.std:.1f} %",
                flush=True,
            )
            low, high = pixel_range(small.pixels)
            half = np.full_like(small.pixels[:1], 0.51 * (high - low) / 255)
            zero, level = (small.seen(np.clip(x, 0, 1)) for x in (0 * half, half))
            allowed = 0.0 if "png" not in name else float(np.abs(level - zero).max())
            assert most <= allowed or is_whitening(small.transform), (name, most, allowed)
            assert abs(found.mean - expected.mean) <= (2 * expected.std if allowed else 0), name


if __name__ == "__main__":
    main()
