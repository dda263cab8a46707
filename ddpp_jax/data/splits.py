"""Which images to train and to test on."""

import numpy as np
from jaxtyping import Int, Integer

from ddpp_jax.errors import InputError

TEST, _SUBSET, HELD_OUT = 0, 1, 2  # What is drawn, each with a stream of its own.


def stratified_split(
    labels: Integer[np.ndarray, " images"],
    share: float,
    seed: int,
    *,
    class_names: tuple[str, ...],
    purpose: int = TEST,
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Ascending indices to train on and to test on, with nearly the same share of each class.

    Args:
        labels: of all images.
        share: of each class to test on, rounded to whole images; at least one image of each class
            stays on either side.
        seed: decides which.
        class_names: a name for each label.
        purpose: `TEST` or `HELD_OUT`, which draw apart from one another.

    Raises:
        InputError: a class has fewer than two images.
    """
    is_test = np.zeros(len(labels), dtype=bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise InputError(
                f"class {name} has {len(members)} image, too few to split; add images, or "
                + ("give a test set" if purpose == TEST else "leave --held-out out")
            )
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        is_test[_draw(members, count, (seed, purpose, label))] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def per_class_subset(
    labels: Integer[np.ndarray, " images"],
    count: int,
    seed: int,
    *,
    class_names: tuple[str, ...],
) -> Int[np.ndarray, " chosen"]:
    """Ascending indices of `count` images of each class.

    Args:
        labels: of all images.
        count: images per class.
        seed: decides which.
        class_names: a name for each label.

    Raises:
        InputError: a class has fewer.
    """
    chosen = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) < count:
            raise InputError(
                f"class {name} has {len(members)} training images, fewer than "
                f"--per-class {count}; lower it"
            )
        chosen.append(_draw(members, count, (seed, _SUBSET, label)))
    return np.sort(np.concatenate(chosen))


def _draw(
    members: Int[np.ndarray, " members"], count: int, entropy: tuple[int, ...]
) -> Int[np.ndarray, " chosen"]:
    # A stream of its own for each purpose and class: no class changes another one's draw.
    return np.random.default_rng(entropy).permutation(members)[:count]
