"""What scripts/benchmark measures: each case, its operations, and the case as a program in JAX.

A program is built, compiled and warmed up, and then called again and again. A call does the same
work in JAX and in PyTorch (`torch_reference.py`), in float32 unless a precision says otherwise,
without augmentation. JAX is imported where it is used: no other side shall hold its memory.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

TEACHER_BATCH = 256
TEACHER_IMAGES = 2 * TEACHER_BATCH
REAL_BATCH = 256
"""Real images of each class in an update of DC, DSA, DM and CAFE."""
UPDATES = ("dc", "dsa", "dm", "cafe")
CLASSES = 10
THRESHOLD = 0.1
SIDE_BY_SIDE, IN_TURN, AT_ONCE = "side by side", "in turn", "at once"
WAYS = (SIDE_BY_SIDE, IN_TURN, AT_ONCE)
"""How several members go: in threads, one after another, or in one program by `vmap`."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        kind: `step` (a distillation step), `teacher`, `networks` (fresh ones on a small set); an
            update of the images by `dc`, `dsa`, `dm` or `cafe`, with a network that is fresh; or a
            limit of the machine: `product` (of two matrices) or `sum` (of two arrays).
        width: of the network, or of the matrix.
        networks: how many members: distillations, teachers or fresh networks.
        epochs: of fresh networks.
    """

    kind: str
    width: int = 128
    ipc: int = 1
    student_steps: int = 10
    student_batch: int = 0
    networks: int = 1
    epochs: int = 10
    side: int = 32
    channels: int = 3
    depth: int = 3

    @property
    def images(self):
        return TEACHER_IMAGES if self.kind == "teacher" else self.ipc * CLASSES

    @property
    def batch(self):
        return TEACHER_BATCH if self.kind == "teacher" else self.student_batch or self.images

    @property
    def name(self):
        count = "" if self.networks == 1 else f"{self.networks} "
        many = "s" if count else ""
        size = f"w{self.width}"
        if (self.side, self.channels) != (32, 3):
            size += f" {self.side}x{self.side}x{self.channels}"
        return {
            "step": f"{count}step{many} {size} IPC {self.ipc} J {self.student_steps} "
            f"batch {self.batch}",
            "teacher": f"{count}teacher{many} {size} batch {self.batch}",
            "networks": f"{count}network{many} {size} on {self.images} images",
            **{kind: f"{kind.upper()} update {size} IPC {self.ipc}" for kind in UPDATES},
        }.get(self.kind, f"{self.kind} of {self.width}x{self.width}")

    @property
    def units(self):
        """What a call takes: distillation steps, SGD steps of a network, or one of the limits."""
        if self.kind == "teacher":
            return self.networks * TEACHER_IMAGES // TEACHER_BATCH
        if self.kind == "networks":
            return self.networks * (self.epochs + 1)
        return self.networks

    @property
    def flops(self):
        """Operations of a call by the mathematics, multiplications and additions, no recomputation.

        An SGD step takes three products a layer (forward, and for the gradients of its input and of
        its weights), without that of the images in the first. The derivative of a distillation step
        takes two more for each of those. Norms, pooling and the like are left out, as is usual.
        """
        if self.kind == "product":
            return 2 * self.width**3
        per_image, channels, side = [], self.channels, self.side
        for _ in range(self.depth):
            per_image.append(2 * 9 * channels * self.width * side * side)
            channels, side = self.width, side // 2
        per_image.append(2 * self.width * side * side * CLASSES)
        first, others = per_image[0], sum(per_image[1:])
        if self.kind == "step":
            return self.units * self.batch * self.student_steps * (6 * first + 9 * others)
        real, own = CLASSES * REAL_BATCH, self.images
        if self.kind in ("dc", "dsa"):
            return real * (2 * first + 3 * others) + own * (6 * first + 9 * others)
        if self.kind in UPDATES:  # The linear layer plays no part.
            others -= per_image[-1]
            return real * (first + others) + own * (2 * first + 2 * others)
        batch = TEACHER_BATCH if self.kind == "teacher" else self.images
        return self.units * batch * (2 * first + 3 * others)

    @property
    def bytes(self):
        """What a call of a `sum` reads and writes."""
        return 12 * self.width**2


MAIN = [
    Case("step", student_steps=10),
    Case("step", student_steps=50),
    Case("step", ipc=10, student_steps=10),
    Case("step", ipc=10, student_steps=30),
    Case("teacher"),
    Case("teacher", width=32),
    Case("teacher", networks=2),
    Case("teacher", width=32, networks=2),
    Case("networks", networks=5),
    Case("networks", networks=5, ipc=10, epochs=3),
    Case("networks", networks=5, width=32, epochs=40),
    Case("networks", networks=5, width=16, epochs=40),
    *(Case(kind, ipc=ipc) for kind in UPDATES for ipc in (1, 10)),
]
ON_GPU = [Case("step", ipc=50, student_steps=30, student_batch=256)]
GROWTH = {
    "student steps J": [Case("step", width=64, student_steps=j) for j in (5, 10, 20, 40, 80)],
    "images a batch": [Case("step", width=64, ipc=ipc) for ipc in (1, 2, 5, 10, 20)],
    "width": [Case("step", width=width) for width in (16, 32, 64, 128, 256)],
}
DIGITS = Case("step", width=32, student_steps=20, side=8, channels=1, depth=2)
MEMBERS = [
    replace(DIGITS, networks=4),
    replace(DIGITS, kind="networks", networks=5, epochs=40),
    Case("networks", networks=5, width=32, ipc=10, epochs=20),
    *(case for case in MAIN if case.networks > 1),
]
MEMBERS_ON_GPU = [Case("teacher", networks=count) for count in (5, 10, 20)]
LIMITS = {"flops": Case("product", width=4096), "bytes": Case("sum", width=8192)}
LIMITS_ON_GPU = {"flops": Case("product", width=16384), "bytes": Case("sum", width=16384)}
TINY_LIMITS = {"flops": Case("product", width=256), "bytes": Case("sum", width=256)}
TINY = [
    Case("step", width=8, student_steps=2, side=8, depth=2),
    Case("networks", width=8, epochs=2, networks=2, side=8, depth=2),
    *(Case(kind, width=8, side=8, depth=2) for kind in UPDATES),
]


class JaxProgram:
    """A case as a program of this library; its members go as the library has them, or as named."""

    def __init__(self, case, way=""):
        import jax

        on_cpu = jax.default_backend() == "cpu"
        self.case, self.way = case, way or (SIDE_BY_SIDE if on_cpu else AT_ONCE)
        program, member, self.pieces = _program(case)
        self.members = [member] * case.networks
        if self.way == AT_ONCE:
            program = jax.vmap(program, in_axes=(0, *[None] * len(self.pieces[0])))
            stack = partial(jax.tree.map, lambda *leaves: jax.numpy.stack(leaves))
            self.members = [stack(*self.members)]
        jax.block_until_ready((self.members, self.pieces))
        began = time.perf_counter()
        self.compiled = jax.jit(program).lower(self.members[0], *self.pieces[0]).compile()
        self.compile_seconds = time.perf_counter() - began

    def call(self):
        import jax

        from ddpp_jax.training import side_by_side

        def advance(member, piece):
            member, info = self.compiled(member, *piece)
            return jax.block_until_ready((member, info))[0] if self.way == SIDE_BY_SIDE else member

        at_a_time = None if self.way == SIDE_BY_SIDE else 1
        jax.block_until_ready(side_by_side(advance, self.members, self.pieces, at_a_time=at_a_time))

    def xla_counts(self):
        """XLA's count of a call's operations and of the bytes they move, once compiled.

        Of one turn of each loop, as XLA counts them, times the turns; minibatches in one part. What
        stands outside of the loops is counted with every turn.
        """
        import jax

        case = self.case
        single = replace(case, student_steps=1, networks=1, epochs=1)
        turns = case.units * (case.student_steps if case.kind == "step" else 1)
        turns *= CLASSES if case.kind in UPDATES else 1
        program, member, pieces = _program(single, parts=False)
        lowered = jax.jit(program).lower(member, *pieces[0])
        counted, moved = lowered.cost_analysis(), lowered.compile().cost_analysis()
        if not counted or not moved:
            return None
        return {"flops": turns * counted["flops"], "bytes": turns * moved["bytes accessed"]}

    def temporary_bytes(self):
        analysis = self.compiled.memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes

    def device(self):
        """The platform, the device's own name, and the bytes it held at the highest, if known."""
        import jax

        device = jax.devices()[0]
        peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
        return {"platform": device.platform, "device": device.device_kind, "device_peak": peak}


