"""Differentiable Siamese augmentation (DSA): Zhao and Bilen, ICML 2021.

Each operation is a pure function of the images and of explicit draws, one per image, and is
differentiable in the images. Uniform draws lie in [0, 1). `augment` makes the draws.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float, Int, Real

from ddpp_jax._types import OPERATIONS, Images, PRNGKey

Uniform = Float[Array, " images"]
Integers = Int[Array, " images"]
Places = Real[Array, "images _side"]


def brightness(images: Images, uniform: Uniform, *, strength: float = 1.0) -> Images:
    """The images, each shifted by (uniform - 1/2) * strength in all pixels and channels.

    Args:
        images: in any units; the shift is in the same ones.
        uniform: a draw in [0, 1) for each image.
        strength: the width of the interval of shifts.
    """
    return images + (_per_image(uniform) - 0.5) * strength


def saturation(images: Images, uniform: Uniform, *, strength: float = 2.0) -> Images:
    """The images, each pixel's distance from its mean over channels scaled by uniform * strength.

    Args:
        images: of any number of channels; a single channel stays as it is.
        uniform: a draw in [0, 1) for each image.
        strength: the largest factor; 0 is grey, 1 leaves the image.
    """
    grey = jnp.mean(images, axis=3, keepdims=True)
    return (images - grey) * (_per_image(uniform) * strength) + grey


def contrast(images: Images, uniform: Uniform, *, strength: float = 0.5) -> Images:
    """The images, each pixel's distance from its image's mean scaled by uniform + strength.

    Args:
        images: in any units.
        uniform: a draw in [0, 1) for each image.
        strength: the smallest factor; the largest is one more.
    """
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * (_per_image(uniform) + strength) + mean


def crop(images: Images, shift_rows: Integers, shift_cols: Integers) -> Images:
    """The images, each moved against its shift, with zeros where nothing comes in.

    Output pixel (r, c) is input pixel (r + shift_rows, c + shift_cols).

    Args:
        images: in units in which 0 is a neutral value.
        shift_rows: whole pixels for each image; DSA draws them within an eighth of the height.
        shift_cols: whole pixels for each image, likewise of the width.
    """
    _, height, width, _ = images.shape
    rows = shift_rows[:, None] + jnp.arange(height, dtype=shift_rows.dtype)[None, :]
    cols = shift_cols[:, None] + jnp.arange(width, dtype=shift_cols.dtype)[None, :]
    return _resample(images, rows, cols)


def cutout(
    images: Images, hole_row: Integers, hole_col: Integers, *, fraction: float = 0.5
) -> Images:
    """The images, each with a square hole of zeros around its own centre.

    The hole is cut where it leaves the image. An even side extends one pixel further to the top and
    to the left of the centre than to the other side.

    Args:
        images: in units in which 0 is a neutral value.
        hole_row: the centre's row for each image, from 0 to the height (exclusive for odd holes).
        hole_col: the centre's column for each image, likewise.
        fraction: the hole's side as a share of the image's, rounded to whole pixels.
    """
    in_rows = _in_hole(hole_row, images.shape[1], fraction)
    in_cols = _in_hole(hole_col, images.shape[2], fraction)
    hole = in_rows[:, :, None, None] & in_cols[:, None, :, None]
    return jnp.where(hole, 0, images)


def flip(images: Images, uniform: Uniform, *, probability: float = 0.5) -> Images:
    """The images, mirrored left to right where the draw is below the probability.

    Args:
        images: in any units.
        uniform: a draw in [0, 1) for each image.
        probability: the share of images that are mirrored.
    """
    return jnp.where(_per_image(uniform) < probability, images[:, :, ::-1, :], images)


def scale(
    images: Images, uniform_x: Uniform, uniform_y: Uniform, *, strength: float = 1.2
) -> Images:
    """The images, stretched about their centre by a factor per axis, bilinear, zeros outside.

    The sampling grid is scaled by 1/strength + uniform * (strength - 1/strength), so that a factor
    above 1 shrinks the content.

    Args:
        images: in units in which 0 is a neutral value.
        uniform_x: a draw in [0, 1) for each image's columns.
        uniform_y: a draw in [0, 1) for each image's rows.
        strength: the largest factor, above 1; the smallest is its inverse.
    """
    low, high = 1 / strength, strength
    _, height, width, _ = images.shape
    y = (low + uniform_y * (high - low))[:, None] * _centres(height, uniform_y.dtype)[None, :]
    x = (low + uniform_x * (high - low))[:, None] * _centres(width, uniform_x.dtype)[None, :]
    return _resample(images, _to_pixels(y, height), _to_pixels(x, width))


def rotate(images: Images, uniform: Uniform, *, degrees: float = 15.0) -> Images:
    """The images, each turned about its centre, bilinear, zeros outside.

    The angle is (2 * uniform - 1) * degrees. Coordinates run from -1 to 1 along both axes, so
    images that are not square are sheared, as in DSA.

    Args:
        images: in units in which 0 is a neutral value.
        uniform: a draw in [0, 1) for each image.
        degrees: the largest angle, in degrees.
    """
    _, height, width, _ = images.shape
    angle = ((uniform - 0.5) * (2 * degrees * jnp.pi / 180))[:, None, None]
    y = _centres(height, angle.dtype)[None, :, None]
    x = _centres(width, angle.dtype)[None, None, :]
    grid_x = jnp.cos(angle) * x - jnp.sin(angle) * y
    grid_y = jnp.sin(angle) * x + jnp.cos(angle) * y
    places = [_to_pixels(grid_y, height), _to_pixels(grid_x, width)]
    sample = jax.vmap(partial(map_coordinates, order=1), (2, None), 2)  # Over channels.
    return jax.vmap(sample)(images, places)


def augment(key: PRNGKey, images: Images, *, operations: Sequence[str] = OPERATIONS) -> Images:
    """The images after one operation of DSA, drawn for the call, with its own strength per image.

    Strengths are the published ones: brightness 1, saturation 2, contrast 0.5, crop 1/8 of the
    side, cutout 1/2, flip 1/2, scale 1.2, rotate 15 degrees.

    Args:
        key: decides the operation and every draw.
        images: normalised or whitened, so that 0 is a neutral value.
        operations: the names to choose from with equal chance, from `OPERATIONS`; none leaves the
            images as they are.

    Returns:
        Images of the same shape and dtype, differentiable in `images`.

    Raises:
        ValueError: an operation's name is unknown.
    """
    for name in operations:
        if name not in _DRAWN:
            raise ValueError(f"unknown operation {name!r}; wanted some of {', '.join(OPERATIONS)}")
    if not operations:
        return images
    choice_key, draw_key = jax.random.split(key)
    branches = [_DRAWN[name] for name in operations]
    choice = jax.random.randint(choice_key, (), 0, len(branches), jnp.int32)
    return lax.switch(choice, branches, draw_key, images)


def _per_image(draws: Uniform) -> Float[Array, "images 1 1 1"]:
    return draws[:, None, None, None]


def _uniform(key: PRNGKey, images: Images) -> Uniform:
    return jax.random.uniform(key, images.shape[:1], images.dtype)


def _integers(key: PRNGKey, images: Images, low: int, high: int) -> Integers:
    return jax.random.randint(key, images.shape[:1], low, high, jnp.int32)


def _drawn_color(key: PRNGKey, images: Images) -> Images:
    for place, operation in enumerate((brightness, saturation, contrast)):
        images = operation(images, _uniform(jax.random.fold_in(key, place), images))
    return images


def _drawn_crop(key: PRNGKey, images: Images) -> Images:
    row_key, col_key = jax.random.split(key)
    rows, cols = (int(side * 0.125 + 0.5) for side in images.shape[1:3])
    return crop(
        images,
        _integers(row_key, images, -rows, rows + 1),
        _integers(col_key, images, -cols, cols + 1),
    )


def _drawn_cutout(key: PRNGKey, images: Images) -> Images:
    row_key, col_key = jax.random.split(key)
    height, width = images.shape[1:3]
    return cutout(
        images,
        _integers(row_key, images, 0, height + 1 - _hole_side(height, 0.5) % 2),
        _integers(col_key, images, 0, width + 1 - _hole_side(width, 0.5) % 2),
    )


def _drawn_scale(key: PRNGKey, images: Images) -> Images:
    x_key, y_key = jax.random.split(key)
    return scale(images, _uniform(x_key, images), _uniform(y_key, images))


_DRAWN: dict[str, Callable[[PRNGKey, Images], Images]] = {
    "color": _drawn_color,
    "crop": _drawn_crop,
    "cutout": _drawn_cutout,
    "flip": lambda key, images: flip(images, _uniform(key, images)),
    "scale": _drawn_scale,
    "rotate": lambda key, images: rotate(images, _uniform(key, images)),
}


def _hole_side(side: int, fraction: float) -> int:
    return int(side * fraction + 0.5)


def _in_hole(centre: Integers, side: int, fraction: float) -> Bool[Array, "images side"]:
    length = _hole_side(side, fraction)
    # DSA clamps the hole to the image, so one that lies outside still marks the border pixel.
    first = jnp.clip(centre - length // 2, 0, side - 1)[:, None]
    last = jnp.clip(centre - length // 2 + length - 1, 0, side - 1)[:, None]
    position = jnp.arange(side, dtype=centre.dtype)[None, :]
    return (position >= first) & (position <= last)


def _centres(side: int, dtype: jnp.dtype) -> Float[Array, " _side"]:
    """Pixel centres along an axis that runs from -1 to 1 between the outer borders."""
    return (2 * jnp.arange(side, dtype=dtype) + 1) / side - 1


def _to_pixels(coordinate: Float[Array, "..."], side: int) -> Float[Array, "..."]:
    return ((coordinate + 1) * side - 1) / 2


def _resample(images: Images, rows: Places, cols: Places) -> Images:
    """The images sampled at rows and columns, linear between pixels, zeros outside.

    Written as products, which are fast in both directions of differentiation.
    """
    by_row, by_col = (_weights(places).astype(images.dtype) for places in (rows, cols))
    highest = lax.Precision.HIGHEST
    moved = jnp.einsum("noh,nhwc->nowc", by_row, images, precision=highest)
    return jnp.einsum("npw,nowc->nopc", by_col, moved, precision=highest)


def _weights(places: Places) -> Real[Array, "images side side"]:
    """The share of each pixel (last axis) in what is sampled at each place."""
    pixels = jnp.arange(places.shape[1], dtype=places.dtype)
    return jnp.maximum(0, 1 - jnp.abs(places[:, :, None] - pixels[None, None, :]))
