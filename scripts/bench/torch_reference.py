"""The PyTorch reference: the same mathematics as a good user of PyTorch would write it.

A ConvNet over one flat vector of parameters, the distillation step by autograd through the unrolled
student (`create_graph=True`), and training with `torch.optim.SGD`. Group norm with a group for each
channel is instance norm, and the faster of the two. Layouts are PyTorch's.
tests/test_torch_reference.py holds it to the golden numbers; `TorchProgram` is a case by it.
"""

import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812
from bench.cases import CLASSES, REAL_BATCH, TEACHER_BATCH, THRESHOLD
from bench.torch_methods import UPDATES, as_they_are, siamese

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


@dataclass(frozen=True)
class ConvNet:
    """Blocks of 3x3 convolution, instance norm, ReLU and average pooling, then a linear layer."""

    classes: int
    width: int = 128
    depth: int = 3
    side: int = 32
    channels: int = 3

    @property
    def shapes(self):
        found = []
        for channels, width in pairwise([self.channels] + [self.width] * self.depth):
            found += [(width, channels, 3, 3), (width,), (width,), (width,)]
        side = self.side >> self.depth
        return [*found, (self.classes, self.width * side * side), (self.classes,)]

    def split(self, vector):
        """The tensors that a flat vector holds."""
        pieces = vector.split([prod(shape) for shape in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def features(self, tensors, images):
        """What the ReLU of each block gives, and last the flat features."""
        blocks, found = tensors[:-2], []
        for low in range(0, len(blocks), 4):
            kernel, shift, norm_scale, norm_shift = blocks[low : low + 4]
            images = F.conv2d(images, kernel, shift, padding=1)
            images = F.group_norm(images, images.shape[1], norm_scale, norm_shift)
            found.append(F.relu(images))
            images = F.avg_pool2d(found[-1], 2)
        return [*found, images.flatten(1)]

    def logits(self, tensors, images):
        return F.linear(self.features(tensors, images)[-1], *tensors[-2:])

    def initial(self, generator=None, device=None):
        """Fresh tensors by PyTorch's own rule, norms at one and zero."""
        tensors = []
        for index, shape in enumerate(self.shapes):
            if len(shape) > 1:
                bound = prod(shape[1:]) ** -0.5
                tensors.append((2 * torch.rand(shape, generator=generator) - 1) * bound)
            else:
                scale = index % 4 == 2 and index < 4 * self.depth
                tensors.append(torch.ones(shape) if scale else torch.zeros(shape))
        return [tensor.to(device) for tensor in tensors]


def prune_mask(student, target, threshold):
    """True where neither ratio of the two is below the threshold; two zeros are kept."""
    smaller = torch.minimum(student.abs(), target.abs())
    larger = torch.maximum(student.abs(), target.abs())
    same_sign = student.signbit() == target.signbit()
    return (larger == 0) | ((smaller >= threshold * larger) & same_sign & (smaller > 0))


def distillation_step(net, images, labels, alpha, start, target, batches, *, threshold):
    """Matching loss, its gradients in images and alpha, the student, and the mask."""
    student = start.detach().requires_grad_()
    for batch in batches:
        loss = F.cross_entropy(net.logits(net.split(student), images[batch]), labels[batch])
        (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
        student = student - alpha * gradient
    kept = None
    to_target, from_start = student - target, start - target
    if threshold is not None:
        with torch.no_grad():
            kept = prune_mask(student, target, threshold)
        to_target, from_start = to_target * kept, from_start * kept
    loss = to_target.square().sum() / from_start.square().sum()
    gradients = torch.autograd.grad(loss, (images, alpha))
    return loss.detach(), gradients, student.detach(), kept


def train(logits_fn, tensors, images, labels, *, rate, batch_size):
    """One epoch of plain SGD, as a teacher's; the tensors are updated in place."""
    optimizer = _optimizer(tensors, rate)
    order = torch.randperm(len(images), device=images.device)
    for batch in order.split(batch_size):
        _descend(optimizer, logits_fn, tensors, images[batch], labels[batch])
    return tensors


def train_fresh(logits_fn, tensors, images, labels, *, rate, epochs):
    """Training of a fresh network on a small set by the published schedule, in place.

    Epochs 0 to `epochs` inclusive of the whole set, with momentum and weight decay; a tenfold fall
    and a fresh momentum after epoch `epochs // 2 + 1`.
    """
    settings = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
    optimizer = _optimizer(tensors, rate, **settings)
    for epoch in range(epochs + 1):
        if epoch == epochs // 2 + 2:
            optimizer = _optimizer(tensors, 0.1 * rate, **settings)
        _descend(optimizer, logits_fn, tensors, images, labels)
    return tensors


def _optimizer(tensors, rate, *, momentum=0.0, weight_decay=0.0):
    for tensor in tensors:
        tensor.requires_grad_()
    return torch.optim.SGD(
        tensors, lr=rate, fused=True, momentum=momentum, weight_decay=weight_decay
    )


def _descend(optimizer, logits_fn, tensors, images, labels):
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(logits_fn(tensors, images), labels).backward()
    optimizer.step()


class TorchProgram:
    """A case in PyTorch: `eager`, in the layout `channels-last`, or `compiled`."""

    def __init__(self, case, variant):
        self.cuda = torch.cuda if torch.cuda.is_available() else None
        self.where = "cuda" if self.cuda else "cpu"
        limit = case.kind in ("product", "sum")
        self.run = self._limit(case) if limit else self._program(case, variant)
        began = time.perf_counter()
        self.call()
        self.compile_seconds = time.perf_counter() - began

    def call(self):
        self.run()
        if self.cuda:
            self.cuda.synchronize()

    def xla_counts(self):
        """None: XLA counts the operations of JAX's programs alone."""

    def temporary_bytes(self):
        """None: an eager program has no memory that is known beforehand."""

    def device(self):
        peak = self.cuda.max_memory_allocated() if self.cuda else None
        return {"platform": self.where, "device": self.where, "device_peak": peak}

    def _limit(self, case):
        array = torch.ones((case.width, case.width), device=self.where)
        out, turn = torch.empty_like(array), torch.matmul if case.kind == "product" else torch.add
        return partial(turn, array, array, out=out)

    def _program(self, case, variant):
        generator = torch.Generator().manual_seed(0)
        net = ConvNet(CLASSES, case.width, case.depth, case.side, case.channels)
        shape = (case.images, case.channels, case.side, case.side)
        x = torch.randn(shape, generator=generator).to(self.where)
        if variant == "channels-last":
            x = x.contiguous(memory_format=torch.channels_last)
        y = (torch.arange(case.images) % CLASSES).to(self.where)
        tensors = net.initial(generator, self.where)
        if case.kind == "step":
            start = torch.cat([tensor.flatten() for tensor in tensors])
            noise = torch.randn(start.shape, generator=generator).to(self.where)
            alpha = torch.tensor(0.01, device=self.where, requires_grad=True)
            batches = torch.arange(case.student_steps * case.batch) % case.images
            batches = batches.view(case.student_steps, case.batch).to(self.where)
            point = (x.requires_grad_(), y, alpha, start, start * (1 + 0.1 * noise), batches)
            return partial(distillation_step, net, *point, threshold=THRESHOLD)
        if case.kind in UPDATES:
            return self._update(case, net, x, generator)
        logits_fn = torch.compile(net.logits) if variant == "compiled" else net.logits
        members = [[tensor.clone() for tensor in tensors] for _ in range(case.networks)]
        how = {"epochs": case.epochs} if case.kind == "networks" else {"batch_size": TEACHER_BATCH}
        train_fn = train_fresh if case.kind == "networks" else train

        def run():
            for own in members:
                train_fn(logits_fn, own, x, y, rate=0.01, **how)

        return run

    def _update(self, case, net, x, generator):
        """An update of the images by a method that reads real ones, with a fresh network."""
        shape = (CLASSES, 2 * REAL_BATCH, *x.shape[1:])
        pool = torch.randn(shape, generator=generator).to(self.where)
        augment_fn = siamese(0) if case.kind == "dsa" else as_they_are
        velocity = torch.zeros_like(x)

        def run():
            nonlocal x
            tensors = [tensor.requires_grad_() for tensor in net.initial(generator, self.where)]
            places = (torch.randperm(len(pool[0]), generator=generator) for _ in pool)
            chosen = zip(pool, places, strict=True)
            real = torch.stack([images[place[:REAL_BATCH]] for images, place in chosen])
            _, gradient = UPDATES[case.kind](net, tensors, x, real, augment_fn)
            velocity.mul_(0.5).add_(gradient)
            x = x - 0.1 * velocity

        return run
