"""`python -m ddpp_jax.search`: architectures, ranked by small sets in place of the data."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax import search
from ddpp_jax.cli.flags import run_with_setting
from ddpp_jax.cli.folders import Place, results_in
from ddpp_jax.cli.proxies import (
    EARLY,
    Proxies,
    early_stop,
    full_data,
    manner_of,
    read_proxies,
    tests_of,
    training_sets,
)
from ddpp_jax.cli.shown import Shown
from ddpp_jax.configs import DistillJob, EvaluateConfig, SearchJob, digest
from ddpp_jax.data import (
    Dataset,
    fit_transform,
    load_raw,
    normalised,
    require_transform,
    whole,
)
from ddpp_jax.errors import InputError
from ddpp_jax.planning import trial
from ddpp_jax.planning.identities import identity_of, say_settings
from ddpp_jax.planning.limits import require_evaluation
from ddpp_jax.planning.problem import finished, result
from ddpp_jax.planning.sources import describe_data
from ddpp_jax.progress import Report
from ddpp_jax.report import pictures
from ddpp_jax.results import FULL
from ddpp_jax.results.searches import closing_words, proxies_table
from ddpp_jax.search import Architecture
from ddpp_jax.storage import gib, write_json
from ddpp_jax.training import side_by_side

TABLE, PICTURE = "networks.csv", "proxies.png"
_BYTES_OF_A_TRAINING, _BYTES_OF_PICTURES = 1000, 2**20
_TRIED_BATCHES = 2


def run_search(
    job: SearchJob,
    asked: Sequence[str],
    out: Path | None,
    cache_dir: Path,
    report: Report,
    *,
    dry: bool = False,
) -> None:
    """Train a grid of networks on proxies and on the full data, and compare how they are ranked.

    Args:
        job: the grid, and how its networks are trained.
        asked: the proxies: paths of sets, or names of those made here.
        out: the folder of the results; None chooses one below `runs`.
        cache_dir: where a ZCA whitening of the data is kept.
        report: told as it goes on.
        dry: only say what would be done.

    Raises:
        InputError: it cannot be done, or its folder is another's.
    """
    whole = search.grid(job.search)
    raw = load_raw(job.data)
    architectures = search.fitting(whole, raw.x_train.shape[1])
    proxies = read_proxies(job, asked, raw, None if dry else cache_dir, report)
    identity = identity_of(job, raw) | {
        "proxies": {n: [small.digest, small.rate] for n, small in proxies.given.items()}
        | {n: proxies.ipc for n in proxies.names if n not in proxies.given},
        "members": {name: {} for name in proxies.selected},
    }
    own = Path("runs") / f"{raw.name}-search-{digest(identity)}"
    folder = out or own
    describe_data(raw, report)
    report.say(_words(job, architectures, proxies, folder))
    if len(architectures) < len(whole):
        report.say(
            f"{len(whole) - len(architectures)} of the grid's {len(whole)} networks are left out: "
            f"with pooling, images of {raw.x_train.shape[1]} pixels cannot be halved so often"
        )
    place = Place(folder, identity, folder == own)
    place.check_free()
    complete = place.is_complete()
    if not complete:
        data = job.data
        require_transform(raw, zca=data.zca, contrast=data.contrast, cache_dir=cache_dir)
        _require_memory(job, architectures, raw)
    if dry:
        say_settings(job, raw, report)
        if not complete:
            _describe_work(job, architectures, proxies, raw, report)
        return
    found = results_in(
        place,
        cache_dir,
        report,
        compute_fn=partial(_compute, job, architectures, proxies, raw, cache_dir, folder, report),
        draw_fn=partial(_draw, folder),
        finished_fn=_finished,
    )
    report.show(proxies_table(found["search"], found["data"]["training_images"]))
    for line in closing_words(found["search"]):
        report.say(line)
    report.say(f"Every network's figures are in {folder}; open its report.html")


def _compute(
    job: SearchJob,
    architectures: Sequence[Architecture],
    proxies: Proxies,
    raw: Dataset,
    cache_dir: Path,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Train all networks; what `result.json` of the folder then holds."""
    settings, data = job.search, job.data
    transform = fit_transform(raw, zca=data.zca, contrast=data.contrast, cache_dir=cache_dir)
    dataset = normalised(raw, transform)
    sets, about = training_sets(job, proxies, raw, dataset, folder, report)
    # Once on the device, for all networks.
    kept, whole = {}, _on_device(full_data(job, dataset), {})
    kept[id(dataset.x_train)] = whole.images
    sets = [_on_device(given, kept) for given in sets]
    shape = raw.x_train.shape[1:]
    tests = tests_of(raw, dataset, proxies)
    grid = search.Grid(manner_of(job, raw), job.seed, tests.__getitem__)
    trials = search.Trials(folder / search.TRIALS, settings.networks, report.warn)
    train = partial(search.train_all, grid=grid, trials=trials, report=report)
    if settings.full_count is None:
        train(architectures, [*sets, whole], stage="train on proxies and the full data")
    else:
        train(architectures, sets, stage="train on proxies")
    full = search.for_full_training(
        architectures, proxies.names, trials, settings.full_count, seed=job.seed
    )
    if settings.full_count is not None:
        train(full, [whole], stage="train on the full data")
    sizes = {one: search.parameters(one, shape, raw.classes) for one in architectures}
    findings = search.findings(architectures, full, about, trials, sizes, seed=job.seed)
    found = result(job, raw, search.rows(findings, len(raw.y_train))) | {"search": findings}
    found |= {} if proxies.ipc is None else {"ipc": proxies.ipc}
    write_json(folder / "result.json", found)
    return found


