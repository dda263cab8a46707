"""What ours is measured against: the same mathematics in PyTorch, as a good user of it would write.

A ConvNet over one flat vector of parameters, the distillation step by autograd through the unrolled
student (`create_graph=True`), a teacher's epoch and the training of fresh networks with
`torch.optim.SGD`. Group norm with a group for each channel is instance norm, and the faster of the
two. Layouts are PyTorch's.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812

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

    def logits(self, tensors, images):
        *blocks, weight, bias = tensors
        for low in range(0, len(blocks), 4):
            kernel, shift, norm_scale, norm_shift = blocks[low : low + 4]
            images = F.conv2d(images, kernel, shift, padding=1)
            images = F.group_norm(images, images.shape[1], norm_scale, norm_shift)
            images = F.avg_pool2d(F.relu(images), 2)
        return F.linear(images.flatten(1), weight, bias)

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


def train(net, tensors, images, labels, *, rate, epochs, batch_size, evaluation, logits_fn=None):
    """The tensors after some epochs of SGD, updated in place.

    For `evaluation` with momentum and weight decay by the published schedule: a tenfold fall and a
    fresh momentum after epoch `epochs // 2 + 1`, epochs 0 to `epochs` inclusive; plain otherwise.
    """
    logits_fn = logits_fn or net.logits
    settings = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY} if evaluation else {}
    for tensor in tensors:
        tensor.requires_grad_()
    optimizer = torch.optim.SGD(tensors, lr=rate, fused=True, **settings)
    count, fall = len(images), epochs // 2 + 1
    for epoch in range(epochs + 1 if evaluation else epochs):
        if evaluation and epoch == fall + 1:
            optimizer = torch.optim.SGD(tensors, lr=0.1 * rate, fused=True, **settings)
        whole = batch_size >= count
        order = None if whole else torch.randperm(count, device=images.device)
        for low in range(0, count, batch_size):
            x, y = images, labels
            if order is not None:
                batch = order[low : low + batch_size]
                x, y = images[batch], labels[batch]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits_fn(tensors, x), y).backward()
            optimizer.step()
    return tensors
