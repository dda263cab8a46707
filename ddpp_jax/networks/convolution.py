"""The convolution, in the forms that are fast on each platform and in every derivative.

On the CPU XLA has a fast program for one form of convolution alone: batch first, features last, the
kernel as it is. Those that autodiff makes of it, with a kernel turned round or the batch summed
over, run one or two orders of magnitude slower. So here a convolution is an operation of its own
whose derivatives are again convolutions of that form, or one matrix product, at any order.
"""

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from ddpp_jax._types import FloatArray, Images

Kernel: TypeAlias = Float[Array, "side side channels features"]
Features: TypeAlias = Float[Array, "images rows cols features"]

_FEW_CHANNELS = 16
"""Below these, slices and one product are faster than XLA's convolution on the CPU."""


def convolve(images: Images, kernel: Kernel, *, stride: int = 1) -> Features:
    """The convolution of the images with a kernel of odd side, zero-padded by half of it.

    The choice is made when a program is lowered: for the CPU `by_rules`, or with a stride
    `by_slices`; `by_lax` elsewhere. They agree to rounding.

    Args:
        images: shape (images, height, width, channels).
        kernel: shape (side, side, channels, features).
        stride: pixels from one place to the next.
    """
    for_cpu = by_rules if stride == 1 else partial(by_slices, stride=stride)
    return lax.platform_dependent(
        images, kernel, cpu=for_cpu, default=partial(by_lax, stride=stride)
    )


def by_rules(images: Images, kernel: Kernel) -> Features:
    """The convolution as an operation whose derivatives, of every order, stay fast on the CPU."""
    return _convolution.bind(images, kernel)


def by_slices(images: Images, kernel: Kernel, *, stride: int = 1) -> Features:
    """The convolution as shifted slices side by side, times the kernel as one matrix."""
    slices = _slices(images, kernel.shape[0], stride)
    return slices @ kernel.reshape(-1, kernel.shape[3])


def by_lax(images: Images, kernel: Kernel, *, stride: int = 1) -> Features:
    """The convolution as XLA's own."""
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _slices(images: Images, side: int, stride: int) -> Features:
    pad = side // 2
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    shifted = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(side)
        for j in range(side)
    ]
    return jnp.concatenate(shifted, axis=3)


def _convolved(images: Images, kernel: Kernel) -> Features:
    form = by_slices if kernel.shape[2] < _FEW_CHANNELS else by_lax
    return form(images, kernel)


def _correlated(images: Images, features: Features, *, side: int) -> Kernel:
    """What the convolution's kernel gets from each pair of a pixel and a feature near it."""
    slices = _slices(images, side, 1)
    products = slices.reshape(-1, slices.shape[3]).T @ features.reshape(-1, features.shape[3])
    return products.reshape(side, side, images.shape[3], features.shape[3])


def _turned(kernel: FloatArray) -> Array:
    """The kernel that leads from features back to images, as an array of its own.

    The barrier keeps XLA from folding the turn into a form of convolution that is slow.
    """
    return lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def _bilinear(name: str, fn: Any) -> Primitive:
    primitive = Primitive(name)

    def shape(*arrays: ShapedArray, **settings: Any) -> ShapedArray:
        found = jax.eval_shape(partial(fn, **settings), *arrays)
        return ShapedArray(found.shape, found.dtype)

    def batched(arrays: Any, axes: Any, **settings: Any) -> tuple[Array, int]:
        if fn is _convolved and axes[1] is None:
            images = jnp.moveaxis(arrays[0], axes[0], 0)
            found = primitive.bind(images.reshape(-1, *images.shape[2:]), arrays[1])
            return found.reshape(*images.shape[:2], *found.shape[1:]), 0
        # Over several kernels at once XLA has no fast convolution: products are batched instead.
        plain = by_slices if fn is _convolved else fn
        return jax.vmap(partial(plain, **settings), in_axes=axes)(*arrays), 0

    primitive.def_impl(jax.jit(fn, static_argnames="side" if fn is _correlated else ()))
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(fn, multiple_results=False))
    batching.primitive_batchers[primitive] = batched
    return primitive


_convolution = _bilinear("convolution_same", _convolved)
_correlation = _bilinear("correlation_same", _correlated)

# The cotangents of a bilinear operation are linear in the other argument, so each of the two is
# made of the other one, and forward mode, reverse mode and all their mixtures follow.
ad.defbilinear(
    _convolution,
    lambda bar, images, kernel: _convolution.bind(bar, _turned(kernel)),
    lambda bar, images, kernel: _correlation.bind(images, bar, side=kernel.aval.shape[0]),
)
ad.defbilinear(
    _correlation,
    lambda bar, images, features, side: _convolution.bind(features, _turned(bar)),
    lambda bar, images, features, side: _convolution.bind(images, bar),
)
