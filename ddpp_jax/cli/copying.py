"""Copies: what lies near the images of small sets."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ddpp_jax import audit, distill
from ddpp_jax.audit.findings import are_copies, copies_values
from ddpp_jax.cli.folders import Place, results_in
from ddpp_jax.cli.sets import require_test_images
from ddpp_jax.cli.transforms import shown_as
from ddpp_jax.configs import DECIDE_IMAGES, CopiesJob, Places, digest
from ddpp_jax.data import (
    Contrast,
    Dataset,
    ImageArray,
    Transform,
    apply,
    as_shown,
    from_shown,
    unit,
    whole,
)
from ddpp_jax.distill.frames import FOLDER, first_of_each, read_frame
from ddpp_jax.errors import InputError
from ddpp_jax.planning import trial
from ddpp_jax.planning.identities import identity_of, plain, say_settings
from ddpp_jax.planning.limits import require_data, require_teaching
from ddpp_jax.planning.problem import (
    Problem,
    describe,
    load,
    prepare,
    result,
    teacher_params,
    train_teachers,
)
from ddpp_jax.planning.sources import data_in_memory, describe_data
from ddpp_jax.progress import Report
from ddpp_jax.report import auditing
from ddpp_jax.results import audits
from ddpp_jax.select import features_of
from ddpp_jax.sets import DistilledSet, load_distilled, own_transform
from ddpp_jax.storage import digest_of, write_json

_FRAME_ROUNDING = 0.02
"""What float16 and a whitening that was undone may change of a frame's pixels."""

_DECIDES = ("dataset", *DECIDE_IMAGES)
"""The settings that decide which training images there are."""

_WORST = 12
"""Pairs that are drawn of a set."""


class Audited(NamedTuple):
    """A set that is audited.

    Attributes:
        path: as it was named.
        small: the set.
        transform: by which networks see it.
        starts: the training images that it started from or holds; None where that is not known.
        said: how that is known, for a person.
    """

    path: Path
    small: DistilledSet
    transform: Transform
    starts: Int[np.ndarray, " images"] | None
    said: str

    @property
    def digest(self) -> str:
        """Digits that change with the pixels and the labels."""
        arrays = (self.small.looks, self.small.labels)
        return digest_of({"arrays": [np.asarray(a).tobytes().hex() for a in arrays]})[:16]


def run_copies(
    job: CopiesJob,
    paths: Sequence[Path],
    places: Places,
    out: Path | None,
    report: Report,
    *,
    dry: bool = False,
) -> None:
    """Find what lies near the images of small sets, in pixels and in features.

    Args:
        job: which real images there are, and the network whose features are compared.
        paths: run folders, or files of sets.
        places: where teachers and whitening are kept.
        out: the folder of the results; None chooses one below `runs`.
        report: told as it goes on.
        dry: only say what would be done.
    """
    if len(set(paths)) < len(paths):
        raise InputError("a set is named twice; name each once")
    raw = data_in_memory(job.data, places, "an audit")
    sets = [_audited(path, job, raw, report) for path in paths]
    job = dataclasses.replace(job, teaching=dataclasses.replace(job.teaching, teachers=1))
    problem = prepare(job, places, raw)
    identity = identity_of(job, raw) | {"sets": {str(one.path): one.digest for one in sets}}
    own = Path("runs") / f"audit-{digest(identity)}"
    folder = out or own
    if job.features:
        describe(job, problem, report)
    else:
        describe_data(raw, report)
    report.say(f"{len(sets)} set{'s' if len(sets) > 1 else ''} to audit for copies; in {folder}")
    for one in sets:
        report.say(f"{one.path}: {len(one.small.images)} images; {one.said}")
        contrast = isinstance(one.transform, Contrast)
        if job.features and contrast and not job.data.contrast:
            report.warn(
                f"{one.path}: its pixels lack the means and lengths that images had, and those of "
                "real images do not, so that features differ; give --zca --contrast"
            )
    place = Place(folder, identity, folder == own)
    place.check_free()
    done = place.is_complete()
    if not done:
        if job.features:
            require_teaching(job, problem, places)
        else:
            require_data(job, raw, places)
    if dry:
        say_settings(job, raw, report)
        if job.features and not done:
            tried = partial(trial.teaching_seconds, job, problem)
            trial.describe(tried, problem.network.num_params, report)
        return
    found = results_in(
        place,
        places.cache_dir,
        report,
        compute_fn=partial(_compute, job, problem, sets, places, folder, report),
        draw_fn=partial(auditing.draw_audit, folder),
    )
    report.show(audits.copies_table(found["copies"]))
    for line in audits.copies_words(found["copies"]):
        report.say(line)
    report.say(f"Every figure, and the worst pairs as pictures, are in {folder}")


