"""Whether the images of a small set lie nearer to the images it was made from than chance has it.

A real image that was not used, such as one of the test set, is what a distilled image is compared
with: both kinds come from the same source, and a set that copies nothing knows no difference
between them. Distances of distilled images to real ones are among what Dong, Zhao and Lyu (ICML
2022, "Privacy for Free") show; Carlini, Feldman and Nasr (2022, "No Free Lunch in 'Privacy for
Free'") say how little a picture without such a comparison tells.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from ddpp_jax.audit.neighbours import Nearest, nearest

MOST_ORDINARY = 2000
"""Of so many unused images at the most, it is found how near they lie to the used ones."""


class Real(NamedTuple):
    """Real images of both kinds, as pixels or as features.

    Attributes:
        used: those that a set was made from.
        unused: others of the same source.
        used_labels: a class for each.
        unused_labels: likewise.
    """

    used: Shaped[np.ndarray, "used ..."]
    unused: Shaped[np.ndarray, "unused ..."]
    used_labels: Int[np.ndarray, " used"]
    unused_labels: Int[np.ndarray, " unused"]


class Chance(NamedTuple):
    """How many images have a used image as their nearest, and how many would by chance.

    Attributes:
        nearer: how many have.
        images: how many there are.
        distribution: the chance of each count from 0 on, where nothing is copied.
    """

    nearer: int
    images: int
    distribution: Float[np.ndarray, " counts"]

    @property
    def expected(self) -> float:
        """The mean count by chance."""
        return float(self.distribution @ np.arange(len(self.distribution)))

    @property
    def p_value(self) -> float:
        """The chance of this count or a larger one, where nothing is copied."""
        return float(min(1.0, self.distribution[self.nearer :].sum()))

    def beside(self, other: "Chance") -> "Chance":
        """Both together, as if the one told nothing of the other."""
        found = np.convolve(self.distribution, other.distribution)
        return Chance(self.nearer + other.nearer, self.images + other.images, found)


class Copies(NamedTuple):
    """What lies near the images of a set.

    Attributes:
        used: the nearest used image of each.
        unused: the nearest unused image.
        ratios: the first distance over the second; 0 of a copy, 1 where both are 0.
        chance: how often the nearest of all is a used one.
        ordinary: the same ratios of unused images, each of which leaves itself out.
    """

    used: Nearest
    unused: Nearest
    ratios: Float[np.ndarray, " images"]
    chance: Chance
    ordinary: Float[np.ndarray, " ordinary"]

    @property
    def near(self) -> Bool[np.ndarray, " images"]:
        """Near copies: those with a ratio below that of every unused image."""
        return self.ratios < self.ordinary.min()

    @property
    def near_expected(self) -> float:
        """How many of them chance would make, if distilled and unused images were alike."""
        return len(self.ratios) / (len(self.ordinary) + 1)

    @property
    def near_p_value(self) -> float:
        """The chance of so many near copies, if distilled and unused images were alike."""
        return tail(int(self.near.sum()), len(self.ratios), len(self.ordinary))


def find_copies(images: Shaped[np.ndarray, "images ..."], real: Real) -> Copies:
    """What lies near the images of a set.

    Args:
        images: of the set, in the units of the real ones.
        real: images that were used and others.
    """
    used, unused = nearest(images, real.used), nearest(images, real.unused)
    count = len(real.unused)
    some = np.unique(np.linspace(0, count - 1, min(count, MOST_ORDINARY)).round().astype(np.int64))
    theirs = nearest(real.unused[some], real.used)
    others = nearest(real.unused[some], real.unused, own=some)
    # Of two at one distance the unused one counts, so that images that come twice prove nothing.
    nearer = used.distances < unused.distances
    places = np.where(nearer, used.indices, len(real.used) + unused.indices)
    kinds = np.arange(len(real.used) + count) < len(real.used)
    strata = np.concatenate([real.used_labels, real.unused_labels])
    return Copies(
        used=used,
        unused=unused,
        ratios=_ratios(used.distances, unused.distances),
        chance=chance_of(places, kinds, strata),
        ordinary=_ratios(theirs.distances, others.distances),
    )


def chance_of(
    places: Int[np.ndarray, " images"],
    used: Bool[np.ndarray, " real"],
    strata: Int[np.ndarray, " real"],
) -> Chance:
    """How many images have a used one as their nearest, and the exact distribution by chance.

    Where nothing is copied, which of the real images of a class were used is a draw without
    replacement that the distilled images know nothing of. So the count is a sum over the real
    images that are nearest to some, each as often as it is, of whether it was drawn. With a single
    nearest image in each class it is used with the chance used/(used + unused); with several the
    draws are followed one after another, so nothing is approximated.

    Args:
        places: the nearest real image of each image.
        used: which of the real images were used.
        strata: the class of each real image.
    """
    distribution = np.ones(1)
    for label in np.unique(strata[places]):
        own = strata == label
        _, repeats = np.unique(places[own[places]], return_counts=True)
        found = _drawn(repeats, int(own.sum()), int((own & used).sum()))
        distribution = np.convolve(distribution, found)
    return Chance(int(used[places].sum()), len(places), distribution)


def tail(count: int, images: int, others: int) -> float:
    """The chance that the `count` lowest of some exchangeable numbers all belong to the images.

    Args:
        count: how many.
        images: how many of the numbers are theirs.
        others: how many are not.
    """
    ranks = np.arange(count)
    return float(np.prod((images - ranks) / (images + others - ranks)))


def _drawn(
    repeats: Int[np.ndarray, " distinct"], total: int, used: int
) -> Float[np.ndarray, " counts"]:
    """The distribution of the sum of the repeats of those that are drawn, `used` of `total`."""
    chances = np.zeros((len(repeats) + 1, int(repeats.sum()) + 1))
    chances[0, 0] = 1.0
    drawn = np.arange(len(repeats) + 1)
    for before, times in enumerate(repeats):
        is_drawn = np.clip((used - drawn) / (total - before), 0, 1)[:, None]
        after = chances * (1 - is_drawn)
        after[1:, times:] += (chances * is_drawn)[:-1, :-times]
        chances = after
    return chances.sum(axis=0)


def _ratios(
    first: Float[np.ndarray, " images"], second: Float[np.ndarray, " images"]
) -> Float[np.ndarray, " images"]:
    equal = np.where(first == 0, 1.0, np.inf)
    return np.divide(first, second, out=equal, where=second > 0)
