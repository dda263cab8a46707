"""`python -m ddpp_jax.search`: architectures, ranked by small sets in place of the data."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from ddpp_jax import search
from ddpp_jax.cli.flags import run_with_setting
from ddpp_jax.cli.folders import Place, results_in
from ddpp_jax.cli.proxies import (
    Proxies,
    full_data,
    manner_of,
    read_proxies,
    tests_of,
    training_sets,
)
from ddpp_jax.cli.searching import describe_work, words_of
from ddpp_jax.cli.shown import Shown
from ddpp_jax.configs import DistillJob, EvaluateConfig, SearchJob, digest
from ddpp_jax.data import (
    Dataset,
    fit_transform,
    load_raw,
    normalised,
    require_transform,
)
from ddpp_jax.errors import InputError
from ddpp_jax.planning.identities import identity_of, say_settings
from ddpp_jax.planning.limits import require_evaluation
from ddpp_jax.planning.problem import finished, result
from ddpp_jax.planning.sources import describe_data
from ddpp_jax.progress import Report
from ddpp_jax.report import pictures
from ddpp_jax.results.searches import closing_words, proxies_table
from ddpp_jax.search import Architecture
from ddpp_jax.storage import write_json

TABLE, PICTURE = "networks.csv", "proxies.png"


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
    report.say(words_of(job, architectures, proxies, folder))
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
            describe_work(job, architectures, proxies, raw, report)
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
