"""By which transform a small set is evaluated: its own, or the one that the settings name."""

from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from ddpp_jax.configs import EvaluateJob
from ddpp_jax.data import (
    Dataset,
    GivenSet,
    Transform,
    Zca,
    ZcaProbe,
    agrees,
    apply,
    fit_transform,
    transform_words,
)
from ddpp_jax.errors import InputError
from ddpp_jax.sets import DistilledSet


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


def require_no_contradiction(
    job: EvaluateJob, path: Path, found: GivenSet | DistilledSet, explicit: Set[str]
) -> None:
    """Refuse flags that say something else of a set's images than its file does.

    Args:
        job: with the flags.
        path: of the set.
        found: what its file says.
        explicit: which of `zca` and `normalised` were given as flags.

    Raises:
        InputError: they contradict each other.
    """
    whitened, normalised = _said(found)
    if whitened is not None and "zca" in explicit and job.data.zca != whitened:
        flag, other = ("--zca", "--no-zca") if job.data.zca else ("--no-zca", "--zca")
        theirs = "ZCA whitening" if whitened else "normalisation per channel"
        raise InputError(
            f"{path} was made with {theirs}, and {flag} says otherwise; leave it out, or give "
            f"{other}"
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
        fitted = fit_transform(raw, zca=True, cache_dir=cache_dir)
        assert isinstance(fitted, Zca)
        if not own.fits(fitted):
            raise InputError(
                f"{path} was made with the ZCA whitening of other training images than those of "
                f"{raw.name} here; give the --setting, --dataset, --per-class, --held-out and "
                "--split-seed that it was made with, or evaluate its .npz or .safetensors"
            )
        said = f"{path} says that it was made with the ZCA whitening of {raw.name}"
    else:
        fitted = own
        said = f"{path} brings its own {transform_words(own)}"
    images = found.images if found.normalised else apply(fitted, found.images)
    note = f" ({found.note})" if found.note else ""
    return Seen(images, fitted, f"{said}, which test images are seen by{note}")


def _by_settings(
    job: EvaluateJob, path: Path, found: GivenSet, raw: Dataset, cache_dir: Path | None
) -> Seen:
    transform = fit_transform(raw, zca=job.data.zca, cache_dir=cache_dir)
    words = f"{transform_words(transform)} fitted to {raw.name}"
    if found.pixels is not None and not agrees(transform, found.pixels, found.images):
        other = "--no-zca" if job.data.zca else "--zca"
        raise InputError(
            f"{path} holds images that are not its pixels under the {words}, and no transform; "
            f"give {other} or the --dataset that they are of, or add the transform to the file"
        )
    says = f"{path} does not say how its images are to be seen"
    if found.normalised:
        said = f"{says}; taken as normalised already, by the {words}"
        return Seen(found.images, transform, said)
    said = f"{says}; taken as pixels, and seen by the {words}"
    return Seen(apply(transform, found.images), transform, said)


def _said(found: GivenSet | DistilledSet) -> tuple[bool | None, bool | None]:
    """Whether a file says that its images are whitened, and whether they are normalised already."""
    if isinstance(found, DistilledSet):
        return "zca_matrix" in found.transform, True
    if found.transform is None:
        return None, True if found.normalised or found.pixels is not None else None
    return isinstance(found.transform, Zca | ZcaProbe), found.normalised
