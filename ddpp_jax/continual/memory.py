"""What is kept of the classes that have arrived: the small sets of all steps, joined."""

from collections.abc import Sequence

import numpy as np

from ddpp_jax.continual.arrival import Task
from ddpp_jax.errors import InputError
from ddpp_jax.sets import DistilledSet


def labelled_as_whole(
    small: DistilledSet, task: Task, class_names: tuple[str, ...]
) -> DistilledSet:
    """What a method made of a step's classes, with the labels that they have in the whole data.

    Args:
        small: its labels are 0, 1, ... in the order of the step's classes, or rows with the
            probability of each of them.
        task: the step.
        class_names: of the whole data.

    Raises:
        InputError: a label is beyond the step's classes, or none is there.
    """
    labels, own = np.asarray(small.labels), np.asarray(task.classes, np.int32)
    what = f"step {task.number + 1} of order {task.order}"
    if len(labels) == 0 or len(labels) != len(small.images):
        raise InputError(
            f"{what}: {len(small.images)} images have {len(labels)} labels; wanted one for each"
        )
    if labels.ndim == 2:
        if labels.shape[1] != len(own):
            raise InputError(
                f"{what}: labels are of {labels.shape[1]} classes; wanted {len(own)}, those that "
                "arrive"
            )
        whole = np.zeros((len(labels), len(class_names)), np.float32)
        whole[:, own] = labels
    else:
        if labels.min() < 0 or labels.max() >= len(own):
            raise InputError(
                f"{what}: labels are {labels.min()} to {labels.max()}; wanted 0 to {len(own) - 1}"
            )
        whole = own[labels]
    return small._replace(labels=whole, class_names=class_names)


def joined(sets: Sequence[DistilledSet]) -> DistilledSet:
    """The memory after some steps: all that each of them left.

    Its rate is the mean of theirs, each counting as often as it has images. Where the labels of one
    are probabilities, those of all are.

    Args:
        sets: one or more, labelled as in the whole data and normalised alike.
    """
    labels = [np.asarray(small.labels) for small in sets]
    if any(own.ndim == 2 for own in labels):
        classes = len(sets[0].class_names)
        labels = [np.eye(classes, dtype=np.float32)[o] if o.ndim == 1 else o for o in labels]
    counts = [len(own) for own in labels]
    looks = [small.pixels for small in sets]
    return DistilledSet(
        images=np.concatenate([np.asarray(small.images) for small in sets]),
        labels=np.concatenate(labels),
        alpha=float(np.average([float(small.alpha) for small in sets], weights=counts)),
        class_names=sets[0].class_names,
        transform=sets[0].transform,
        pixels=None
        if any(own is None for own in looks)
        else np.concatenate([np.asarray(own) for own in looks]),
    )


def taken(small: DistilledSet, task: Task) -> DistilledSet:
    """The images of a set of all classes that are of a step's, labelled 0, 1, ... in its order.

    Where labels are probabilities, an image is of its likeliest class, and its probabilities of the
    step's classes are scaled to a sum of 1.

    Args:
        small: labelled as the whole data are.
        task: the step.

    Raises:
        InputError: the set has no image of one of the classes.
    """
    hard, own = small.hard_labels, list(task.classes)
    missing = [label for label in own if label not in hard]
    if missing:
        names = ", ".join(small.class_names[label] for label in missing)
        raise InputError(f"the set has no image of {names}, which arrive in step {task.number + 1}")
    there = np.isin(hard, own)
    if np.asarray(small.labels).ndim == 2:
        rows = np.asarray(small.labels, np.float32)[there][:, own]
        labels = rows / rows.sum(axis=1, keepdims=True)
    else:
        places = np.full(max(own) + 1, -1, np.int32)
        places[own] = np.arange(len(own))
        labels = places[hard[there]]
    return small._replace(
        images=small.images[there],
        labels=labels,
        class_names=tuple(small.class_names[label] for label in own),
        pixels=None if small.pixels is None else small.pixels[there],
    )
