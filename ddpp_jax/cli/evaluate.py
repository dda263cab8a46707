"""`python -m ddpp_jax.evaluate`: the last stage alone."""

import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from ddpp_jax import cluster
from ddpp_jax.cli.arguments import flag_names
from ddpp_jax.cli.evaluating import describe, operations, title_of
from ddpp_jax.cli.flags import Hooks, run_with_setting
from ddpp_jax.cli.folders import Place, results_in
from ddpp_jax.cli.sets import SmallSet, read_set, settings_of, warn_of_other_settings
from ddpp_jax.cli.shown import DryRun, Joined, Shown, dry_run
from ddpp_jax.configs import DistillJob, EvaluateJob, Places, Reading, digest, evaluate_job
from ddpp_jax.data import Dataset, keep, same_transform, transformed
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Evaluations, Procedure, Tests
from ddpp_jax.networks import Network
from ddpp_jax.planning.identities import identity_of, say_settings
from ddpp_jax.planning.limits import require_evaluation
from ddpp_jax.planning.problem import evaluation_key, finished, network_for, result, show
from ddpp_jax.planning.sources import data_of
from ddpp_jax.progress import Report
from ddpp_jax.report import pictures, row_names
from ddpp_jax.results import check_evaluation, tables
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import write_json

_MOST_CLASSES, _MOST_COLUMNS = 20, 4  # Of the table by class on the screen.
_SAID = frozenset({"zca", "contrast", "normalised"})
"""Settings that the file of a set may say otherwise."""


def run_evaluate(
    job: EvaluateJob,
    files: Sequence[Path],
    out: Path | None,
    places: Places,
    report: Report,
    *,
    explicit: Set[str] = frozenset(),
    dry: DryRun | None = None,
) -> None:
    """Evaluate small sets with fresh networks, on test images seen as each set sees its own.

    Args:
        job: how they are evaluated, and how images are normalised where their file does not say it.
        files: of the sets.
        out: the folder of the results; None chooses one below `runs`.
        places: where a ZCA whitening of the data is kept, and how images are read.
        report: told as it goes on.
        explicit: which of `zca`, `contrast` and `normalised` the job has from flags, so that a file
            may not say otherwise.
        dry: what is only to be said; None begins.
    """
    if len(set(files)) < len(files):
        raise InputError("a file is named twice; name each once")
    raw = cluster.together(lambda: _data(job, places))
    networks = {name: network_for(job, raw, name) for name in job.names}
    kept = places.cache_dir if dry is None else None
    # Whitenings of two machines need not be the same.
    sets = cluster.agreed(
        lambda: [read_set(job, path, raw, kept, report, explicit=explicit) for path in files]
    )
    warn_of_other_settings(sets, report)
    given = {str(small.path): [small.digest, small.rate] for small in sets}
    identity = identity_of(job, raw) | {"sets": given}
    own = Path("runs") / f"evaluation-{digest(identity)}"
    folder = out or own
    for note in raw.notes:
        report.say(note)
    report.say(
        f"{raw.name}: {len(raw.y_test)} test images; {job.evaluation.networks} networks of each of "
        f"{', '.join(job.names)} at width {job.model.width}, {job.evaluation.eval_epochs + 1} "
        f"epochs, augmentation {job.data.augment}; in {folder}"
    )
    for small in sets:
        if small.said:
            report.say(small.said)
    place = Place(folder, identity, folder == own)
    place.check_free()
    complete = place.is_complete()
    if not complete:
        for network in networks.values():
            require_evaluation(job.evaluation, network, job.model.width)
    if dry is not None:
        say_settings(job, raw, report)
        if not complete:
            describe(job, raw, networks, sets, dry, report)
        return

    def compute() -> dict[str, Any]:
        cluster.agreed(lambda: keep(raw))
        report.expect(operations(job, raw, networks, sets))
        return _compute(job, raw, networks, sets, folder, report)

    found = results_in(
        place,
        places.cache_dir,
        report,
        compute_fn=compute,
        draw_fn=partial(_draw, folder),
        finished_fn=_finished,
    )
    _show(found, report)
    report.say(f"Every network's figure, confusion matrices and pictures are in {folder}")


def _data(job: EvaluateJob, places: Places) -> Dataset:
    try:
        return data_of(job.data, places)
    except InputError as error:
        raise InputError(
            f"{error}; say where the data of the sets are by --dataset or --data-dir"
        ) from error


