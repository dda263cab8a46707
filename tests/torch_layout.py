"""Golden files in PyTorch's layout, read as this library's arrays."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ddpp_jax.methods import Pool

GOLDENS = Path(__file__).parent / "goldens"


def load(name):
    """All arrays of one golden file."""
    with np.load(GOLDENS / name, allow_pickle=False) as file:
        return dict(file)


def images(array):
    """NCHW to NHWC."""
    return jnp.asarray(np.moveaxis(array, 1, 3))


def pool(*real):
    """Real images of each class, (class, image, C, H, W), as a training set sorted by class."""
    by_class = np.concatenate(real, axis=1)
    classes, count = by_class.shape[:2]
    flat = jnp.asarray(
        np.moveaxis(by_class, 2, 4).reshape(-1, *np.moveaxis(by_class, 2, 4).shape[2:])
    )
    places = jnp.arange(classes * count).reshape(classes, count)
    return Pool(flat, places, jnp.full(classes, count))


def convnet_params(vector, shapes, *, side):
    """A ConvNet's Linen tree from a flat vector of PyTorch tensors.

    `side` is the height and width of the features before the linear layer, which PyTorch flattens
    channel by channel. Booleans pass through, so masks convert as parameters do.
    """
    tensors = _tensors(vector, shapes)
    blocks, (weight, bias) = tensors[:-2], tensors[-2:]
    params = {}
    for block in range(len(blocks) // 4):
        kernel, conv_bias, scale, shift = blocks[4 * block : 4 * block + 4]
        params[f"Conv3x3_{block}"] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": conv_bias}
        params[f"InstanceNorm_{block}"] = {"scale": scale, "shift": shift}
    by_place = weight.reshape(weight.shape[0], -1, side, side).transpose(2, 3, 1, 0)
    params["Dense_0"] = {"kernel": by_place.reshape(-1, weight.shape[0]), "bias": bias}
    return {
        layer: {name: jnp.asarray(value) for name, value in leaves.items()}
        for layer, leaves in params.items()
    }


def params(vector, shapes, template, *, side):
    """A Linen tree from a flat vector of PyTorch tensors that come in the order of `template`.

    `template` is what `init` returns: its modules stand in the order in which they are called, each
    with its kernel or scale before its bias or shift.
    """
    tensors = iter(_tensors(vector, shapes))

    def convert(tree):
        if isinstance(tree, dict):
            return {name: convert(branch) for name, branch in tree.items()}
        tensor = next(tensors)
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
        elif tensor.ndim == 2:
            by_place = tensor.reshape(tensor.shape[0], -1, side, side).transpose(2, 3, 1, 0)
            tensor = by_place.reshape(-1, tensor.shape[0])
        assert tensor.shape == tree.shape
        return jnp.asarray(tensor)

    converted = convert(template)
    assert next(tensors, None) is None
    return converted


def _tensors(vector, shapes):
    tensors, offset = [], 0
    for _, shape in json.loads(str(shapes)):
        size = int(np.prod(shape))
        tensors.append(vector[offset : offset + size].reshape(shape))
        offset += size
    assert offset == vector.size
    return tensors


def formula_vector(shapes):
    """The weights that `architectures.npz` was made with, as one flat vector."""
    parts = []
    for k, (name, shape) in enumerate(json.loads(str(shapes))):
        size = int(np.prod(shape))
        wave = np.sin(0.37 * np.arange(size) + k)
        if len(shape) > 1:
            parts.append(wave * np.sqrt(2 / (size / shape[0])))
        elif name.endswith("weight"):
            parts.append(1 + 0.1 * wave)
        else:
            parts.append(0.1 * wave)
    return np.concatenate(parts)
