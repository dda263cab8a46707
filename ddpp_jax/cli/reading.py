"""How the distillation steps get at the teachers' parameters."""

from functools import partial

from ddpp_jax.configs import DistillJob
from ddpp_jax.planning.problem import Problem
from ddpp_jax.storage import FeedFn, OnDevice, Streamed, read_all


def feed_of(job: DistillJob, problem: Problem, *, stream: bool) -> FeedFn:
    """A feed from disk, or from an array on the device that holds all that can be drawn."""
    num_params = problem.network.num_params
    if stream:
        return partial(Streamed, problem.store, num_params)
    trajectories = read_all(
        problem.store,
        job.teaching.teachers,
        job.distillation.last_target,
        num_params=num_params,
    )
    return partial(OnDevice, trajectories)