def _compute(
    job: CopiesJob,
    problem: Problem,
    sets: Sequence[Audited],
    places: Places,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    raw, dataset, featured = problem.raw, None, None
    if job.features:
        dataset = load(job, problem, places, report)
        train_teachers(job, problem, dataset, report)
        params = teacher_params(problem, 0, job.teaching.last_kept)
        featured = partial(features_of, params, network=problem.network)
    features = None
    if dataset is not None and featured is not None:
        kinds = (featured(dataset.x_train), featured(dataset.x_test))
        features = audit.Real(*kinds, raw.y_train, raw.y_test)
    rows = []
    with report.progress("look for copies", len(sets), unit="set") as tick:
        for number, one in enumerate(sets):
            shown = shown_as(raw, one.transform)
            used, unused = (whole(part, "an audit") for part in (shown.x_train, shown.x_test))
            pixels = audit.Real(used, unused, raw.y_train, raw.y_test)
            near = audit.find_copies(one.small.looks, pixels)
            row: dict[str, Any] = {"set": str(one.path), "starts": one.said}
            row["method"] = str(one.small.origin.get("method", one.path.name))
            row["pixels"] = copies_values([near])
            if features is not None and dataset is not None and featured is not None:
                assert dataset.transform is not None
                make = from_shown if isinstance(one.transform, Contrast) else apply
                seen = make(dataset.transform, one.small.looks)
                row["features"] = copies_values([audit.find_copies(featured(seen), features)])
            if one.starts is not None:
                row["start"] = _start_values(one, shown, near)
            row["found"] = any(
                are_copies(row[kind]) for kind in ("pixels", "features") if kind in row
            )
            rows.append(row)
            auditing.write_pairs(
                folder, number, pairs_of(one.small.looks, near, shown.x_train, shown.x_test)
            )
            tick(number + 1, {"near copies": float(row["pixels"]["near_copies"])})
    found = result(job, raw, []) | {"copies": rows}
    write_json(folder / "result.json", found)
    return found


def pairs_of(
    pixels: Float[np.ndarray, "images height width channels"],
    near: audit.Copies,
    used: ImageArray,
    unused: ImageArray,
    *,
    most: int = _WORST,
) -> auditing.Pairs:
    """The images that are nearest to a training image for their distance to a test image.

    Args:
        pixels: of the set.
        near: what lies near them.
        used: the real images that may have been used, as the set shows its own.
        unused: those that were not.
        most: pairs.
    """
    worst = np.argsort(near.ratios, kind="stable")[:most]
    return auditing.Pairs(
        distilled=np.asarray(pixels[worst], np.float32),
        used=unit(used[near.used.indices[worst]]),
        unused=unit(unused[near.unused.indices[worst]]),
        ratios=np.asarray(near.ratios[worst], np.float32),
    )


def _start_values(one: Audited, raw: Dataset, near: audit.Copies) -> dict[str, Any]:
    assert one.starts is not None
    far = audit.between(one.small.looks, whole(raw.x_train, "an audit"), one.starts)
    return {
        "mean": float(far.mean()),
        "least": float(far.min()),
        "nearest": int((near.used.distances >= far).sum()),
        "images": len(far),
    }


def _audited(path: Path, job: CopiesJob, raw: Dataset, report: Report) -> Audited:
    small = load_distilled(path)
    if small.images.shape[1:] != raw.x_train.shape[1:]:
        raise InputError(
            f"{path} holds images of {small.images.shape[1:]}, but {raw.name} has "
            f"{raw.x_train.shape[1:]}; give the --setting or the --dataset that it was made from"
        )
    require_test_images(path, small.origin, raw)
    transform = own_transform(path, small)
    starts, said = _starts(path, small, job, raw)
    if starts is None:
        return Audited(path, small, transform, None, said)
    if not np.array_equal(raw.y_train[starts], small.hard_labels) and small.labels.ndim == 1:
        report.warn(f"{path}: the images that its seed draws here are of other classes")
        return Audited(path, small, transform, None, "what it started from is not known")
    folder = path if path.is_dir() else path.parent
    frame = folder / FOLDER / "000000.safetensors"
    if "indices" not in small.origin and frame.exists():
        pixels, _ = read_frame(frame)
        shown = starts[first_of_each(small.hard_labels)]
        real = as_shown(transform, raw.x_train[shown])
        if pixels.shape != real.shape or np.abs(pixels - real).max() > _FRAME_ROUNDING:
            report.warn(f"{path}: the images that its seed draws here are not those in {frame}")
            return Audited(path, small, transform, None, "what it started from is not known")
        said += ", as its frame of step 0 shows"
    return Audited(path, small, transform, starts, said)


def _starts(
    path: Path, small: DistilledSet, job: CopiesJob, raw: Dataset
) -> tuple[Int[np.ndarray, " images"] | None, str]:
    """Which training images a set started from or holds, by its file, and how it says so."""
    origin, ours = small.origin, plain(job, raw)["data"]
    theirs = origin.get("settings", {}).get("data", {})
    if any(theirs.get(name) != ours.get(name) for name in _DECIDES):
        return None, "what it started from is not known, since its data were others"
    if "indices" in origin:
        chosen = np.asarray(origin["indices"], np.int64)
        if len(chosen) != len(small.images) or chosen.min() < 0 or chosen.max() >= len(raw.y_train):
            raise InputError(
                f"{path} names training images that {raw.name} does not have here; give the "
                "--dataset and the --per-class that it was made with"
            )
        return chosen, "real images, by its file"
    settings = origin.get("settings", {}).get("distillation")
    if settings is None or "seed" not in origin:
        return None, "what it started from is not known"
    if settings.get("start") == "noise":
        return None, "it started from noise"
    if settings.get("start_images", "any") != "any":
        return None, "it started from images that its teachers classified correctly"
    ipc = int(settings["ipc"])
    if ipc * raw.classes != len(small.images):
        return None, "what it started from is not known"
    starts = distill.start_indices(raw, ipc=ipc, seed=int(origin["seed"]))
    return starts, f"it started from real images, drawn anew by its seed {origin['seed']}"
