"""What a distilled set gives away about the real images that it was made from."""

from ddpp_jax.audit.attacks import Gaussians, lira_scores, loss_scores
from ddpp_jax.audit.copies import Chance, Copies, Real, chance_of, find_copies
from ddpp_jax.audit.exposure import Exposure, confidences_of, expose
from ddpp_jax.audit.neighbours import Nearest, between, nearest
from ddpp_jax.audit.power import Mean, Power, Rate, area, power_of, roc, share_found
from ddpp_jax.audit.splits import audited_images, others_of, split_members
from ddpp_jax.audit.worst import LEAST_SHADOWS, Vulnerable, most_vulnerable

__all__ = [
    "LEAST_SHADOWS",
    "Chance",
    "Copies",
    "Exposure",
    "Gaussians",
    "Mean",
    "Nearest",
    "Power",
    "Rate",
    "Real",
    "Vulnerable",
    "area",
    "audited_images",
    "between",
    "chance_of",
    "confidences_of",
    "expose",
    "find_copies",
    "lira_scores",
    "loss_scores",
    "most_vulnerable",
    "nearest",
    "others_of",
    "power_of",
    "roc",
    "share_found",
    "split_members",
]
