"""What devices of one process do, hold and send, for each case, in a process of its own.

`python -m bench.devices CASE ...` prints it in JSON, a case being its place in `CASES`. The devices
are virtual and share the cores of this machine, so that nothing is said about time. Every compiled
program that the library calls is counted, as often as it is called, and every array that goes from
one device to another.
"""

import json
import math
import os
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = str(Path(__file__).parents[1])
IMAGES, TEST, CLASSES, BATCH = 256, 128, 4, 64
SIDE, CHANNELS, WIDTH, DEPTH = 16, 3, 16, 2
STUDENT_STEPS = 4


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        kind: `teachers` (an epoch), `steps` (one of distillation) or `networks` (an evaluation).
        members: how many there are.
        segments: of each step.
        epochs: of an evaluation.
        ipc: distilled images of each class, all of which are a student's minibatch.
    """

    kind: str
    members: int
    segments: int = 1
    epochs: int = 2
    ipc: int = 2

    @property
    def name(self):
        if self.kind == "teachers":
            return f"an epoch of {self.members} teachers"
        if self.kind == "networks":
            return f"an evaluation by {self.members} networks"
        if self.members > 1:
            more = f", minibatches of {self.ipc * CLASSES}" if self.ipc > 2 else ""
            return f"a step of {self.members} distillations{more}"
        more = f", {self.segments} segments" if self.segments > 1 else ""
        more += f", minibatches of {self.ipc * CLASSES}" if self.ipc > 2 else ""
        return f"a step of one distillation{more}"


CASES = [
    Case("teachers", 8),
    Case("teachers", 10),
    Case("steps", 1),
    Case("steps", 1, segments=8),
    Case("steps", 1, ipc=32),
    Case("steps", 2, ipc=32),
    Case("steps", 4),
    Case("networks", 5),
    Case("networks", 8),
]


def measure(cases, devices):
    """What each of some cases finds on so many virtual devices, in one process of their own."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (SCRIPTS, os.environ.get("PYTHONPATH")))),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    command = [sys.executable, "-P", "-m", "bench.devices"]
    command += [str(CASES.index(case)) for case in cases]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        names = ", ".join(case.name for case in cases)
        raise SystemExit(f"scaling: the process of {names} ended early, see above")
    return json.loads(done.stdout)


class Programs:
    """Every program that is called, and what goes between devices around them."""

    def __init__(self):
        import jax

        self._jit, self._put, self._jax = jax.jit, jax.device_put, jax
        self.on = False
        self.forget()

    def forget(self):
        """Begin to count anew."""
        self.compiled, self.calls, self.placed = {}, Counter(), 0

    def watch(self):
        """Count from here on; before the library is imported, which takes `jax.jit` as it is."""
        self._jax.jit, self._jax.device_put = self._watched_jit, self._watched_put

    def _watched_jit(self, fn=None, **options):
        if fn is None:
            return lambda fn: self._watched_jit(fn, **options)
        return Watched(self, self._jit(fn, **options))

    def _watched_put(self, tree, place=None, **options):
        if self.on and place is not None:
            self.placed += sum(self._moved(leaf, place) for leaf in self._jax.tree.leaves(tree))
        return self._put(tree, place, **options)

    def _moved(self, leaf, place):
        """Bytes that devices get of an array and do not have."""
        if not isinstance(leaf, self._jax.Array):
            return 0
        sharding = place
        if not isinstance(place, self._jax.sharding.Sharding):
            sharding = self._jax.sharding.SingleDeviceSharding(place)
        if leaf.sharding.is_fully_replicated:
            lacking = sharding.device_set - leaf.sharding.device_set
            return len(lacking) * _size(leaf, sharding)
        # What is gathered from parts: a device lacks all but its own.
        held = len(sharding.device_set & leaf.sharding.device_set) * _size(leaf, leaf.sharding)
        return len(sharding.device_set) * _size(leaf, sharding) - held

    def found(self):
        """The sums over all calls, on one device, and the largest program that was called."""
        from bench.hlo import count

        flops, xla, sent, held = 0.0, 0.0, Counter(), 0
        for key, compiled in self.compiled.items():
            counted, calls = count(compiled.as_text()), self.calls[key]
            flops += calls * counted.flops
            xla += calls * (compiled.cost_analysis() or {}).get("flops", 0.0)
            sent.update({kind: calls * size for kind, size in counted.sent.items()})
            of = compiled.memory_analysis()
            arguments = of.argument_size_in_bytes - of.alias_size_in_bytes
            held = max(held, of.temp_size_in_bytes + arguments + of.output_size_in_bytes)
        return {"flops": flops, "xla": xla, "sent": sent, "held": held, "placed": self.placed}


def _size(leaf, sharding):
    """Bytes that each device holds of an array."""
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


