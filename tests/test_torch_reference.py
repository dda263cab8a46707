"""The PyTorch reference of the benchmarks against the golden numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch_layout

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
torch = pytest.importorskip("torch", reason="the extra `bench` is not installed")

from bench import torch_methods, torch_reference  # noqa: E402


def close(actual, expected, rtol=1e-9):
    expected = np.asarray(expected)
    actual = actual.detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


CASES = {
    "trajectory_small_f64.npz": {"depth": 2, "width": 8, "classes": 4},
    "trajectory_minibatch_f64.npz": {"depth": 3, "width": 6, "classes": 5},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threshold", [None, 0.1, 0.5])
def test_distillation_step(name, threshold):
    golden = torch_layout.load(name)
    net = torch_reference.ConvNet(side=16, **CASES[name])
    images, alpha = (torch.tensor(golden[key]).requires_grad_() for key in ("images", "lr"))
    labels, start, target, batches = (
        torch.tensor(golden[key]) for key in ("labels", "start", "target", "batches")
    )
    loss, gradients, student, kept = torch_reference.distillation_step(
        net, images, labels, alpha, start, target, batches, threshold=threshold
    )
    suffix = "none" if threshold is None else str(threshold)
    close(student, golden["student"])
    close(loss, golden[f"loss_{suffix}"])
    close(gradients[0], golden[f"grad_images_{suffix}"])
    close(gradients[1], golden[f"grad_lr_{suffix}"])
    if kept is not None:
        np.testing.assert_array_equal(kept.numpy(), golden[f"kept_{suffix}"])


def test_mask_on_zeros_signs_and_extremes():
    golden = torch_layout.load("mask.npz")
    student, target = (torch.tensor(golden[key]) for key in ("student", "target"))
    kept = torch_reference.prune_mask(student, target, 0.1)
    np.testing.assert_array_equal(kept.numpy(), golden["kept_0.1"])


def test_training_of_a_fresh_network():
    golden = torch_layout.load("evaluation.npz")
    shapes = [shape for _, shape in json.loads(str(golden["shapes"]))]
    width, classes = shapes[0][0], shapes[-1][0]
    depth, channels = (len(shapes) - 2) // 4, shapes[0][1]
    net = torch_reference.ConvNet(classes, width, depth, golden["images"].shape[2], channels)
    tensors = [tensor.clone() for tensor in net.split(torch.tensor(golden["start"]))]
    images, labels = (torch.tensor(golden[key]) for key in ("images", "labels"))
    trained = torch_reference.train_fresh(
        net.logits,
        tensors,
        images,
        labels,
        rate=float(golden["lr"]),
        epochs=int(golden["epochs"]),
    )
    close(torch.cat([tensor.flatten() for tensor in trained]), golden["trained"])


def test_an_epoch_of_a_teacher_is_plain_sgd_on_every_image_once():
    net = torch_reference.ConvNet(classes=3, width=4, depth=1, side=8, channels=1)
    images = torch.randn((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 3
    start = net.initial(torch.Generator().manual_seed(1))
    expected = [tensor.clone().requires_grad_() for tensor in start]
    loss = torch.nn.functional.cross_entropy(net.logits(expected, images), labels)
    gradients = torch.autograd.grad(loss, expected)
    trained = torch_reference.train(net.logits, start, images, labels, rate=0.1, batch_size=6)
    for found, before, gradient in zip(trained, expected, gradients, strict=True):
        torch.testing.assert_close(found, before - 0.1 * gradient)


def network_of(golden, theta, side, depth, width):
    """The architecture of a file of three classes, and the tensors of one of its networks."""
    net = torch_reference.ConvNet(3, width, depth, side, 3)
    return net, [tensor.clone().requires_grad_() for tensor in net.split(torch.tensor(theta))]


def operation(golden, name):
    """One of DSA's, by the draws of the golden file for a class."""

    def draws(label, *names):
        return [golden[f"dsa_{name}"][label].item() for name in names]

    return {
        "color": lambda c, x: torch_methods.colour(
            x, *draws(c, "u_brightness", "u_saturation", "u_contrast")
        ),
        "flip": lambda c, x: x.flip(3) if draws(c, "u_flip")[0] < 0.5 else x,
        "crop": lambda c, x: torch_methods.shifted(x, *draws(c, "shift_rows", "shift_cols")),
        "cutout": lambda c, x: torch_methods.cut_out(x, *draws(c, "hole_row", "hole_col")),
        "scale": lambda c, x: torch_methods.scaled(x, *draws(c, "u_scale_x", "u_scale_y")),
        "rotate": lambda c, x: torch_methods.rotated(x, *draws(c, "u_rotate")),
    }[name]


def test_an_update_of_dc():
    golden = torch_layout.load("dc.npz")
    net, tensors = network_of(golden, golden["theta"], 8, 2, 6)
    images, real = torch.tensor(golden["images"]), torch.tensor(golden["real"][0])
    loss, gradient = torch_methods.gradient_matching(net, tensors, images, real)
    close(loss, golden["loss"])
    close(gradient, golden["outer_grad_0"])


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("method", ["dsa", "dm"])
def test_siamese_augmentation(case, method):
    golden = torch_layout.load({"dsa": "dc.npz"}.get(method, f"{method}.npz"))
    theta = golden["theta"] if method == "dsa" else golden["thetas"][0]
    net, tensors = network_of(golden, theta, 8, 2, 6)
    images, real = torch.tensor(golden["images"]), torch.tensor(golden["real"][0])
    names = json.loads(str(golden[f"dsa_{case}_ops"]))
    augment_fn = lambda label, x: operation(golden, names[label])(label, x)  # noqa: E731
    loss, gradient = torch_methods.UPDATES[method](net, tensors, images, real, augment_fn)
    close(loss, golden[f"dsa_{case}_loss"])
    close(gradient, golden[f"dsa_{case}_grad_images"])


def test_an_update_of_dm():
    golden = torch_layout.load("dm.npz")
    net, tensors = network_of(golden, golden["thetas"][0], 8, 2, 6)
    images, real = torch.tensor(golden["images"]), torch.tensor(golden["real"][0])
    loss, gradient = torch_methods.distribution_matching(net, tensors, images, real)
    close(loss, golden["loss_0"])
    close(gradient, golden["grad_images_0"])


def test_an_update_of_cafe():
    golden = torch_layout.load("cafe.npz")
    net, tensors = network_of(golden, golden["theta"], 16, 3, 4)
    images, real = torch.tensor(golden["images"]), torch.tensor(golden["real"])
    loss, gradient = torch_methods.feature_alignment(net, tensors, images, real)
    close(loss, golden["total"] - golden["real_cross_entropy"])
    close(gradient, golden["grad_images_total"])
