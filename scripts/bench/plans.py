"""The cost model of `ddpp_jax.planning` beside what was measured, and for jobs that were never run.

The model's formulas stand in the library, where `--dry-run --devices N` has them too.
"""

import math
from dataclasses import replace

from bench import devices as measured

NONE = 0.0
OF_A_PROCESS = 8
"""GPUs of a machine, which one process has."""


def traffic(kind, size, devices):
    """Bytes over the links of all devices that a collective takes at the least, by its operand."""
    kind, _, group = kind.partition(" of ")
    members = int(group) if group else devices
    others = members - 1
    links = {
        "all-reduce": 2 * others,
        "all-gather": members * others,
        "reduce-scatter": others,
        "all-to-all": others,
        "collective-permute": members,
    }
    return size * links[kind] * devices / members


def kinds_of(case, devices):
    """What the model is told of a measured case, and its work: a stage and the operations."""
    from ddpp_jax.configs import EvaluateConfig, TeachConfig, TrajectoryConfig
    from ddpp_jax.planning import work, workload
    from ddpp_jax.planning.scaling import Kind, Kinds

    network, count = measured.network_of(), case.ipc * measured.CLASSES
    shape = (measured.SIDE, measured.SIDE, measured.CHANNELS)
    shapes = workload.Shapes(measured.IMAGES, measured.TEST, measured.CLASSES, shape)
    image = work.forward_operations(network, shape)
    kinds = dict.fromkeys(Kinds._fields, Kind())
    if case.kind == "teachers":
        config = TeachConfig(
            teachers=case.members, epochs=1, teacher_batch=measured.BATCH, teacher_optimizer="sgd"
        )
        kinds["epoch"] = workload.teaching_kind(config, network, shapes, case.members)
        stage = work.Stage("teachers", epochs=case.members)
        costs = work.Costs(work.epoch_operations(config, image, measured.IMAGES), NONE, NONE)
    elif case.kind == "steps":
        method = measured.method_of(case, image)
        settings = TrajectoryConfig(
            ipc=case.ipc, segments=case.segments, student_steps=measured.STUDENT_STEPS
        )
        kinds["step"] = workload.step_kind(
            settings, network, shapes, method, workload.Trajectories(), members=case.members
        )._replace(calls=1)  # A step was made in a call of its own.
        stage = work.Stage("distil", steps=case.members)
        costs = work.Costs(NONE, method.operations, NONE)
    else:
        config = EvaluateConfig(networks=case.members, eval_epochs=case.epochs - 1)
        kind = workload.evaluation_kind(config, network, shapes, count)
        # An epoch was made in a call of its own. On CPUs a device takes its members in turn, and is
        # sent the test set for each turn.
        calls = case.epochs + kind.calls % 1
        turns = math.ceil(case.members / devices)
        common = shapes.size(count) + turns * shapes.size(measured.TEST)
        kinds["evaluation"] = kind._replace(calls=calls, common=common)
        stage = work.Stage("evaluate", evaluations=1)
        own = work.evaluation_operations(config, image, count, measured.TEST)
        costs = work.Costs(NONE, NONE, own)
    return stage, costs, Kinds(**kinds)


def beside(case, found):
    """What the model says of a measured case, and what was measured.

    Args:
        case: that was measured.
        found: by the numbers of devices, that of one among them.
    """
    from ddpp_jax.planning import scaling

    rows = []
    for devices, one in found.items():
        stage, costs, kinds = kinds_of(case, devices)
        need = scaling.need(stage, costs, kinds, scaling.Layout(devices))
        collectives = sum(traffic(kind, size, devices) for kind, size in one["sent"].items())
        rows.append(
            {
                "case": case.name,
                "devices": devices,
                "members": scaling.most_on_one(case.members, devices),
                "flops": one["flops"],
                "part": one["flops"] / found[1]["flops"],
                "part_by_model": need.busiest / need.total,
                "flops_by_model": need.busiest,
                "handed": sum(one["sent"].values()),
                "collectives": one["sent"],
                "sent": one["placed"] + one["once"] + collectives,
                "sent_by_model": need.sent,
                "held": one["held"],
                "peak_mib": one["peak_mib"],
            }
        )
    return rows


def jobs():
    """Jobs that are planned, by their names: the settings, and the sizes of the data."""
    from ddpp_jax.configs import setting
    from ddpp_jax.planning.workload import Shapes

    def imagenet(ipc):
        # Nobody has published settings for it; all but the size is CIFAR-100's.
        job = setting(f"cifar100-ipc{ipc}")
        return replace(
            job,
            data=replace(job.data, dataset="imagenet", zca=False),
            model=replace(job.model, depth=4),
            distillation=replace(job.distillation, student_batch=500),
        )

    large = Shapes(1_281_167, 50_000, 1_000, (64, 64, 3))
    return {
        "CIFAR-10, IPC 50": (setting("cifar10-ipc50"), Shapes(50_000, 10_000, 10, (32, 32, 3))),
        "CIFAR-100, IPC 50": (setting("cifar100-ipc50"), Shapes(50_000, 10_000, 100, (32, 32, 3))),
        "ImageNet-1K, IPC 1": (imagenet(1), large),
        "ImageNet-1K, IPC 10": (imagenet(10), large),
    }


