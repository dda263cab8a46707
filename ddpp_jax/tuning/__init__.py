"""Settings for data that nobody has tuned: derived where that can be, and else found by trying."""

from ddpp_jax.tuning.budget import SHARE, Asked, Budget, Costs, seconds_of
from ddpp_jax.tuning.found import GIVEN, PILOTS, TUNING, Spent, Trial, found_names, read_tuning
from ddpp_jax.tuning.pilots import Pieces, Pilot, Race, race
from ddpp_jax.tuning.sizes import (
    epochs_as_one,
    first_alpha,
    held_out_for,
    settings_for,
    student_batch_for,
)
from ddpp_jax.tuning.teaching import RangeTest, range_test, smoothness

__all__ = [
    "GIVEN",
    "PILOTS",
    "SHARE",
    "TUNING",
    "Asked",
    "Budget",
    "Costs",
    "Pieces",
    "Pilot",
    "Race",
    "RangeTest",
    "Spent",
    "Trial",
    "epochs_as_one",
    "first_alpha",
    "found_names",
    "held_out_for",
    "race",
    "range_test",
    "read_tuning",
    "seconds_of",
    "settings_for",
    "smoothness",
    "student_batch_for",
]