def _compute(
    job: EvaluateJob,
    raw: Dataset,
    networks: Mapping[str, Network],
    sets: Sequence[SmallSet],
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Evaluate all sets; what `result.json` of the folder then holds."""
    evaluations = Evaluations(Procedure(job.evaluation, job.data.operations, raw.classes), folder)
    rows = _rows(job, evaluations, raw, networks, sets, report)
    found = result(job, raw, rows)
    found |= {"over_seeds": tables.over_seeds(rows), "comparisons": tables.comparisons(rows)}
    write_json(folder / "result.json", found)
    evaluations.close()
    return found


def _finished(folder: Path) -> dict[str, Any]:
    """The results of an evaluation that is over."""
    found = finished(folder)
    check_evaluation(folder / "result.json", found)
    return found


def _draw(folder: Path, found: Mapping[str, Any]) -> None:
    """The pictures that are not there yet."""
    names = row_names(found["rows"])
    for picture, save in (
        ("accuracy.png", pictures.save_accuracies),
        ("confusion.png", pictures.save_confusions),
    ):
        if not (folder / picture).exists():
            save(folder / picture, found, names)


def _rows(
    job: EvaluateJob,
    evaluations: Evaluations,
    raw: Dataset,
    networks: Mapping[str, Network],
    sets: Sequence[SmallSet],
    report: Report,
) -> list[dict[str, Any]]:
    rows, last = [], None
    for small in sets:
        if last is None or not same_transform(last[0], small.transform):
            last = (small.transform, transformed(small.transform, raw.x_test))
        tests: Tests = {"test": (last[1], raw.y_test)}
        seed = small.about.get("seed", 0) if job.seed is None else job.seed
        for name, network in networks.items():
            found = evaluations.evaluate(
                network,
                DistilledSet(small.images, small.labels, small.rate),
                tests,
                report,
                key=evaluation_key(seed),
                name=title_of(small, name),
                architecture=f"{name} {small.digest}",
            )["test"]
            about = {**small.about, "file": str(small.path), "architecture": name}
            method = about.pop("method")
            about["rate"] = small.rate
            rows.append(tables.evaluated_row(method, len(small.labels), [found], **about))
    return rows


def _show(found: dict[str, Any], report: Report) -> None:
    show(found, report)
    if len(found["class_names"]) <= _MOST_CLASSES and len(found["rows"]) <= _MOST_COLUMNS:
        report.show(tables.per_class_table(found))
    if found["over_seeds"]:
        report.show(tables.seeds_table(found["over_seeds"]))
    for comparison in found["comparisons"]:
        report.say(tables.comparison_words(comparison))


@dataclass(frozen=True, kw_only=True)
class _Evaluate:
    config: EvaluateJob
    shown: Shown = field(default_factory=Shown)
    joined: Joined = field(default_factory=Joined)

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, exports, .safetensors, .npz or .pt files, MTT's folders, or folders CLASS/*."""

    setting: str | None = None
    """Named setting that the other flags vary; none takes what the first set was made with."""

    cache_dir: Path = Path("runs/cache")
    """Folder for a ZCA whitening of plain images."""

    images: Reading = "auto"
    """Hold all real images in memory, stream them from disk, or decide by what fits."""

    out: Path | None = None
    """Folder for the results, never one of other results; by default runs/evaluation-DIGEST."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Evaluate small sets: `python -m ddpp_jax.evaluate FILE ...`."""

    def work(command: _Evaluate, report: Report) -> None:
        if not command.files:
            raise InputError("no files given; name a run folder, a file, or a folder of images")
        run_evaluate(
            command.config,
            command.files,
            command.out,
            Places(cache_dir=command.cache_dir, images=command.images),
            report,
            dry=dry_run(command.shown, command.joined),
            explicit=_SAID & flag_names(sys.argv[1:] if arguments is None else arguments),
        )

    def default(job: DistillJob) -> _Evaluate:
        return _Evaluate(
            config=EvaluateJob(data=job.data, model=job.model, evaluation=job.evaluation)
        )

    def own(command: _Evaluate) -> _Evaluate | None:
        """What the settings kept in the first file ask for, where none are named."""
        if command.setting is not None or not command.files:
            return None
        settings = settings_of(command.files[0])
        return None if settings is None else _Evaluate(config=evaluate_job(settings))

    about = "Train fresh networks on small sets and show their accuracy on the real test set."
    hooks = Hooks(better=own, joined_fn=lambda command: command.joined)
    run_with_setting("evaluate", about, arguments, default, work, hooks)
