"""The PyTorch reference of the benchmarks against the golden numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch_layout

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
torch = pytest.importorskip("torch", reason="the extra `bench` is not installed")

from bench import torch_reference  # noqa: E402


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
