"""Which images to train and to test on, and real images drawn at random."""

from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jaxtyping import Int, Int32, Integer, Shaped

from ddpp_jax._types import PRNGKey
from ddpp_jax.data.dataset import Dataset, at_indices
from ddpp_jax.errors import InputError

TEST, _SUBSET, HELD_OUT = 0, 1, 2  # What is drawn, each from a stream of its own.


def stratified_split(
    labels: Integer[np.ndarray, " images"],
    share: float,
    seed: int,
    *,
    class_names: tuple[str, ...],
    purpose: int = TEST,
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Ascending indices to train on and to test on, with nearly the same share of each class.

    The share is rounded to whole images; at least one image of each class stays on either side. The
    purposes `TEST` and `HELD_OUT` draw independently.

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

    Raises:
        InputError: a class has fewer.
    """
    _require(labels, count, class_names, "--per-class")
    chosen = [
        _draw(np.flatnonzero(labels == label), count, (seed, _SUBSET, label))
        for label in range(len(class_names))
    ]
    return np.sort(np.concatenate(chosen))


def random_per_class(
    key: PRNGKey, dataset: Dataset, ipc: int
) -> tuple[Shaped[np.ndarray, "images height width channels"], Int32[np.ndarray, " images"]]:
    """Training images, `ipc` of each class in the order of the classes, and their labels.

    Raises:
        InputError: a class has fewer images than that.
    """
    require_per_class(dataset, ipc)
    indices = random_indices(key, dataset.y_train, ipc, classes=dataset.classes)
    return dataset.x_train[indices], dataset.y_train[indices]


def balanced(dataset: Dataset) -> Dataset:
    """The dataset with every class as often as the largest, among training and held-out images."""
    held = dataset.y_held
    return at_indices(
        dataset,
        balanced_indices(dataset.y_train),
        balanced_indices(held) if len(held) else np.arange(0),
    )


def seen_by_teachers(dataset: Dataset, *, balance: bool) -> int:
    """How many training images teachers see in an epoch."""
    counts = np.bincount(dataset.y_train)
    return int(len(counts) * counts.max()) if balance else len(dataset.y_train)


def balanced_indices(labels: Integer[np.ndarray, " images"]) -> Int[np.ndarray, " _shown"]:
    """Ascending indices with as many of each class as the largest has: rarer images come again."""
    counts = np.bincount(labels)
    members = (np.flatnonzero(labels == label) for label in np.flatnonzero(counts))
    return np.sort(np.concatenate([np.resize(own, counts.max()) for own in members]))


def random_indices(
    key: PRNGKey, labels: Int32[np.ndarray, " images"], ipc: int, *, classes: int
) -> Int[np.ndarray, " chosen"]:
    """Indices of `ipc` images of each class, in the order of the classes, without replacement.

    No class may have fewer.
    """
    return np.concatenate([own[:ipc] for own in shuffled_by_class(key, labels, range(classes))])


def shuffled_by_class(
    key: PRNGKey, labels: Integer[np.ndarray, " images"], classes: Iterable[int] | None = None
) -> Iterator[Int[np.ndarray, " _members"]]:
    """The indices of each class's images in an order drawn at random.

    Args:
        key: of the draws; each class folds its number in.
        labels: of all images.
        classes: in their order; None for all that have images, ascending.
    """
    for label in np.unique(labels).tolist() if classes is None else classes:
        own = np.flatnonzero(labels == label)
        order = jax.random.permutation(jax.random.fold_in(key, label), len(own))
        yield own[np.asarray(order)]


def require_per_class(dataset: Dataset, ipc: int) -> None:
    """Refuse more training images per class than there are.

    Raises:
        InputError: a class has fewer images than `ipc`.
    """
    _require(dataset.y_train, ipc, dataset.class_names, "--ipc")


def _require(
    labels: Integer[np.ndarray, " images"], wanted: int, class_names: tuple[str, ...], flag: str
) -> None:
    for label, name in enumerate(class_names):
        count = int((labels == label).sum())
        if count < wanted:
            raise InputError(
                f"class {name} has {count} training images, fewer than {flag} {wanted}; lower it"
            )


def _draw(
    members: Int[np.ndarray, " members"], count: int, entropy: tuple[int, ...]
) -> Int[np.ndarray, " chosen"]:
    # A stream of its own for each purpose and class: no class changes another one's draw.
    return np.random.default_rng(entropy).permutation(members)[:count]