def _network(case, *, parts):
    """The ConvNet of a case, its minibatches in parts as the library has them, or in one."""
    from ddpp_jax.networks import ConvNet, make_network

    model = ConvNet(
        classes=CLASSES,
        width=case.width,
        depth=case.depth,
        image_size=case.side,
        channels=case.channels,
    )
    network = make_network(model, (case.side, case.side, case.channels))
    return network if parts else network._replace(at_once=10**9)


def _program(case, *, parts=True):
    """`program(member, *piece)`, which gives the member and what is told of it; member; pieces."""
    import jax
    import jax.numpy as jnp

    if case.kind in ("product", "sum"):
        array = jnp.full((case.width, case.width), 1 / case.width)
        turn = jnp.matmul if case.kind == "product" else jnp.add
        return lambda member, other: (turn(member, other), ()), array, [(array,)]
    network = _network(case, parts=parts)
    x = jax.random.normal(jax.random.key(0), (case.images, case.side, case.side, case.channels))
    y = jnp.arange(case.images) % CLASSES
    if case.kind == "step":
        return _step(case, network, x, y)
    if case.kind in UPDATES:
        return _update(case, network, x, y)
    return _training(case, network, x, y)


def _step(case, network, x, y):
    """A distillation step, its Info included."""
    import jax
    import optax

    from ddpp_jax.methods import HParams, Pair, Schedule, match_trajectories
    from ddpp_jax.sets import DistilledSet

    schedule = Schedule(
        student_steps=case.student_steps,
        target_epochs=1,
        start_epochs=1,
        student_batch=case.student_batch or case.images,
        teachers=1,
        steps=1,
    )
    method = match_trajectories(
        network, lambda seed, plan: None, schedule, optimizer=optax.trace(0.5)
    )
    state = method.init(jax.random.key(0), DistilledSet(x, y, 0.01))
    start = 0.05 * jax.random.normal(jax.random.key(2), (network.num_params,))
    target = start * (1 + 0.1 * jax.random.normal(jax.random.key(3), start.shape))
    pair = Pair(start, target, jax.numpy.int32(0), jax.numpy.int32(0))
    hparams = HParams(THRESHOLD, 100.0, 1e-7)

    def program(state, key, pair):
        return method.step(key, state, pair, hparams)

    return program, state, [(jax.random.key(1), pair)]


