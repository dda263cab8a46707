"""Real images chosen per class: the baselines that a distilled set is measured against."""

from ddpp_jax.select.choice import (
    features_of,
    forgetting,
    forgetting_events,
    herding,
    k_centre,
    real_set,
)

__all__ = ["features_of", "forgetting", "forgetting_events", "herding", "k_centre", "real_set"]