def plan(job, shapes, devices, rates, device_memory, *, segments=1):
    """What a job needs on some GPUs, by the model alone.

    Args:
        job: its settings; DDPP alone, without baselines.
        shapes: of the data.
        devices: how many there are.
        rates: of the machine, the work in operations.
        device_memory: bytes of a GPU, half of which may hold trajectories.
        segments: of each distillation step.
    """
    from ddpp_jax.planning import machines, scaling, work, workload
    from ddpp_jax.planning.scaling import Kinds

    job = replace(job, baselines=False, distillation=replace(job.distillation, segments=segments))
    if shapes.size(shapes.training) > device_memory / 2:  # As `--images auto` decides.
        shapes = shapes._replace(streamed=1)
    settings, teaching = job.distillation, job.teaching
    network, method, image = _made(job, shapes)
    images = settings.ipc * shapes.classes
    size = 4 * teaching.teachers * (settings.last_epoch + 1) * network.num_params
    reading = workload.Trajectories(size, size > device_memory / 2)
    costs = work.Costs(
        work.epoch_operations(teaching, image, shapes.training),
        method.operations,
        work.evaluation_operations(job.evaluation, image, images, shapes.test),
    )

    def kinds_fn(paces):
        return Kinds(
            workload.teaching_kind(teaching, network, shapes, teaching.teachers),
            workload.step_kind(settings, network, shapes, method, reading, seconds=paces.step),
            workload.evaluation_kind(
                job.evaluation, network, shapes, images, seconds=paces.evaluation
            ),
        )

    in_seconds = work.Costs(*(cost / rates.work for cost in costs))
    kinds = machines.paced(kinds_fn, in_seconds, devices)
    layout = scaling.Layout(devices, -(-devices // OF_A_PROCESS))
    # Of the data the sizes alone are known, and trajectory matching asks for no more.
    every = work.stages(job, teaching.teachers, ["DDPP"], None)
    stages = [
        work.Stage("teachers", epochs=sum(stage.epochs for stage in every)),
        work.Stage("steps", steps=sum(stage.steps for stage in every)),
        work.Stage("evaluations", evaluations=sum(stage.evaluations for stage in every)),
    ]
    needs = [scaling.need(stage, costs, kinds, layout) for stage in stages]
    seconds = [scaling.seconds(need, rates, layout) for need in needs]
    no_wires = rates._replace(link=math.inf, network=math.inf)
    working = sum(scaling.seconds(need, no_wires, layout) for need in needs)
    return {
        "seconds": seconds,
        "sending": 1 - working / sum(seconds),
        "limits": [line for stage in stages for line in machines.limits(stage, kinds, devices)],
        "memory": max(need.memory for need in needs),
        "memory_in": max(needs, key=lambda need: need.memory).name,
        "host": scaling.host_memory(kinds.epoch, devices)
        + (0 if shapes.streamed else shapes.size(shapes.training)),
        "written": sum(need.written for need in needs),
        "read": sum(need.read for need in needs),
        "sent": sum(need.sent for need in needs),
        "network": sum(need.network for need in needs),
        "streamed": [
            name
            for name, there in (("teachers", reading.stream), ("images", shapes.streamed))
            if there
        ],
    }


def _made(job, shapes):
    """The network, the method, and the operations of a forward pass of one image."""
    import optax

    from ddpp_jax.methods import Schedule, match_trajectories
    from ddpp_jax.networks import make_model, make_network
    from ddpp_jax.planning import work

    height, _, channels = shapes.image
    settings = job.distillation
    model = make_model(
        "convnet", job.model, classes=shapes.classes, image_size=height, channels=channels
    )
    network = make_network(model, shapes.image)
    image = work.forward_operations(network, shapes.image)
    schedule = Schedule(
        student_steps=settings.student_steps,
        target_epochs=settings.target_epochs,
        start_epochs=settings.max_start_epoch,
        student_batch=settings.student_batch or settings.ipc * shapes.classes,
        teachers=job.teaching.teachers,
        steps=settings.steps,
        segments=settings.segments,
    )
    method = match_trajectories(
        network,
        lambda seed, plan: None,
        schedule,
        optimizer=optax.trace(settings.momentum),
        operations=image,
    )
    return network, method, image