def _update(case, network, x, y):
    """An update of the images by a method that reads real ones, its Info included."""
    import jax
    import jax.numpy as jnp
    import optax

    from ddpp_jax import methods
    from ddpp_jax.core import augment
    from ddpp_jax.methods.features import gradient_of
    from ddpp_jax.methods.pixels import begin, descend
    from ddpp_jax.sets import DistilledSet

    count = 2 * REAL_BATCH
    real = jax.random.normal(jax.random.key(2), (CLASSES * count, *x.shape[1:]))
    places = jnp.arange(CLASSES * count).reshape(CLASSES, count)
    pool = methods.Pool(real, places, jnp.full(CLASSES, count))
    order = jnp.argsort(y)
    start, optimizer = DistilledSet(x[order], y[order], 0.01), optax.trace(0.5)
    source = methods.RealSource(lambda seed, done: None, pool, REAL_BATCH)
    made = None
    if case.kind == "dm":
        made = methods.match_distributions(
            network, source, optimizer=optimizer, augment_fn=lambda key, x: x
        )
    elif case.kind != "cafe":
        made = methods.match_gradients(
            network,
            source,
            optimizer=optimizer,
            loops=methods.GradientLoops(),
            augment_fn=augment if case.kind == "dsa" else None,
        )
    if made is not None:
        hparams = methods.PixelHParams(0.1)
        program = lambda state, key, pool: made.step(key, state, pool, hparams)  # noqa: E731
        return program, made.init(jax.random.key(0), start), [(jax.random.key(1), pool)]

    def update(state, key, pool):  # Without the loops, whose length the accuracies decide.
        params = network.init_fn(key)
        given = (key, params, state.images, pool, network)
        gradient, info = gradient_of(*given, batch=REAL_BATCH, augment_fn=None)
        return descend(state, gradient, 0.1, optimizer), info

    state = begin(optimizer)(jax.random.key(0), start)
    return update, state, [(jax.random.key(1), pool)]


def _training(case, network, x, y):
    """A teacher's epoch, or the epochs of a fresh network on a small set."""
    import jax
    import jax.numpy as jnp
    import optax

    from ddpp_jax import evaluate
    from ddpp_jax.configs import EvaluateConfig
    from ddpp_jax.training import PIECES, Training, train_epoch

    key = jax.random.key(1)

    def as_they_are(key, images):
        return images

    if case.kind == "teacher":
        optimizer, params = optax.sgd(0.01), network.init_fn(key)
        state, epochs = (params, optimizer.init(params)), 1
        training = Training(network.apply_fn, optimizer, TEACHER_BATCH, as_they_are, network.parts)

        def epoch(index, state, x, y):
            return train_epoch(key, *state, x, y, training)[:2]
    else:
        config = EvaluateConfig(eval_epochs=case.epochs, eval_batch=256)
        state, epochs = evaluate.init(key, network=network), case.epochs + 1

        def epoch(index, state, x, y):
            small, how = (x, y, jnp.float32(0.01)), {"config": config, "augment_fn": as_they_are}
            return evaluate.step(key, state, index, small, network=network, **how)[0]

    def program(state, low, high, x, y):
        return jax.lax.fori_loop(low, high, lambda *loop: epoch(*loop, x, y), state), ()

    ends = sorted({epochs * piece // PIECES for piece in range(PIECES + 1)})
    return program, state, [(*map(jnp.int32, span), x, y) for span in pairwise(ends)]
