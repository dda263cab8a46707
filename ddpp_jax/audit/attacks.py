"""Attacks by membership inference: a score for each image, higher where it looks like a member.

Yeom, Giacomelli, Fredrikson and Jha (CSF 2018): a member has a low loss. Carlini, Chien, Nasr,
Song, Terzis and Tramer (S&P 2022), "Membership Inference Attacks From First Principles": the
likelihood ratio attack (LiRA), which asks for each image by itself how sure networks are of it that
were trained with it, and without it.
"""

import numpy as np
from jaxtyping import Bool, Float

from ddpp_jax.audit.splits import others_of

Confidences = Float[np.ndarray, "shadows images"]
"""By shadow: log p / (1 - p) of each image's true class, the mean over the shadow's networks."""

Members = Bool[np.ndarray, "shadows images"]

_LEAST_VARIANCE = 1e-12


class Gaussians:
    """The confidences of each image as two normal distributions: as a member and as none."""

    def __init__(
        self, confidences: Confidences, members: Members, *, one_variance: bool = False
    ) -> None:
        """Fit them.

        Args:
            confidences: by shadow.
            members: of each shadow.
            one_variance: all images share the two variances, pooled within the images. Carlini et
                al. find that better where shadows are few (below 64).
        """
        sides = (_moments(confidences, members), _moments(confidences, ~members))
        (self.mean_in, squares_in, self.count_in), (self.mean_out, squares_out, self.count_out) = (
            sides
        )
        self.variance_in = _variance(squares_in, self.count_in, pooled=one_variance)
        self.variance_out = _variance(squares_out, self.count_out, pooled=one_variance)
        least = 1 if one_variance else 2
        self.known = (self.count_in >= least) & (self.count_out >= least)

    def ratios(self, confidences: Float[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
        """The log of the likelihood as a member over that as none; 0 where nothing could be fitted.

        Args:
            confidences: of another shadow.
        """
        found = _log_normal(confidences, self.mean_in, self.variance_in)
        found -= _log_normal(confidences, self.mean_out, self.variance_out)
        return np.where(self.known, found, 0.0)

    @property
    def gaps(self) -> Float[np.ndarray, " images"]:
        """How far apart the two means are, in deviations; 0 where nothing could be fitted."""
        deviations = np.sqrt((self.variance_in + self.variance_out) / 2)
        return np.where(self.known, (self.mean_in - self.mean_out) / deviations, 0.0)


def loss_scores(
    confidences: Float[np.ndarray, "shadows networks images"],
) -> Float[np.ndarray, "shadows images"]:
    """Less the cross-entropy of each image, in nats, the mean over the networks of a shadow.

    It follows from the confidence: with c = log p / (1 - p), -log p is log(1 + exp(-c)).

    Args:
        confidences: of each network.
    """
    return -np.logaddexp(0.0, -confidences.astype(np.float64)).mean(axis=1)


def lira_scores(
    confidences: Confidences, members: Members, *, one_variance: bool = False
) -> Float[np.ndarray, "shadows images"]:
    """The online likelihood ratio attack, each shadow in turn the target.

    The two distributions of each image are fitted to the other shadows (`others_of`).

    Args:
        confidences: by shadow.
        members: of each shadow.
        one_variance: as for `Gaussians`.
    """
    found = np.zeros(confidences.shape)
    for target in range(len(members)):
        others = others_of(members, target)
        fitted = Gaussians(confidences[others], members[others], one_variance=one_variance)
        found[target] = fitted.ratios(confidences[target])
    return found


def _moments(
    confidences: Confidences, chosen: Members
) -> tuple[
    Float[np.ndarray, " images"], Float[np.ndarray, " images"], Float[np.ndarray, " images"]
]:
    """The mean of each image over some shadows, the squares about it, and how many these are."""
    values = confidences.astype(np.float64)
    counts = chosen.sum(axis=0).astype(np.float64)
    means = np.where(chosen, values, 0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(chosen, np.square(values - means[None]), 0).sum(axis=0)
    return means, squares, counts


def _variance(
    squares: Float[np.ndarray, " images"], counts: Float[np.ndarray, " images"], *, pooled: bool
) -> Float[np.ndarray, " images"]:
    """Sample variances, each image's own or one for all."""
    freedom = np.maximum(counts - 1, 0)
    if pooled:
        squares, freedom = (
            np.full_like(squares, squares.sum()),
            np.full_like(freedom, freedom.sum()),
        )
    return np.maximum(squares / np.maximum(freedom, 1), _LEAST_VARIANCE)


def _log_normal(
    values: Float[np.ndarray, " images"],
    means: Float[np.ndarray, " images"],
    variances: Float[np.ndarray, " images"],
) -> Float[np.ndarray, " images"]:
    """The log density of a normal distribution, less what is the same for all."""
    return -np.square(values - means) / (2 * variances) - np.log(variances) / 2
