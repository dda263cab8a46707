"""Updates of the images by DC, DSA, DM and CAFE, as a good user of PyTorch would write them.

Images come class by class, as many of each. `augment_fn(label, images)` is siamese augmentation: it
is given the real and the distilled images of a class in turn. tests/test_torch_reference.py holds
all of this to the golden numbers.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812

OFF_ZERO = 1e-6


def as_they_are(label, images):
    return images


def gradient_matching(net, tensors, images, real, augment_fn=as_they_are):
    """DC, or DSA: the loss, and its gradient in the images.

    Args:
        net: the architecture.
        tensors: of the network, which require gradients.
        images: the distilled set.
        real: (classes, batch, channels, side, side).
        augment_fn: siamese augmentation.
    """
    images = images.detach().requires_grad_()
    loss = 0
    for label, (theirs, own) in enumerate(zip(real, images.chunk(len(real)), strict=True)):
        constants = _gradient(net, tensors, label, augment_fn(label, theirs))
        slopes = _gradient(net, tensors, label, augment_fn(label, own), create_graph=True)
        for a, b in zip(constants, slopes, strict=True):
            if a.ndim > 1:
                loss = loss + row_distances(a.flatten(1), b.flatten(1)).sum()
    return loss.detach(), torch.autograd.grad(loss, images)[0]


def _gradient(net, tensors, label, images, **how):
    labels = torch.full((len(images),), label, device=images.device)
    return torch.autograd.grad(F.cross_entropy(net.logits(tensors, images), labels), tensors, **how)


def row_distances(a, b):
    """1 - <a, b> / (|a| |b| + 1e-6), row by row."""
    return 1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + OFF_ZERO)


def distribution_matching(net, tensors, images, real, augment_fn=as_they_are):
    """DM: the loss, and its gradient in the images; arguments as above."""
    images = images.detach().requires_grad_()
    loss = 0
    for label, (theirs, own) in enumerate(zip(real, images.chunk(len(real)), strict=True)):
        with torch.no_grad():
            mean = net.features(tensors, augment_fn(label, theirs))[-1].mean(0)
        own = net.features(tensors, augment_fn(label, own))[-1].mean(0)
        loss = loss + (mean - own).square().sum()
    return loss.detach(), torch.autograd.grad(loss, images)[0]


def feature_alignment(net, tensors, images, real, augment_fn=as_they_are):
    """CAFE: the loss without its constant, and its gradient in the images; arguments as above."""
    images, classes = images.detach().requires_grad_(), len(real)
    augmented = [augment_fn(label, theirs) for label, theirs in enumerate(real)]
    with torch.no_grad():
        theirs = net.features(tensors, torch.cat(augmented))
    augmented = [augment_fn(label, own) for label, own in enumerate(images.chunk(classes))]
    own = net.features(tensors, torch.cat(augmented))
    *blocks, last = [0.1] * (len(own) - 2) + [1.0, 2.0]
    loss = 0
    for weight, a, b in zip([*blocks, last], theirs, own, strict=True):
        apart = a.unflatten(0, (classes, -1)).mean(1) - b.unflatten(0, (classes, -1)).mean(1)
        loss = loss + weight * apart.square().sum()
    centres = own[-1].unflatten(0, (classes, -1)).mean(1)
    labels = torch.arange(classes, device=images.device).repeat_interleave(real.shape[1])
    loss = loss + 0.01 * F.cross_entropy(theirs[-1] @ centres.T, labels, reduction="sum")
    return loss.detach(), torch.autograd.grad(loss, images)[0]


UPDATES = {
    "dc": gradient_matching,
    "dsa": gradient_matching,
    "dm": distribution_matching,
    "cafe": feature_alignment,
}


def colour(images, brightness, saturation, contrast):
    """DSA's colour, each strength a draw from 0 to 1."""
    images = images + brightness - 0.5
    mean = images.mean(1, keepdim=True)
    images = (images - mean) * (2 * saturation) + mean
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def shifted(images, rows, cols):
    """DSA's crop: pixels from so many rows and columns on, zero outside."""
    _, _, height, width = images.shape
    pad = max(abs(rows), abs(cols))
    padded = F.pad(images, (pad,) * 4)
    return padded[:, :, pad + rows : pad + rows + height, pad + cols : pad + cols + width]


def cut_out(images, row, col):
    """DSA's cutout: a square of half the side around a place is zero."""
    side = images.shape[2]
    hole = int(side * 0.5 + 0.5)
    there = torch.arange(hole, device=images.device) - hole // 2
    rows, cols = ((there + place).clamp(0, side - 1) for place in (row, col))
    mask = torch.ones((side, side), dtype=images.dtype, device=images.device)
    mask[rows[:, None], cols[None]] = 0
    return images * mask


def transformed(images, matrix):
    """The images by an affine map about the centre, bilinear, zero outside."""
    theta = torch.as_tensor(matrix, dtype=images.dtype, device=images.device)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), images.shape, align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


def scaled(images, x, y):
    """DSA's scale, each strength a draw from 0 to 1."""
    low = 1 / 1.2
    x, y = (draw * (1.2 - low) + low for draw in (x, y))
    return transformed(images, [[x, 0.0, 0.0], [0.0, y, 0.0]])


def rotated(images, draw):
    """DSA's rotation by up to 15 degrees."""
    angle = (draw - 0.5) * 2 * math.pi * 15 / 180
    cosine, sine = math.cos(angle), math.sin(angle)
    return transformed(images, [[cosine, sine * -1, 0.0], [sine, cosine, 0.0]])


def siamese(seed):
    """`augment_fn(label, images)`: an operation and its strengths, drawn once for each class."""

    def augment(label, images):
        generator = torch.Generator().manual_seed(seed + label)
        draws = torch.rand(3, generator=generator).tolist()
        pad = int(images.shape[2] * 0.125 + 0.5)
        places = torch.randint(-pad, pad + 1, (2,), generator=generator).tolist()
        holes = torch.randint(0, images.shape[2] + 1, (2,), generator=generator).tolist()
        operations = (
            lambda: colour(images, *draws),
            lambda: shifted(images, *places),
            lambda: cut_out(images, *holes),
            lambda: images.flip(3) if draws[0] < 0.5 else images,
            lambda: scaled(images, *draws[:2]),
            lambda: rotated(images, draws[0]),
        )
        return operations[int(torch.randint(6, (), generator=generator))]()

    return augment
