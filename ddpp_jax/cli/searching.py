"""What a search among architectures trains, and what that takes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax import search
from ddpp_jax.cli.proxies import EARLY, Proxies, early_stop, manner_of
from ddpp_jax.configs import SearchJob
from ddpp_jax.data import Dataset, whole
from ddpp_jax.planning import trial
from ddpp_jax.progress import Report
from ddpp_jax.results import FULL
from ddpp_jax.search import Architecture
from ddpp_jax.storage import gib
from ddpp_jax.training import side_by_side

_BYTES_OF_A_TRAINING, _BYTES_OF_PICTURES = 1000, 2**20
_TRIED_BATCHES = 2


def words_of(
    job: SearchJob, architectures: Sequence[Architecture], proxies: Proxies, folder: Path
) -> str:
    """What a search trains, and where it leaves it.

    Args:
        job: the grid, and how its networks are trained.
        architectures: of the grid.
        proxies: what they are trained on.
        folder: of the results.
    """
    settings, count = job.search, len(architectures)
    most = _full_trainings(job, count, proxies)
    full = "all" if settings.full_count is None else f"up to {most}"
    trainings = settings.networks * (count * len(proxies.names) + most)
    exactly = "" if settings.full_count is None else "up to "
    return (
        f"{count} networks on {len(proxies.names)} proxies ({', '.join(proxies.names)}) for "
        f"{settings.proxy_epochs} epochs, {full} of them on the full data for "
        f"{settings.full_epochs}: {exactly}{trainings} trainings, augmentation "
        f"{job.data.augment}; in {folder}"
    )


def _full_trainings(job: SearchJob, count: int, proxies: Proxies) -> int:
    """The most networks that are trained on the full data."""
    each = job.search.full_count
    return count if each is None else min(count, each * (1 + len(proxies.names)))


def describe_work(
    job: SearchJob,
    architectures: Sequence[Architecture],
    proxies: Proxies,
    raw: Dataset,
    report: Report,
) -> None:
    """Say how much of the disk a search takes, and how long, by a trial.

    Args:
        job: the grid, and how its networks are trained.
        architectures: of the grid.
        proxies: what they are trained on.
        raw: the real images, as they came.
        report: told of it.
    """
    count = len(architectures)
    trainings = count * len(proxies.names) + _full_trainings(job, count, proxies)
    size = trainings * _BYTES_OF_A_TRAINING + _BYTES_OF_PICTURES
    report.say(f"Disk: about {gib(size)}")
    most = max(search.parameters(one, raw.x_train.shape[1:], raw.classes) for one in architectures)
    trial.describe(partial(_seconds, job, architectures, proxies, raw), most, report)


def _seconds(
    job: SearchJob, architectures: Sequence[Architecture], proxies: Proxies, raw: Dataset
) -> dict[str, float]:
    """Seconds of all networks on each set: the least, the middle and the largest are tried.

    Those between are told by the operations of their products. A program is compiled once for all
    activations, and for all sets of as many images.
    """
    shape, settings = raw.x_train.shape[1:], job.search
    work = [search.operations(one, shape, raw.classes) for one in architectures]
    order = np.argsort(work, kind="stable")
    tried = sorted({int(order[place]) for place in (0, len(order) // 2, -1)})
    sizes = {FULL: len(raw.y_train)} | {n: proxies.images(n, raw) for n in proxies.names}
    full = search.TrainingSet(
        FULL, whole(raw.x_train, "a search"), raw.y_train, 0.01, settings.full_epochs
    )
    steps = {FULL: full.total_steps(settings.eval_batch)}
    for name in proxies.names:
        if name == EARLY:
            assert proxies.ipc is not None
            steps[name] = early_stop(job, proxies.ipc, full).total_steps(settings.eval_batch)
        else:
            each = search.steps_of(sizes[name], settings.eval_batch)
            steps[name] = settings.proxy_epochs * each
    found, paces = {}, dict[tuple[int, int], tuple[float, float]]()
    share_of_programs = len({one.program for one in architectures}) / len(architectures)
    compiled = set[int]()
    for name, total in steps.items():
        once = 0.0 if sizes[name] in compiled else share_of_programs
        compiled.add(sizes[name])
        batch = min(settings.eval_batch, sizes[name])
        for place in tried:
            if (place, batch) not in paces:
                paces[place, batch] = _pace(job, architectures[place], raw, batch)
        xs = np.log([work[place] for place in tried])
        ys = np.log([_of(paces[place, batch], once, total) for place in tried])
        by = np.argsort(xs)
        seconds = np.exp(np.interp(np.log(work), xs[by], ys[by]))
        share = 1.0
        if name == FULL:
            share = _full_trainings(job, len(architectures), proxies) / len(architectures)
        found[f"train on {name}"] = float(seconds.sum()) * share * settings.networks
    return found


def _of(pace: tuple[float, float], once: float, steps: int) -> float:
    compiling, step = pace
    return compiling * once + step * steps


def _pace(
    job: SearchJob, architecture: Architecture, raw: Dataset, batch: int
) -> tuple[float, float]:
    """Seconds of a network for compiling, and for a step of SGD.

    As many networks are tried side by side as a search trains at a time, and each counts with its
    share of that time.
    """
    shape, count, epochs = raw.x_train.shape[1:], search.at_a_time(), 4
    images = 0.1 * jax.random.normal(jax.random.key(0), (_TRIED_BATCHES * batch, *shape))
    labels = jnp.arange(len(images), dtype=jnp.int32) % raw.classes
    given = search.TrainingSet("trial", images, labels, 1e-3, epochs)
    manner = manner_of(job, raw)._replace(networks=1, batch_size=batch)

    def try_once(_: search.Fitted | None, __: None) -> search.Fitted | None:
        return search.fit(jax.random.key(0), architecture, given, manner)

    first = try_once(None, None)
    assert first is not None
    found = side_by_side(try_once, [None] * count, [None], at_a_time=count)
    seconds = max(one.seconds for one in found if one is not None)
    return first.compiling / count, seconds / count / (epochs * _TRIED_BATCHES)
