"""Architecture search by small sets in place of the data, and how well they rank networks."""

from ddpp_jax.search.architectures import (
    Architecture,
    fitting,
    grid,
    network_of,
    operations,
    parameters,
)
from ddpp_jax.search.found import (
    Proxy,
    chosen_by,
    findings,
    for_full_training,
    rows,
    write_table,
)
from ddpp_jax.search.ranking import Correlation, best, correlation, spearman
from ddpp_jax.search.training import (
    Fitted,
    Manner,
    Trained,
    TrainingSet,
    fit,
    steps_of,
    stopped_early,
    train,
)
from ddpp_jax.search.trials import TRIALS, Grid, Trials, at_a_time, train_all

__all__ = [
    "TRIALS",
    "Architecture",
    "Correlation",
    "Fitted",
    "Grid",
    "Manner",
    "Proxy",
    "Trained",
    "TrainingSet",
    "Trials",
    "at_a_time",
    "best",
    "chosen_by",
    "correlation",
    "findings",
    "fit",
    "fitting",
    "for_full_training",
    "grid",
    "network_of",
    "operations",
    "parameters",
    "rows",
    "spearman",
    "steps_of",
    "stopped_early",
    "train",
    "train_all",
    "write_table",
]
