"""Pictures of shapes with noise as a dataset: `python scripts/shapes.py OUT.npz --help`.

Classes differ by shape (disc, square, triangle, cross, ring), by a hole in it, and by stripes;
place, size, angle and brightness are drawn for each picture.
"""

import argparse
from pathlib import Path

import numpy as np

NOISE = 0.35
TEST = 100
"""Test images of each class: of fewer, chance decides too much."""
TAIL = 8
"""A long tail: so many times the last class has half of what comes before."""


def mask(label, size, rng):
    """Where the shape of a class lies in one picture."""
    kind, kin = label % 5, label // 5
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    (dx, dy), radius = rng.uniform(-0.25, 0.25, 2), rng.uniform(0.4, 0.65)
    angle = rng.uniform(-0.3, 0.3) + 0.5 * kin
    u = (x - dx) * np.cos(angle) - (y - dy) * np.sin(angle)
    v = (x - dx) * np.sin(angle) + (y - dy) * np.cos(angle)
    square = np.maximum(np.abs(u), np.abs(v))
    found = (
        u**2 + v**2 < radius**2,
        square < 0.85 * radius,
        (v > -radius) & (v < radius) & (np.abs(u) < 0.55 * (v + radius)),
        (square < radius) & (np.minimum(np.abs(u), np.abs(v)) < 0.25 * radius),
        (u**2 + v**2 < radius**2) & (u**2 + v**2 > (0.6 * radius) ** 2),
    )[kind]
    if kin % 2:
        found &= (u > -0.1) if kind == 4 else (square > 0.3 * radius)
    return found & (np.sin(8 * u) > -0.3) if kin >= 2 else found


def part(rng, classes, size, counts, channels):
    """Pictures and labels, so many of each class."""
    images, labels = [], np.repeat(np.arange(classes), counts)
    for label in labels:
        bright = mask(label, size, rng)[..., None] * rng.uniform(0.5, 1, channels)
        noisy = bright + 0.2 + NOISE * rng.normal(size=(size, size, channels))
        images.append(np.clip(200 * noisy, 0, 255).astype(np.uint8))
    return np.stack(images), labels


def write(path, *, classes, size, count, channels=1, tail=False, seed=0):
    """Write a dataset with `TEST` test images of each class; a tail leaves later classes fewer."""
    rng = np.random.default_rng(seed)
    falls = 0.5 ** (np.arange(classes) * TAIL / classes) if tail else np.ones(classes)
    counts = np.maximum(6, (count * falls).astype(int))
    x_train, y_train = part(rng, classes, size, counts, channels)
    x_test, y_test = part(rng, classes, size, np.full(classes, TEST), channels)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--size", type=int, default=28, help="pixels a side")
    parser.add_argument("--count", type=int, default=200, help="training images of a class")
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--tail", action="store_true", help="later classes have fewer images")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    write(given.pop("out"), **given)


if __name__ == "__main__":
    main()
