"""What evaluations of given sets take: their operations, and their time by a trial."""

from collections.abc import Mapping, Sequence
from functools import partial

from ddpp_jax.cli.sets import SmallSet
from ddpp_jax.cli.shown import DryRun
from ddpp_jax.configs import EvaluateJob
from ddpp_jax.data import Dataset
from ddpp_jax.evaluate import Procedure
from ddpp_jax.networks import Network
from ddpp_jax.planning import machines, trial, work, workload
from ddpp_jax.planning.scaling import Kind, Kinds
from ddpp_jax.progress import Report


def title_of(small: SmallSet, architecture: str) -> str:
    """What the evaluation of a set by an architecture is called."""
    return f"{small.path} by {architecture} at rate {small.rate:.4g}"


def _seconds(
    job: EvaluateJob, raw: Dataset, networks: Mapping[str, Network], sets: Sequence[SmallSet]
) -> dict[str, float]:
    """Seconds of each evaluation, by a trial."""
    return {
        f"evaluate {title_of(small, name)}": trial.evaluation_seconds(
            Procedure(job.evaluation, job.data.operations, raw.classes),
            network,
            small.images.shape,
            test=len(raw.y_test),
        )
        for small in sets
        for name, network in networks.items()
    }


def describe(
    job: EvaluateJob,
    raw: Dataset,
    networks: Mapping[str, Network],
    sets: Sequence[SmallSet],
    dry: DryRun,
    report: Report,
) -> None:
    """Say how long the evaluations would take here, and on some devices."""
    found: dict[str, float] = {}

    def tried() -> dict[str, float]:
        found.update(_seconds(job, raw, networks, sets))
        return found

    most = max(network.num_params for network in networks.values())
    known = trial.describe(tried, most, report)
    if dry.devices is None:
        return
    if not known:
        machines.say_unknown(dry.devices, report)
        return
    shapes = workload.shapes_of(raw)

    def kinds(network: Network, images: int, paces: work.Costs) -> Kinds:
        seconds = paces.evaluation
        kind = workload.evaluation_kind(job.evaluation, network, shapes, images, seconds=seconds)
        return Kinds(Kind(), Kind(), kind)

    each = [(small, net) for small in sets for net in networks.values()]
    of_stages = [
        machines.Tried(
            work.Stage(name, evaluations=1),
            work.Costs(0.0, 0.0, seconds),
            partial(kinds, net, len(small.labels)),
        )
        for (name, seconds), (small, net) in zip(found.items(), each, strict=True)
    ]
    machines.describe(of_stages, dry.devices, report)


def operations(
    job: EvaluateJob, raw: Dataset, networks: Mapping[str, Network], sets: Sequence[SmallSet]
) -> dict[str, float]:
    """Operations of each evaluation, by which the time that is left is told."""
    shape = raw.x_train.shape[1:]
    images = {name: work.forward_operations(net, shape) for name, net in networks.items()}
    test = len(raw.y_test)
    return {
        f"evaluate {title_of(small, name)}": work.evaluation_operations(
            job.evaluation, image, len(small.labels), test
        )
        for small in sets
        for name, image in images.items()
    }
