"""Layer 1 and the ConvNet against an independent PyTorch reference in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_layout

import ddpp_jax
from ddpp_jax.configs import ModelConfig
from ddpp_jax.networks import ConvNet, make_model

pytestmark = pytest.mark.usefixtures("float64")


def close(actual, expected, rtol):
    """Within `rtol` of the largest entry, entry by entry."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


class Case:
    """One trajectory file as a distillation problem."""

    def __init__(self, name, depth, width, classes):
        self.golden = torch_layout.load(name)
        self.model = ConvNet(classes=classes, width=width, depth=depth, image_size=16, channels=3)
        self.side = 16 >> depth
        self.images = torch_layout.images(self.golden["images"])
        self.labels = jnp.asarray(self.golden["labels"])
        self.batches = jnp.asarray(self.golden["batches"])
        self.lr = jnp.asarray(self.golden["lr"])

    def params(self, name):
        return torch_layout.convnet_params(self.golden[name], self.golden["shapes"], side=self.side)

    def student(self, images, lr, *, remat=True):
        def loss_fn(params, batch):
            logits = self.model.apply({"params": params}, images[batch])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, self.labels[batch])
            return losses.mean()

        return ddpp_jax.unroll(loss_fn, self.params("start"), self.batches, lr=lr, remat=remat)

    def loss(self, images, lr, *, threshold, remat=True):
        student, _ = self.student(images, lr, remat=remat)
        target, start = self.params("target"), self.params("start")
        mask = None
        if threshold is not None:
            mask = ddpp_jax.prune_mask(student, target, threshold=threshold)
        return ddpp_jax.trajectory_loss(student, target, start, mask=mask), mask


CASES = {
    "full set": partial(Case, "trajectory_small_f64.npz", depth=2, width=8, classes=4),
    "minibatches": partial(Case, "trajectory_minibatch_f64.npz", depth=3, width=6, classes=5),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def test_student_after_all_steps(case):
    student, _ = jax.jit(case.student)(case.images, case.lr)
    expected = case.params("student")
    jax.tree.map(lambda a, e: close(a, e, 1e-9), student, expected)


@pytest.mark.parametrize("threshold", [None, 0.1, 0.5])
def test_loss_mask_and_gradients(case, threshold):
    name = "none" if threshold is None else str(threshold)
    (loss, mask), gradients = jax.jit(
        jax.value_and_grad(partial(case.loss, threshold=threshold), argnums=(0, 1), has_aux=True)
    )(case.images, case.lr)
    close(loss, case.golden[f"loss_{name}"], 1e-9)
    close(gradients[0], torch_layout.images(case.golden[f"grad_images_{name}"]), 1e-9)
    close(gradients[1], case.golden[f"grad_lr_{name}"], 1e-9)
    if threshold is not None:
        jax.tree.map(np.testing.assert_array_equal, mask, case.params(f"kept_{name}"))
        assert ddpp_jax.kept_fraction(mask) == pytest.approx(
            case.golden[f"kept_{name}"].mean(), rel=1e-6
        )


def test_remat_changes_nothing():
    case = CASES["full set"]()
    on, off = (
        jax.jit(
            jax.value_and_grad(
                partial(case.loss, threshold=0.1, remat=remat), argnums=(0, 1), has_aux=True
            )
        )(case.images, case.lr)
        for remat in (True, False)
    )
    jax.tree.map(lambda a, b: close(a, b, 1e-12), on, off)


@pytest.mark.parametrize("kept", ["0.05", "0.1", "0.5"])
def test_mask_on_zeros_signs_and_extremes(kept):
    golden = torch_layout.load("mask.npz")
    mask = ddpp_jax.prune_mask(golden["student"], golden["target"], threshold=float(kept))
    np.testing.assert_array_equal(mask, golden[f"kept_{kept}"])


AUGMENTATIONS = {
    "brightness": ["u_brightness"],
    "saturation": ["u_saturation"],
    "contrast": ["u_contrast"],
    "flip": ["u_flip"],
    "crop": ["shift_rows", "shift_cols"],
    "cutout": ["hole_row", "hole_col"],
    "scale": ["u_scale_x", "u_scale_y"],
    "rotate": ["u_rotate"],
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation(name):
    golden = torch_layout.load("dsa.npz")
    draws = [jnp.asarray(golden[draw]) for draw in AUGMENTATIONS[name]]
    result = getattr(ddpp_jax, name)(torch_layout.images(golden["images"]), *draws)
    close(result, torch_layout.images(golden[name]), 1e-10)


ARCHITECTURES = {
    "convnet_d3_w128": ("convnet3", 4, 320_010),
    "convnet_d5_w128_112": ("convnet5", 3, 599_812),
    "alexnet": ("alexnet", 4, 1_872_202),
    "vgg11": ("vgg11", 1, 9_231_114),
    "resnet18": ("resnet18", 1, 11_173_962),
    "resnet18_ap": ("resnet18-ap", 4, 11_250_762),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_of_every_architecture(name):
    architecture, side, count = ARCHITECTURES[name]
    golden = torch_layout.load("architectures.npz")
    expected, shapes = golden[f"{name}_logits"], golden[f"{name}_shapes"]
    size = 112 if name.endswith("112") else 32
    shape = (len(expected), 3, size, size)
    inputs = torch_layout.images(np.sin(0.11 * np.arange(np.prod(shape))).reshape(shape))
    classes = expected.shape[1]
    model = make_model(architecture, ModelConfig(), classes=classes, image_size=size, channels=3)
    template = model.init(jax.random.key(0), inputs[:1])["params"]
    vector = torch_layout.formula_vector(shapes)
    assert sum(leaf.size for leaf in jax.tree.leaves(template)) == vector.size == count
    params = torch_layout.params(vector, shapes, template, side=side)
    # The norms of ResNet's last stages divide by small deviations, which magnifies rounding.
    tolerance = 1e-8 if architecture.startswith("resnet") else 1e-9
    close(jax.jit(model.apply)({"params": params}, inputs), expected, tolerance)
