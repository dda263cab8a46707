"""`python -m ddpp_jax.teachers`: the first stage alone."""

from functools import partial
from typing import Any

import numpy as np

from ddpp_jax import tables
from ddpp_jax.commands import trial
from ddpp_jax.commands.limits import require_teaching
from ddpp_jax.commands.problem import Problem, describe, load, prepare, result, show, train_teachers
from ddpp_jax.commands.programs import keep_programs
from ddpp_jax.commands.sizes import describe_teaching
from ddpp_jax.configs import Places, TeachersJob
from ddpp_jax.report import Report


def run_teachers(job: TeachersJob, places: Places, report: Report, *, dry: bool) -> None:
    """Train the teachers that are missing, and show how good all of them are."""
    problem = prepare(job, places)
    describe(job, problem, report)
    require_teaching(job, problem, places)
    if dry:
        describe_teaching(job, problem, report)
        tried = partial(trial.teaching_seconds, job, problem)
        trial.describe(tried, problem.network.num_params, report)
        return
    keep_programs(places.cache_dir)
    train_teachers(job, problem, load(job, problem, places, report), report)
    show(result(job, problem.raw, [teacher_row(job, problem)]), report)
    report.say(f"Their trajectories are in {problem.store.folder}")


def teacher_row(job: TeachersJob, problem: Problem) -> dict[str, Any]:
    """The teachers as a row of the results: what training on all real images gives."""
    count = job.teaching.teachers
    found = np.asarray([problem.store.known(index)["accuracy"] for index in range(count)])
    return tables.row("full data (the teachers)", len(problem.raw.y_train), [found])
