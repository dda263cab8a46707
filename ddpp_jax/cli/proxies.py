"""Small sets in place of the data, for a search: those that are given, and those made here."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ddpp_jax import search, select
from ddpp_jax.cli.sets import SmallSet, read_set
from ddpp_jax.configs import EvaluateConfig, EvaluateJob, SearchJob
from ddpp_jax.core import named_key
from ddpp_jax.data import (
    Dataset,
    random_indices,
    require_per_class,
    same_transform,
    transformed,
    whole,
)
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Tests
from ddpp_jax.planning.identities import origin_of
from ddpp_jax.progress import Report
from ddpp_jax.results import FULL
from ddpp_jax.sets import DistilledSet, read_distilled, set_path, write_distilled

RANDOM, HERDING, EARLY = "random", "herding", "early-stop"
SELECTED = (RANDOM, HERDING)
"""Proxies that are real images, chosen here."""


class Proxies(NamedTuple):
    """What a search is asked to compare with the full data.

    Attributes:
        names: of all, in their order.
        given: sets that were read, by name.
        ipc: images per class of random and herding, and whose steps early-stop takes; None where
            there are none of these.
    """

    names: tuple[str, ...]
    given: Mapping[str, SmallSet]
    ipc: int | None

    @property
    def selected(self) -> list[str]:
        """Those that are chosen among the real images."""
        return [name for name in SELECTED if name in self.names]

    def images(self, name: str, raw: Dataset) -> int:
        """How many images are stored for one."""
        if name in self.given:
            return len(self.given[name].labels)
        return len(raw.y_train) if name == EARLY else (self.ipc or 0) * raw.classes


def read_proxies(
    job: SearchJob, asked: Sequence[str], raw: Dataset, cache_dir: Path | None, report: Report
) -> Proxies:
    """The proxies that are asked for; what is to be made here is not made yet.

    Args:
        job: of the search.
        asked: paths, or names of those that are made here.
        raw: the data.
        cache_dir: where a ZCA whitening of the data is kept; None keeps it nowhere.
        report: told what is assumed of a set.

    Raises:
        InputError: there are none, one cannot be read or stands twice, or it is not known how many
            images per class there shall be.
    """
    if not asked:
        raise InputError(
            "--proxies names nothing; name run folders or files of sets, random, herding or "
            "early-stop"
        )
    if len(set(asked)) < len(asked):
        raise InputError("a proxy is named twice; name each once")
    reading = EvaluateJob(
        data=job.data,
        model=job.model,
        evaluation=EvaluateConfig(which=job.search.which),
        rate=job.rate,
    )
    names, given = [], dict[str, SmallSet]()
    for text in asked:
        if text in (*SELECTED, EARLY):
            names.append(text)
            continue
        small = read_set(reading, Path(text).expanduser(), raw, cache_dir, report)
        name = str(small.about["method"])
        if name in (*given, *SELECTED, EARLY, FULL):
            name = f"{name} ({text})"
        given[name] = small
        names.append(name)
        _warn_of_held_out(job, small, report)
    ipc = _ipc(job, given, raw)
    made = [name for name in names if name not in given]
    if made and ipc is None:
        raise InputError(
            f"it is not known how many images per class {made[0]} has; give --ipc, or a set first"
        )
    if ipc is not None and {*SELECTED} & {*names}:
        require_per_class(raw, ipc)
    return Proxies(tuple(names), given, ipc if made else None)


def _ipc(job: SearchJob, given: Mapping[str, SmallSet], raw: Dataset) -> int | None:
    if job.search.ipc is not None or not given:
        return job.search.ipc
    first = next(iter(given.values()))
    return int(first.about.get("ipc") or -(-len(first.labels) // raw.classes))


def _warn_of_held_out(job: SearchJob, small: SmallSet, report: Report) -> None:
    """Say where a set may have been made from the images that networks are chosen by."""
    theirs = {} if small.settings is None else small.settings.get("data", {})
    ours = {name: getattr(job.data, name) for name in ("held_out", "split_seed", "per_class")}
    if small.settings is not None and all(theirs.get(n) == value for n, value in ours.items()):
        return
    report.warn(
        f"{small.path} may have been made from images that are held out here, so that what it "
        "chooses looks better on them than it is; make it with the same --held-out and "
        "--split-seed"
    )


def training_sets(
    job: SearchJob, proxies: Proxies, raw: Dataset, dataset: Dataset, folder: Path, report: Report
) -> tuple[list[search.TrainingSet], list[search.Proxy]]:
    """The proxies as networks are trained on them, those made here included; and what each costs.

    Args:
        job: of the search.
        proxies: that are asked for.
        raw: the data as they came.
        dataset: the same, normalised.
        folder: of the search, where the images that are chosen here are kept.
        report: told as it goes on.

    Raises:
        InputError: a set that was kept is damaged.
    """
    found, about = [], []
    epochs = job.search.proxy_epochs
    for name in proxies.names:
        images, seconds = proxies.images(name, raw), None
        if name in proxies.given:
            small = proxies.given[name]
            made = search.TrainingSet(name, small.images, small.labels, small.rate, epochs)
        elif name == EARLY:
            assert proxies.ipc is not None
            made = early_stop(job, proxies.ipc, full_data(job, dataset))
        else:
            assert proxies.ipc is not None
            kept = _selected(job, name, proxies.ipc, raw, dataset, folder, report)
            seconds = float(kept.origin["seconds"])
            made = search.TrainingSet(name, kept.images, kept.labels, kept.alpha, epochs)
        found.append(made)
        about.append(search.Proxy(name, images, seconds))
    return found, about


def full_data(job: SearchJob, dataset: Dataset) -> search.TrainingSet:
    """The full data, as networks are trained on them."""
    return search.TrainingSet(
        FULL,
        whole(dataset.x_train, "a search"),
        dataset.y_train,
        job.real_rate,
        job.search.full_epochs,
    )


def manner_of(job: SearchJob, raw: Dataset) -> search.Manner:
    """How every network is trained."""
    return search.Manner(
        shape=raw.x_train.shape[1:],
        classes=raw.classes,
        networks=job.search.networks,
        batch_size=job.search.eval_batch,
        operations=job.data.operations,
        precision=job.model.precision,
    )


def early_stop(job: SearchJob, ipc: int, full: search.TrainingSet) -> search.TrainingSet:
    """The full data for as many steps of SGD as a set of so many images per class is trained."""
    images, batch = ipc * (1 + int(np.max(full.labels))), job.search.eval_batch
    steps = job.search.proxy_epochs * search.steps_of(images, batch)
    return search.stopped_early(full, steps, batch, name=EARLY)


def tests_of(raw: Dataset, dataset: Dataset, proxies: Proxies) -> dict[str, Tests]:
    """What the networks of each set are tested on, seen as they see their images."""
    own: Tests = {
        "test": (dataset.x_test, dataset.y_test),
        "held-out": (dataset.x_held, dataset.y_held),
    }
    found: dict[str, Tests] = {
        name: own for name in (*proxies.names, FULL) if name not in proxies.given
    }
    for name, small in proxies.given.items():
        assert dataset.transform is not None
        if same_transform(small.transform, dataset.transform):
            found[name] = own
        else:
            found[name] = {
                "test": (transformed(small.transform, raw.x_test), raw.y_test),
                "held-out": (transformed(small.transform, raw.x_held), raw.y_held),
            }
    return found


def _selected(
    job: SearchJob,
    name: str,
    ipc: int,
    raw: Dataset,
    dataset: Dataset,
    folder: Path,
    report: Report,
) -> DistilledSet:
    """Real images, chosen once and kept."""
    path = set_path(folder / name, "last")
    if path.exists():
        return read_distilled(path, remedy="delete it, and the same command makes it again")
    began = time.perf_counter()
    if name == RANDOM:
        key = named_key(jax.random.key(job.seed), "random images")
        indices = random_indices(key, dataset.y_train, ipc, classes=dataset.classes)
    else:
        usual = (job.model.width, job.model.depth)
        report.say(
            f"Training a ConvNet of width {usual[0]} and depth {usual[1]} on the full data, by "
            "whose features herding chooses"
        )
        one = search.Architecture(*usual, "relu", "average", "instance")
        key = named_key(jax.random.key(job.seed), "herding")
        manner = manner_of(job, raw)._replace(networks=1)
        fitted = search.fit(key, one, full_data(job, dataset), manner)
        params = jax.tree.map(lambda leaf: leaf[0], fitted.settled[0])
        network = search.network_of(one, manner.shape, manner.classes, precision=manner.precision)
        features = select.features_of(params, dataset.x_train, network=network)
        indices = select.herding(features, dataset.y_train, ipc)
    origin = origin_of(name, job, raw, ipc=ipc)
    origin |= {"seconds": round(time.perf_counter() - began, 3)}
    chosen = select.real_set(indices, raw, dataset, alpha=job.real_rate, origin=origin)
    path.parent.mkdir(exist_ok=True)
    write_distilled(path, chosen)
    # As it is read again: the rate is kept in float32.
    return read_distilled(path)