def _finished(folder: Path) -> dict[str, Any]:
    """The results of a search that is over."""
    found = finished(folder)
    if "search" not in found:
        raise InputError(f"{folder / 'result.json'} is none of a search; delete it")
    return found


def _on_device(given: search.TrainingSet, kept: Mapping[int, Any]) -> search.TrainingSet:
    """A set whose images are on the device; those that are kept there are not copied again."""
    images = kept.get(id(given.images))
    return given._replace(
        images=jax.device_put(jnp.asarray(given.images)) if images is None else images,
        labels=jnp.asarray(given.labels),
    )


def _draw(folder: Path, found: Mapping[str, Any]) -> None:
    """The table of all networks and the picture, where they are not there yet."""
    if not (folder / TABLE).exists():
        search.write_table(folder / TABLE, found["search"])
    if not (folder / PICTURE).exists():
        title = f"{found['dataset']}: networks after each proxy and after the full data"
        pictures.save_proxies(folder / PICTURE, found["search"], title=title)


def _words(
    job: SearchJob, architectures: Sequence[Architecture], proxies: Proxies, folder: Path
) -> str:
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


def _require_memory(job: SearchJob, architectures: Sequence[Architecture], raw: Dataset) -> None:
    """Refuse networks that memory does not hold, as many as are trained at a time."""
    shape = raw.x_train.shape[1:]
    largest = max(architectures, key=lambda one: search.parameters(one, shape, raw.classes))
    network = search.network_of(largest, shape, raw.classes, precision=job.model.precision)
    require_evaluation(
        EvaluateConfig(networks=job.search.networks * search.at_a_time()),
        network,
        largest.width,
        remedy="give smaller --widths",
    )


def _describe_work(
    job: SearchJob,
    architectures: Sequence[Architecture],
    proxies: Proxies,
    raw: Dataset,
    report: Report,
) -> None:
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


@dataclass(frozen=True, kw_only=True)
class _Search:
    config: SearchJob
    shown: Shown = field(default_factory=Shown)

    proxies: tuple[str, ...] = ()
    """Run folders or files of sets; random and herding (real images); early-stop (few steps)."""

    cache_dir: Path = Path("runs/cache")
    """Folder for a ZCA whitening of plain images."""

    out: Path | None = None
    """The folder of the result, never one of another; by default runs/DATASET-search-DIGEST."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Search among architectures: `python -m ddpp_jax.search [SETTING] --proxies SET ...`."""

    def work(command: _Search, report: Report) -> None:
        run_search(
            command.config,
            command.proxies,
            command.out,
            command.cache_dir,
            report,
            dry=command.shown.dry_run,
        )

    def default(job: DistillJob) -> _Search:
        held_out = SearchJob().data.held_out if job.data.held_out is None else job.data.held_out
        data = dataclasses.replace(job.data, held_out=held_out)
        return _Search(config=SearchJob(data=data, model=job.model, real_rate=job.real_rate))

    about = "Rank the networks of a grid by small sets, and by the full data."
    run_with_setting("search", about, arguments, default, work)