class Watched:
    """A function that `jax.jit` made, whose calls are counted; calls while tracing are not."""

    def __init__(self, programs, jitted):
        self._programs, self._jitted = programs, jitted

    def __call__(self, *args, **kwargs):
        import jax

        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        if self._programs.on and not any(isinstance(leaf, jax.core.Tracer) for leaf in arrays):
            shapes = tuple(
                (leaf.shape, leaf.dtype, leaf.sharding) if isinstance(leaf, jax.Array) else leaf
                for leaf in leaves
            )
            key = (id(self), structure, shapes)
            if key not in self._programs.compiled:
                self._programs.compiled[key] = self._jitted.lower(*args, **kwargs).compile()
            self._programs.calls[key] += 1
        return self._jitted(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._jitted, name)


def network_of():
    """The network of all cases."""
    from ddpp_jax.networks import ConvNet, make_network

    model = ConvNet(classes=CLASSES, width=WIDTH, depth=DEPTH, image_size=SIDE, channels=CHANNELS)
    return make_network(model, (SIDE, SIDE, CHANNELS))


def method_of(case, operations=0.0):
    """The method of the cases that distil; no teacher is read.

    Args:
        case: with the segments of a step.
        operations: of a forward pass of one image, where those of a step are asked for.
    """
    import optax

    from ddpp_jax.methods import Schedule, match_trajectories

    schedule = Schedule(
        student_steps=STUDENT_STEPS,
        target_epochs=1,
        start_epochs=1,
        student_batch=case.ipc * CLASSES,
        teachers=1,
        steps=1,
        segments=case.segments,
    )
    return match_trajectories(
        network_of(),
        lambda seed, plan: None,
        schedule,
        optimizer=optax.trace(0.5),
        operations=operations,
    )


def teach(case):
    """An epoch of some teachers."""
    import jax
    import jax.numpy as jnp
    import optax

    from ddpp_jax import teachers
    from ddpp_jax.training import everywhere

    network, optimizer = network_of(), optax.sgd(0.01)
    images, labels = everywhere(_images(IMAGES))
    keys = jax.random.split(jax.random.key(0), case.members)
    states = teachers.begin_all(keys, network, optimizer)
    given = (keys, states, teachers.Info(jnp.zeros(case.members)))
    how = teachers.How(network, optimizer, BATCH, ())
    return lambda: teachers.advance_all(given, [(jnp.int32(0), images, labels)], how)


def distil(case):
    """A step of some distillations."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ddpp_jax import distill
    from ddpp_jax.methods import HParams
    from ddpp_jax.sets import DistilledSet

    method = method_of(case)
    images, labels = map(np.asarray, _images(case.ipc * CLASSES))
    start = DistilledSet(images, labels, 0.01)
    members = [
        distill.Member(str(n), n, start, HParams(0.1, 1.0, 1e-4), Path())
        for n in range(case.members)
    ]
    begun = [distill.begin(method, member) for member in members]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    rows = distill.steps_per_call(method, case.members)
    batches = [distill.no_batches(method, rows)] * case.members
    step = distill.stepper(method)
    return lambda: step(members, states, 0, 1, batches)


def evaluate(case):
    """The epochs of some networks on a small set, a call for each, and their test."""
    import jax
    import jax.numpy as jnp

    from ddpp_jax.configs import EvaluateConfig
    from ddpp_jax.evaluate import Procedure, networks
    from ddpp_jax.training import everywhere, predictions

    network = network_of()
    config = EvaluateConfig(networks=case.members, eval_epochs=case.epochs - 1, eval_batch=BATCH)
    procedure = Procedure(config, (), CLASSES)
    small = everywhere((*_images(case.ipc * CLASSES), jnp.float32(0.01)))
    seen, _ = _images(TEST)
    keys = jax.random.split(jax.random.key(0), case.members)
    begun = networks.begin_all(keys, network)

    def work():
        members = (keys, begun, networks.Info(jnp.zeros(case.members)))
        for epoch in range(case.epochs):
            pieces = [(jnp.int32(epoch), jnp.int32(epoch + 1), small)]
            members = networks.advance_all(members, pieces, (network, procedure))
        params = members[1].params
        return predictions(params, seen, apply_fn=network.apply_fn, parts_fn=network.parts)

    return work


def _images(count):
    import jax
    import jax.numpy as jnp

    images = jax.random.normal(jax.random.key(1), (count, SIDE, SIDE, CHANNELS))
    return images, jnp.arange(count) % CLASSES


def found_by(case, programs):
    """What a case does in this process."""
    import jax

    make = {"teachers": teach, "steps": distil, "networks": evaluate}[case.kind]
    programs.forget()
    programs.on = True
    work = make(case)
    once = programs.placed  # Images that go to every device.
    programs.forget()
    jax.block_until_ready(work())
    programs.on = False
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux.
    return programs.found() | {
        "devices": jax.device_count(),
        "once": once,
        "peak_mib": peak / 2**10,
    }


def main():
    import flax  # noqa: F401
    import optax  # noqa: F401

    programs = Programs()
    programs.watch()
    cases = [CASES[int(place)] for place in sys.argv[1:]]
    print(json.dumps([found_by(case, programs) for case in cases]))


if __name__ == "__main__":
    main()
