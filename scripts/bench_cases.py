"""What scripts/benchmark measures: each case as a program of ours and as one in PyTorch.

A program is made ready (built, compiled, warmed up) and then called again and again; a call does
the same work on both sides, in float32 unless a precision says otherwise, without augmentation.
"""

import time
from dataclasses import dataclass, replace
from functools import partial

TEACHER_BATCH = 256
TEACHER_IMAGES = 2 * TEACHER_BATCH
CLASSES = 10
THRESHOLD = 0.1


@dataclass(frozen=True)
class Case:
    """What is measured: `step` (a distillation step), `teacher` or `networks` (several fresh ones).

    Teachers and networks of a case are trained side by side where that is how the library does it.
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
        place = f"w{self.width}"
        if self.kind == "step":
            return f"step {place} IPC {self.ipc} J {self.student_steps} batch {self.batch}"
        if self.kind == "teacher":
            several = "teacher" if self.networks == 1 else f"{self.networks} teachers"
            return f"{several} {place} batch {TEACHER_BATCH}"
        return f"{self.networks} networks {place} on {self.images} images"

    @property
    def units(self):
        """How many SGD steps of a network a call takes; a distillation step counts as one."""
        if self.kind == "step":
            return 1
        if self.kind == "teacher":
            return self.networks * TEACHER_IMAGES // TEACHER_BATCH
        return self.networks * (self.epochs + 1)

    @property
    def unit(self):
        return "distillation step" if self.kind == "step" else "SGD step"

    @property
    def flops(self):
        """Operations of a call by the mathematics, multiplications and additions, no recomputation.

        An SGD step takes three products a layer (forward, and for the gradients of its input and of
        its weights), without that of the images in the first; the derivative of a distillation step
        takes two more for each of those. Norms, pooling and the like are left out, as is usual.
        """
        per_image, channels, side = [], self.channels, self.side
        for _ in range(self.depth):
            per_image.append(2 * 9 * channels * self.width * side * side)
            channels, side = self.width, side // 2
        per_image.append(2 * self.width * side * side * CLASSES)
        first, others = per_image[0], sum(per_image[1:])
        sgd, second = 2 * first + 3 * others, 6 * first + 9 * others
        if self.kind == "step":
            return self.batch * self.student_steps * second
        if self.kind == "teacher":
            return self.networks * TEACHER_IMAGES * sgd
        return self.images * self.units * sgd


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
]
ON_GPU = [Case("step", ipc=50, student_steps=30, student_batch=256)]
GROWTH = {
    "student steps J": [Case("step", width=64, student_steps=j) for j in (5, 10, 20, 40, 80)],
    "images a batch": [Case("step", width=64, ipc=ipc) for ipc in (1, 2, 5, 10, 20)],
    "width": [Case("step", width=width) for width in (16, 32, 64, 128, 256)],
}
FOR_IDEAS = [Case("step", student_steps=9), Case("step", ipc=10, student_steps=4), Case("teacher")]
TINY = [
    Case("step", width=8, student_steps=2, side=8, depth=2),
    Case("networks", width=8, epochs=2, networks=2, side=8, depth=2),
]


class Ours:
    """A case as a program of this library."""

    def __init__(self, case, variant):
        import jax

        from ddpp_jax.networks import ConvNet, make_network

        shape = (case.side, case.side, case.channels)
        self.case, self.variant = case, variant
        self.network = make_network(
            ConvNet(
                classes=CLASSES,
                width=case.width,
                depth=case.depth,
                image_size=case.side,
                channels=case.channels,
            ),
            shape,
        )
        self.x = jax.random.normal(jax.random.key(0), (case.images, *shape))
        self.y = jax.numpy.arange(case.images) % CLASSES
        self.program, self.arguments = self.build(case)
        jax.block_until_ready(self.arguments)
        began = time.perf_counter()
        lowered = jax.jit(self.program).lower(*self.arguments)
        self.compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - began

    def build(self, case):
        """A function and what it takes."""
        import jax
        import jax.numpy as jnp
        import optax

        from ddpp_jax import distill, evaluate
        from ddpp_jax.configs import DistillConfig, EvaluateConfig
        from ddpp_jax.training import train_epoch

        network, key = self.network, jax.random.key(1)
        as_it_is = {"augment_fn": lambda key, images: images}
        if case.kind == "step":
            config = DistillConfig(
                student_steps=case.student_steps,
                target_epochs=1,
                max_start_epoch=1,
                ipc=case.ipc,
                student_batch=case.student_batch or None,
                threshold=THRESHOLD,
            )
            optimizer = distill.make_optimizer(config)
            state = distill.init(self.x, alpha=0.01, optimizer=optimizer)
            start = 0.05 * jax.random.normal(jax.random.key(2), (network.num_params,))
            target = start * (1 + 0.1 * jax.random.normal(jax.random.key(3), start.shape))
            how = {"network": network, "optimizer": optimizer, "config": config} | as_it_is
            return partial(distill.step, **how), (key, state, self.y, start, target)
        how = {"apply_fn": network.apply_fn, "parts_fn": network.parts} | as_it_is
        if case.kind == "teacher":
            optimizer = optax.sgd(0.01)
            how |= {"optimizer": optimizer, "batch_size": TEACHER_BATCH}
            params = network.init_fn(key)
            state, low, high = (params, optimizer.init(params)), 0, 1

            def epoch(index, state, x, y):
                return train_epoch(key, *state, x, y, **how)[:2]
        else:
            how["config"] = EvaluateConfig(eval_epochs=case.epochs, eval_batch=256)
            state, low, high = evaluate.init(key, network=network), 0, case.epochs + 1

            def epoch(index, state, x, y):
                return evaluate.step(key, state, index, x, y, jnp.float32(0.01), **how)[0]

        def train(state, low, high, x, y):
            return jax.lax.fori_loop(low, high, lambda *loop: epoch(*loop, x, y), state)

        if jax.default_backend() != "cpu" and case.networks > 1:
            train = jax.vmap(train, in_axes=(0, None, None, None, None))
            state = jax.tree.map(lambda leaf: jnp.stack([leaf] * case.networks), state)
        return train, (state, jnp.int32(low), jnp.int32(high), self.x, self.y)

    def call(self):
        import jax

        from ddpp_jax.training import PIECES, side_by_side

        if self.case.kind == "step" or jax.default_backend() != "cpu":
            jax.block_until_ready(self.compiled(*self.arguments))
            return
        state, low, high, *small = self.arguments
        pace = -(-int(high - low) // PIECES)
        spans = [
            (first, min(first + pace, int(high))) for first in range(int(low), int(high), pace)
        ]

        def advance(state, span):
            return jax.block_until_ready(
                self.compiled(state, *(jax.numpy.int32(end) for end in span), *small)
            )

        side_by_side(advance, [state] * self.case.networks, spans)

    def xla_counts(self):
        """XLA's count of a call's operations and of the bytes they move, once compiled.

        Of one turn of each loop, as XLA counts them, times the turns; minibatches in one part. What
        stands outside of the loops is counted with every turn.
        """
        import jax

        case = self.case
        single = replace(case, student_steps=1, networks=1, epochs=1)
        turns = case.student_steps if case.kind == "step" else case.units
        in_parts, self.network = self.network, self.network._replace(at_once=10**9)
        program, arguments = self.build(single)
        self.network = in_parts
        lowered = jax.jit(program).lower(*arguments)
        counted, moved = lowered.cost_analysis(), lowered.compile().cost_analysis()
        if not counted or not moved:
            return None
        return {"flops": turns * counted["flops"], "bytes": turns * moved["bytes accessed"]}

    def temporary_bytes(self):
        analysis = self.compiled.memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes

    def device_peak(self):
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


class Torch:
    """A case in PyTorch: `eager`, `channels-last`, or `compiled`, where that can be done."""

    def __init__(self, case, variant):
        import opponent
        import torch

        self.case = case
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        generator = torch.Generator().manual_seed(0)
        self.net = opponent.ConvNet(CLASSES, case.width, case.depth, case.side, case.channels)
        shape = (case.images, case.channels, case.side, case.side)
        x = torch.randn(shape, generator=generator).to(self.device)
        if variant == "channels-last":
            x = x.contiguous(memory_format=torch.channels_last)
        y = (torch.arange(case.images) % CLASSES).to(self.device)
        tensors = self.net.initial(generator, self.device)
        logits = torch.compile(self.net.logits) if variant == "compiled" else self.net.logits
        if case.kind == "step":
            start = torch.cat([tensor.flatten() for tensor in tensors])
            noise = torch.randn(start.shape, generator=generator).to(self.device)
            alpha = torch.tensor(0.01, device=self.device, requires_grad=True)
            batches = torch.arange(case.student_steps * case.batch) % case.images
            self.run = partial(
                opponent.distillation_step,
                self.net,
                x.requires_grad_(),
                y,
                alpha,
                start,
                start * (1 + 0.1 * noise),
                batches.view(case.student_steps, case.batch).to(self.device),
                threshold=THRESHOLD,
            )
        else:
            evaluation = case.kind == "networks"
            all_tensors = [[t.clone() for t in tensors] for _ in range(case.networks)]

            def run():
                for own in all_tensors:
                    opponent.train(
                        self.net,
                        own,
                        x,
                        y,
                        rate=0.01,
                        epochs=case.epochs if evaluation else 1,
                        batch_size=TEACHER_BATCH,
                        evaluation=evaluation,
                        logits_fn=logits,
                    )

            self.run = run
        self.cuda = torch.cuda if self.device == "cuda" else None
        began = time.perf_counter()
        self.call()
        self.compile_seconds = time.perf_counter() - began

    def call(self):
        self.run()
        if self.cuda:
            self.cuda.synchronize()

    def xla_counts(self):
        return None

    def temporary_bytes(self):
        return None

    def device_peak(self):
        return self.cuda.max_memory_allocated() if self.cuda else None


SIDES = {"ours": Ours, "torch": Torch}


def opponents(case):
    """The variants of the opponent that can do a case.

    `torch.compile` refuses the step: "does not currently support double backward".
    """
    if case.kind == "step":
        return ["eager", "channels-last"]
    return ["eager", "channels-last", "compiled"]
