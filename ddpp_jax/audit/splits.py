"""Which images each shadow is made from."""

import jax
import numpy as np
from jaxtyping import Bool, Int

from ddpp_jax._types import PRNGKey
from ddpp_jax.data import shuffled_by_class


def audited_images(key: PRNGKey, labels: Int[np.ndarray, " images"]) -> Int[np.ndarray, " audited"]:
    """Ascending indices of the images that are audited: an even number of each class.

    Of a class with an odd number, one image that the key decides on is left out, so that halves are
    equal.

    Args:
        key: of the draw.
        labels: of all images.
    """
    kept = [own[: len(own) // 2 * 2] for own in shuffled_by_class(key, labels)]
    return np.sort(np.concatenate(kept))


def split_members(
    key: PRNGKey, labels: Int[np.ndarray, " images"], shadows: int
) -> Bool[np.ndarray, "shadows images"]:
    """Members of each shadow: half of the images of each class.

    Shadows come in pairs, of which the second has the other half; so each image is a member of half
    of them, as in Carlini et al. (2022, "Membership Inference Attacks From First Principles").

    Args:
        key: of the draws; each pair folds its number in, so that more shadows leave the first as
            they are.
        labels: of the images; an even number of each class.
        shadows: how many; an even number.

    Raises:
        ValueError: a number is odd.
    """
    if shadows % 2 or (np.bincount(labels) % 2).any():
        raise ValueError(
            f"halves of {shadows} shadows and {np.bincount(labels)} images are unequal"
        )
    members = np.zeros((shadows, len(labels)), bool)
    for pair in range(shadows // 2):
        own_key = jax.random.fold_in(key, pair)
        for own in shuffled_by_class(own_key, labels):
            members[2 * pair, own[: len(own) // 2]] = True
        members[2 * pair + 1] = ~members[2 * pair]
    return members


def others_of(
    members: Bool[np.ndarray, "shadows images"], target: int
) -> Bool[np.ndarray, " shadows"]:
    """The shadows to learn from where one is the target: all but itself and its other half.

    With the other half left out too, an image is a member of as many of them whether or not it is
    one of the target, so that their numbers give nothing away.

    Args:
        members: of each shadow.
        target: its number.
    """
    same = members == members[target][None]
    return ~(same.all(axis=1) | (~same).all(axis=1))
