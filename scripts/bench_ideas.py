"""Ways to a faster or smaller program, each beside the program as it is: prediction and outcome.

Every idea runs in a process of its own and takes turns with the program as it is, so that the ratio
says what it does on this machine:

    scripts/benchmark --ideas
"""

import os
import sys
from dataclasses import dataclass
from functools import partial

import bench_forms

STEP = "step"


@dataclass(frozen=True)
class Idea:
    """What is tried.

    `patch` changes the program before it is built; `flags` are XLA's; the prediction is its time
    relative to the program as it is, by the passes over the network that each takes (as a fraction)
    or by what is known of the machine.
    """

    name: str
    prediction: str
    patch: object = None
    flags: str = ""


def _convolve_by(form):
    from ddpp_jax.networks import layers

    layers.convolve = form


def _slices():
    from ddpp_jax.networks.convolution import by_slices

    _convolve_by(by_slices)


def _native():
    from ddpp_jax.networks.convolution import by_lax

    _convolve_by(by_lax)


def _winograd():
    _convolve_by(bench_forms.winograd)


def _one_part():
    from ddpp_jax.networks import Network

    Network.parts = lambda self, batch_size: 1


def _unroll_by(form):
    from ddpp_jax.distill import objective

    sys.modules[objective.__module__].unroll = form


def _store_all():
    from ddpp_jax import unroll

    _unroll_by(partial(unroll, remat=False))


def _reverse_over_reverse():
    _unroll_by(bench_forms.checkpointed_unroll)


def _segments():
    _unroll_by(bench_forms.segmented_unroll)


IDEAS = [
    Idea(
        "reverse over reverse, each step checkpointed",
        "1.1 (12/11)",
        _reverse_over_reverse,
    ),
    Idea("activations of all steps stored", "0.85 (9/11)", _store_all),
    Idea("square-root checkpointing", "1.25 (14/11), less memory", _segments),
    Idea("minibatches in one part", "1.2 at IPC 10, 1.0 at IPC 1", _one_part),
    Idea("convolution by slices and one product", "1.15", _slices),
    Idea("lax.conv and its own derivatives", "10 or more", _native),
    Idea("Winograd F(2x2, 3x3)", "0.85", _winograd),
    Idea("512-bit vectors in loops", "0.95", flags="--xla_cpu_prefer_vector_width=512"),
    Idea("fast math", "0.98", flags="--xla_cpu_enable_fast_math=true"),
    Idea(
        "products by Eigen, not YNNPACK",
        "1.0",
        flags="--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INVALID",
    ),
    Idea(
        "no scheduling for concurrency",
        "1.05",
        flags="--xla_cpu_enable_concurrency_optimized_scheduler=false",
    ),
]
BY_NAME = {idea.name: idea for idea in IDEAS}


def apply(name):
    """Change the program as an idea wants it."""
    patch = BY_NAME[name].patch
    if patch is not None:
        patch()


def environment(name):
    """The environment of the process that tries an idea."""
    flags = BY_NAME[name].flags if name in BY_NAME else ""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()} if flags else {}


def serves(idea, case):
    """Whether an idea says anything about a case."""
    if idea.patch is _native and (case.kind, case.ipc) != (STEP, 1):
        return False  # It says enough where it takes seconds, not minutes.
    step_only = idea.patch in (_store_all, _reverse_over_reverse, _segments)
    return case.kind == STEP or not step_only
