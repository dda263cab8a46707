"""The ConvNet and its layers; the logits are held to golden numbers."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ddpp_jax.configs import ModelConfig
from ddpp_jax.errors import InputError
from ddpp_jax.networks import ConvNet, convolution, make_model, make_network
from ddpp_jax.networks.convolution import by_lax, by_rules, by_slices, convolve
from ddpp_jax.networks.layers import average_pool

KEYS = jax.random.split(jax.random.key(0), 3)
IMAGES = jax.random.normal(KEYS[0], (4, 9, 6, 5))
KERNEL = jax.random.normal(KEYS[1], (3, 3, 5, 7))


def curvature(conv, images, kernel):
    """A scalar whose gradient takes two derivatives of the convolution, in both arguments."""

    def energy(images, kernel):
        return jnp.sum(jnp.tanh(conv(images, kernel)) ** 2)

    gradients = jax.grad(energy, argnums=(0, 1))(images, kernel)
    return sum(jnp.sum(jnp.sin(gradient)) for gradient in gradients)


PRECISIONS = ("default", "highest", "bfloat16")
MANY = jax.random.normal(KEYS[0], (2, 5, 6, 17))  # Channels enough for the other branch.
MANY_KERNEL = 0.1 * jax.random.normal(KEYS[1], (3, 3, 17, 4))


@pytest.mark.parametrize("form", [by_slices, by_rules])
@pytest.mark.parametrize("arguments", [(IMAGES, KERNEL), (MANY, MANY_KERNEL)])
def test_all_convolutions_agree_to_rounding_in_every_derivative(form, arguments):
    def found(conv):
        both = (0, 1)
        curved = partial(curvature, conv)
        along = jax.jvp(jax.grad(curved, both), arguments, arguments)[1]
        return conv(*arguments), jax.grad(curved, both)(*arguments), along

    close = partial(np.testing.assert_allclose, rtol=2e-3)
    scaled = [
        jax.tree.map(lambda x, y: x / jnp.abs(y).max(), found(conv), found(by_lax))
        for conv in (form, by_lax)
    ]
    jax.tree.map(partial(close, atol=1e-4), *scaled)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("side", "channels"), [(3, 2), (3, 17), (5, 17)])
def test_derivatives_of_the_convolution_against_finite_differences(side, channels):
    images = jax.random.normal(KEYS[0], (2, 4, 3, channels), jnp.float64)
    kernel = jax.random.normal(KEYS[1], (side, side, channels, 2), jnp.float64)

    def form(*arguments):
        return by_rules(*map(jnp.asarray, arguments))

    check_grads(form, (images, kernel), order=2, modes=["fwd", "rev"], rtol=1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_several_convolutions_at_once_are_each_alone(axes):
    images = MANY if axes[0] is None else jnp.stack([MANY, 2 - MANY])
    kernel = MANY_KERNEL if axes[1] is None else jnp.stack([MANY_KERNEL, 1 - MANY_KERNEL])

    def gradients(form):
        return jax.grad(partial(curvature, form), argnums=(0, 1))

    together = jax.vmap(gradients(by_rules), in_axes=axes)(images, kernel)
    alone = jax.vmap(gradients(by_lax), in_axes=axes)(images, kernel)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4 * np.abs(b).max())


@pytest.mark.parametrize(("platform", "native"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_the_platform_compiled_for_decides_on_the_convolution(platform, native):
    traced = jax.jit(jax.grad(partial(curvature, convolve), argnums=(0, 1))).trace(
        MANY, MANY_KERNEL
    )
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    # The CPU has no fast program for sums over the batch or for a kernel that is turned in place.
    forms = set(re.findall(r"dim_numbers = ([^,]*, [^,]*, [^>]*>?[^,]*)", program))
    kernels = set(re.findall(r"x\[([^\]]*)\]->", program))
    turned = "reverse = [true" in program
    assert "stablehlo.convolution" in program
    assert (turned or kernels != {"0, 1, i, o"}) is native, (forms, kernels)
    assert ("stablehlo.concatenate" in program) is not native


def test_pooling_drops_an_odd_border():
    images = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(average_pool(images)[0, :, :, 0], [[3, 5]])


@pytest.mark.parametrize("channels", [1, 3])
def test_initialisation_is_pytorchs(channels):
    model = ConvNet(classes=10, width=64, depth=2, image_size=16, channels=channels)
    params = model.init(KEYS[2], jnp.zeros((1, 16, 16, channels)))["params"]
    fan_ins = {"Conv3x3_0": 9 * channels, "Conv3x3_1": 9 * 64, "Dense_0": 16 * 64}
    for layer, fan_in in fan_ins.items():
        for leaf in params[layer].values():
            assert 0.8 / fan_in**0.5 < np.abs(leaf).max() <= 1 / fan_in**0.5
        deviation = params[layer]["kernel"].std()
        assert deviation == pytest.approx((1 / 3 / fan_in) ** 0.5, rel=0.1)
    np.testing.assert_array_equal(params["InstanceNorm_0"]["scale"], np.ones(64))
    np.testing.assert_array_equal(params["InstanceNorm_0"]["shift"], np.zeros(64))


def test_norm_is_per_image_and_channel():
    model = ConvNet(classes=3, width=8, depth=1, image_size=8)
    images = jax.random.normal(KEYS[0], (5, 8, 8, 3))
    variables = model.init(KEYS[1], images)
    together = model.apply(variables, images)
    alone = jnp.concatenate([model.apply(variables, images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_too_small_an_image_is_refused_with_a_way_out():
    with pytest.raises(InputError, match=r"8x8 are too small for depth 4.*--depth 3 or less"):
        make_network(ConvNet(classes=2, depth=4, image_size=8, channels=1), (8, 8, 1))


def test_wrong_image_shape_is_refused():
    model = ConvNet(classes=2, width=4, depth=1, image_size=8)
    with pytest.raises(InputError, match=r"\(8, 8, 1\).*\(8, 8, 3\)"):
        make_network(model, (8, 8, 1))


LEAST = {"convnet": 8, "convnet5": 32, "alexnet": 8, "vgg11": 32, "resnet18": 25, "resnet18-ap": 8}


def shape_of(name, size, channels, width=4):
    model = make_model(
        name, ModelConfig(width=width), classes=7, image_size=size, channels=channels
    )
    network = make_network(model, (size, size, channels))
    params = jax.eval_shape(network.init_fn, KEYS[0])
    images = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    features = jax.eval_shape(network.features_fn, params, images)
    assert features.shape[0] == 2
    assert params["Dense_0"]["kernel"].shape == (features.shape[1], 7)
    return jax.eval_shape(network.apply_fn, params, images).shape


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_architecture_takes_grey_and_colour_and_other_sizes(name, channels):
    for size in {LEAST[name], 28, 32, 50, 112}:
        if size >= LEAST[name]:
            assert shape_of(name, size, channels) == (2, 7)
    with pytest.raises(InputError, match=r"are too small for"):
        shape_of(name, LEAST[name] - 1, channels)


@pytest.mark.parametrize("name", LEAST)
def test_every_architecture_scales_with_its_width(name):
    def counted(width):
        model = make_model(name, ModelConfig(width=width), classes=7, image_size=32, channels=3)
        return make_network(model, (32, 32, 3)).num_params

    assert 11 < counted(128) / counted(32) < 16.5


def test_an_unknown_architecture_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"no architecture 'lenet'.*convnet, alexnet, vgg11"):
        shape_of("lenet", 32, 3)


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (1, 2), (3, 2), (5, 1), (5, 2)])
def test_both_convolutions_agree_for_every_kernel_and_stride(side, stride):
    kernel = jax.random.normal(KEYS[1], (side, side, 5, 3))
    for images in (IMAGES, IMAGES[:, :8, :5]):
        slices, native = (form(images, kernel, stride=stride) for form in (by_slices, by_lax))
        np.testing.assert_allclose(slices, native, rtol=1e-4, atol=1e-4)


def test_network_speaks_of_one_vector():
    network = make_network(
        ConvNet(classes=10, width=32, depth=2, image_size=8, channels=1), (8, 8, 1)
    )
    assert network.num_params == 10_986
    assert network.names[:2] == ("Conv3x3_0/bias", "Conv3x3_0/kernel")
    params = network.init_fn(KEYS[0])
    leaves = jax.tree.leaves(params)
    assert len(leaves) == len(network.names)
    assert sum(leaf.size for leaf in leaves) == network.num_params
    assert network.apply_fn(params, jnp.zeros((3, 8, 8, 1))).shape == (3, 10)


def test_precision_of_the_products():
    model = ConvNet(classes=5, width=16, depth=2, image_size=8)
    networks = {name: make_network(model, (8, 8, 3), precision=name) for name in PRECISIONS}
    params = networks["default"].init_fn(KEYS[0])
    images = jax.random.normal(KEYS[1], (4, 8, 8, 3))

    def loss(params, name):
        return jnp.mean(networks[name].apply_fn(params, images) ** 2)

    found = {name: jax.value_and_grad(loss)(params, name) for name in PRECISIONS}
    (full, gradient), (half, rounded) = found["highest"], found["bfloat16"]
    assert half.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    assert 0 < abs(half / full - 1) < 0.02
    for a, b in zip(jax.tree.leaves(rounded), jax.tree.leaves(gradient), strict=True):
        assert jnp.linalg.norm(a - b) < 0.1 * jnp.linalg.norm(gradient["Dense_0"]["kernel"])

    def on_a_gpu(name):
        traced = jax.jit(jax.grad(loss), static_argnums=1).trace(params, name)
        return traced.lower(lowering_platforms=("cuda",)).as_text()

    assert "HIGHEST" in on_a_gpu("highest")
    assert "HIGHEST" not in on_a_gpu("default")
    assert not re.search(r"convolution.*f32", on_a_gpu("bfloat16"))


def test_parts_fit_the_caches():
    def at_once(name, width, size, channels=3):
        model = make_model(
            name, ModelConfig(width=width), classes=10, image_size=size, channels=channels
        )
        return make_network(model, (size, size, channels))

    large, small = at_once("convnet3", 128, 32), at_once("convnet2", 32, 8, 1)
    assert large.at_once == 320_010 // (32 * 32 * 128)  # No fewer than outweigh the parameters.
    assert small.at_once == 2**18 // (8 * 8 * 32)
    assert at_once("convnet5", 128, 112).at_once == 1
    assert [large.parts(size) for size in (1, 2, 10, 7, 256)] == [1, 1, 5, 7, 128]
    assert [small.parts(size) for size in (10, 128, 256, 384, 257)] == [1, 1, 2, 3, 1]
    model = make_model("vgg11", ModelConfig(width=32), classes=9, image_size=32, channels=3)
    full, half = (make_network(model, (32, 32, 3), precision=p) for p in PRECISIONS[1:])
    assert full.at_once == half.at_once  # Parameters that are rounded are no activations.


def test_a_convolution_outside_of_a_program_is_compiled_once():
    compiled = convolution._convolution.impl
    by_rules(MANY, MANY_KERNEL)
    size = compiled._cache_size()
    by_rules(2 * MANY, MANY_KERNEL)
    assert compiled._cache_size() == size
