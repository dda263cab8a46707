"""By which transform a small set is evaluated: its own, or the one that the settings name."""

import dataclasses
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from ddpp_jax.configs import EvaluateJob
from ddpp_jax.data import (
    Contrast,
    Dataset,
    GivenSet,
    PerChannel,
    Transform,
    Zca,
    ZcaProbe,
    agrees,
    apply,
    as_shown,
    fit_transform,
    from_shown,
    transform_from,
    transform_words,
    whole,
)
from ddpp_jax.errors import InputError
from ddpp_jax.sets import DistilledSet

_LOST = "each image is brought to mean 0 and length 1, whatever it had"
_COARSE = "eight bits are coarse for this whitening, an .npz of the set is exact"


class Seen(NamedTuple):
    """A set as networks see it.

    Attributes:
        images: normalised.
        transform: what makes test images of the same kind.
        said: where both come from, for a person; empty for a set of this program.
    """

    images: Float32[np.ndarray, "images height width channels"]
    transform: Transform
    said: str


def shown_as(raw: Dataset, transform: Transform) -> Dataset:
    """Training and test images with the pixels that they would have in a set, to compare them.

    Those are the pixels as they came, but of KIP's whitening, which takes the mean and the length
    of each image away.

    Args:
        raw: images as they came, in memory.
        transform: of the set.
    """
    if not isinstance(transform, Contrast):
        return raw
    parts = {
        name: as_shown(transform, whole(getattr(raw, name), "a comparison of pixels"))
        for name in ("x_train", "x_test")
    }
    return dataclasses.replace(raw, **parts)


def require_no_contradiction(
    job: EvaluateJob, path: Path, found: GivenSet | DistilledSet, explicit: Set[str]
) -> None:
    """Refuse flags that say something else of a set's images than its file does.

    Args:
        job: with the flags.
        path: of the set.
        found: what its file says.
        explicit: which of `zca`, `contrast` and `normalised` were given as flags.

    Raises:
        InputError: they contradict each other.
    """
    transform, normalised = _said(found)
    if transform is not None:
        contrast = _is_contrast(transform)
        whitened = contrast or isinstance(transform, Zca | ZcaProbe)
        for name, holds in (("contrast", contrast), ("zca", whitened)):
            asked = getattr(job.data, name)
            if name in explicit and asked != holds:
                flag, other = f"--{name}", f"--no-{name}"
                flag, other = (flag, other) if asked else (other, flag)
                raise InputError(
                    f"{path} was made with {transform_words(transform)}, and {flag} says "
                    f"otherwise; leave it out, or give {other}"
                )
    if normalised and "normalised" in explicit and not job.normalised:
        raise InputError(
            f"{path} holds images that are normalised already, and --no-normalised says otherwise; "
            "leave it out"
        )


def seen_by_networks(
    job: EvaluateJob, path: Path, found: GivenSet, raw: Dataset, cache_dir: Path | None
) -> Seen:
    """A set of another program, or an export, as networks see it.

    Args:
        job: how images are normalised where the file does not say it.
        path: of the set.
        found: what its file holds; its images are of the data's shape.
        raw: the data that it is evaluated by.
        cache_dir: where a ZCA whitening of the data is kept.

    Raises:
        InputError: its images were made with the whitening of other data, or are not what the
            settings say.
    """
    own = found.transform
    if own is None:
        return _by_settings(job, path, found, raw, cache_dir)
    if isinstance(own, ZcaProbe):
        fitted = fit_transform(raw, zca=True, contrast=own.contrast, cache_dir=cache_dir)
        assert not isinstance(fitted, PerChannel)
        words = transform_words(own)
        if not own.fits(fitted):
            raise InputError(
                f"{path} was made with the {words} of other training images than those of "
                f"{raw.name} here; give the --setting, --dataset, --per-class, --held-out and "
                "--split-seed that it was made with, or evaluate its .npz or .safetensors"
            )
        # Pictures of a set are what `undo` shows.
        images = from_shown(fitted, found.images)
        said = f"{path} says that it was made with the {words} of {raw.name}"
    else:
        fitted = own
        images = found.images if found.normalised else apply(fitted, found.images)
        said = f"{path} brings its own {transform_words(own)}"
    notes = [found.note] if found.note else []
    if not found.normalised and _is_contrast(own):
        notes.append(_COARSE if isinstance(own, ZcaProbe) else _LOST)
    note = f" ({'; '.join(notes)})" if notes else ""
    return Seen(images, fitted, f"{said}, which test images are seen by{note}")


def _by_settings(
    job: EvaluateJob, path: Path, found: GivenSet, raw: Dataset, cache_dir: Path | None
) -> Seen:
    zca, contrast = job.data.zca, job.data.contrast
    transform = fit_transform(raw, zca=zca, contrast=contrast, cache_dir=cache_dir)
    words = f"{transform_words(transform)} fitted to {raw.name}"
    if found.pixels is not None and not agrees(transform, found.pixels, found.images):
        other = "--no-zca" if zca else "--zca"
        other = "--no-contrast" if contrast else other
        raise InputError(
            f"{path} holds images that are not its pixels under the {words}, and no transform; "
            f"give {other} or the --dataset that they are of, or add the transform to the file"
        )
    says = f"{path} does not say how its images are to be seen"
    if found.normalised:
        said = f"{says}; taken as normalised already, by the {words}"
        return Seen(found.images, transform, said)
    said = f"{says}; taken as pixels, and seen by the {words}"
    if contrast:
        said += f" ({_LOST})"
    return Seen(apply(transform, found.images), transform, said)


def _said(found: GivenSet | DistilledSet) -> tuple[Transform | ZcaProbe | None, bool | None]:
    """The transform that a file names, and whether it says that its images are normalised already.

    None of what it does not say.
    """
    if isinstance(found, DistilledSet):
        return transform_from(found.transform), True
    if found.transform is None:
        return None, True if found.normalised or found.pixels is not None else None
    return found.transform, found.normalised


def _is_contrast(transform: Transform | ZcaProbe) -> bool:
    return (
        transform.contrast if isinstance(transform, ZcaProbe) else isinstance(transform, Contrast)
    )
