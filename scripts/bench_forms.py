"""Forms of the convolution and of the unrolled student that were tried and not taken."""

import jax
import jax.numpy as jnp
from jax import lax

from ddpp_jax.core import value_and_gradient
from ddpp_jax.networks.convolution import by_slices


def _rows(values):
    """B^T d: the four combinations of four neighbours, along the axis that the list stands for."""
    a, b, c, d = values
    return [a - c, b + c, c - b, b - d]


def winograd(images, kernel, *, stride=1):
    """Lavin and Gray's F(2x2, 3x3): 16 products for four outputs where 36 are plain."""
    count, height, width, channels = images.shape
    if kernel.shape[0] != 3 or stride > 1 or height % 2 or width % 2 or channels < 16:
        return by_slices(images, kernel, stride=stride)
    features = kernel.shape[3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    strips = _rows([padded[:, i : i + height - 1 : 2] for i in range(4)])
    tiles = [t for s in strips for t in _rows([s[:, :, j : j + width - 1 : 2] for j in range(4)])]
    tiles = jnp.stack(tiles).reshape(16, -1, channels)

    def spread(three):
        a, b, c = three
        return [a, (a + b + c) / 2, (a - b + c) / 2, c]

    weights = jnp.stack([w for row in spread(list(kernel)) for w in spread(list(row))])
    products = jnp.einsum("atc,acn->atn", tiles, weights)
    products = products.reshape(4, 4, count, height // 2, width // 2, features)

    def gather(four):
        a, b, c, d = four
        return [a + b + c, b - c - d]

    out = jnp.stack([jnp.stack(gather(list(row))) for row in gather(list(products))])
    return out.transpose(2, 3, 0, 4, 1, 5).reshape(count, height, width, features)


def _step(loss_fn, batch_fn, lr, parts):
    def step(params, x):
        loss, gradient = value_and_gradient(loss_fn, params, batch_fn(x), parts=parts)
        return jax.tree.map(lambda p, g: p - lr * g, params, gradient), loss

    return step


def checkpointed_unroll(loss_fn, params, xs, *, lr, batch_fn, parts):
    """The student by plain autodiff, each step checkpointed."""
    step = jax.checkpoint(_step(loss_fn, batch_fn, lr, parts), prevent_cse=False)
    return lax.scan(step, params, xs)


def segmented_unroll(loss_fn, params, xs, *, lr, batch_fn, parts):
    """The student in segments of about the square root of J steps, whose starts alone are kept."""
    import ddpp_jax

    steps = jax.tree.leaves(xs)[0].shape[0]
    size = max(n for n in range(1, int(steps**0.5) + 1) if steps % n == 0)
    cut = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), xs)

    def segment(params, xs):
        return ddpp_jax.unroll(loss_fn, params, xs, lr=lr, batch_fn=batch_fn, parts=parts)

    params, losses = lax.scan(jax.checkpoint(segment, prevent_cse=False), params, cut)
    return params, losses.reshape(-1)
