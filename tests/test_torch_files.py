"""Small sets that `torch.save` wrote: single files, and the folders of MTT and DD-Ranking."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # Of what PyTorch imports.

import numpy as np  # noqa: E402
from test_commands import invoke  # noqa: E402, F401

from ddpp_jax.configs import DataConfig  # noqa: E402
from ddpp_jax.data import read_given  # noqa: E402
from ddpp_jax.errors import InputError  # noqa: E402

IMAGES = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
LABELS = np.array([0, 0, 1, 1, 2, 2])
LAST = np.moveaxis(IMAGES, 1, 3)


def tensors(**changes):
    found = {
        "images": torch.tensor(IMAGES),
        "labels": torch.tensor(LABELS),
        "lr": torch.tensor(0.02),
    }
    return {n: v for n, v in (found | changes).items() if v is not None}


def read(path, normalised=False):
    return read_given(path, DataConfig(), normalised=normalised)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_file_of_named_tensors(tmp_path, suffix):
    path = tmp_path / f"set{suffix}"
    torch.save(tensors(epoch=3, class_names=["a", "b", "c"]), path)
    given = read(path)
    np.testing.assert_array_equal(given.images, LAST)
    np.testing.assert_array_equal(given.labels, LABELS)
    assert given.alpha == pytest.approx(0.02)
    assert given.class_names == ("a", "b", "c")
    assert given.normalised  # No pixel is below 0.


def test_names_of_the_field_and_numbers_of_any_kind(tmp_path):
    images = torch.nn.Parameter(torch.tensor(IMAGES).bfloat16())
    content = {"image_syn": images, "label_syn": torch.tensor(LABELS), "syn_lr": 0.5}
    torch.save(content, tmp_path / "set.pt")
    given = read(tmp_path / "set.pt")
    np.testing.assert_allclose(given.images, LAST, rtol=1e-2)
    assert given.alpha == 0.5
    soft = torch.full((6, 3), 1 / 3)
    pixels = torch.tensor(IMAGES).abs().clamp(0, 1)
    torch.save(tensors(images=pixels, labels=soft, lr=1), tmp_path / "soft.pt")
    given = read(tmp_path / "soft.pt")
    assert given.labels.shape == (6, 3)
    assert not given.normalised
    assert given.alpha == 1


@pytest.mark.parametrize(
    "names", [("images_best", "labels_best", "lr_best"), ("images", "labels", "lr")]
)
def test_folders_of_one_tensor_a_file(tmp_path, names):
    for name, value in zip(names, tensors().values(), strict=True):
        torch.save(value, tmp_path / f"{name}.pt")
    for path in (tmp_path, tmp_path / f"{names[0]}.pt"):
        given = read(path)
        np.testing.assert_array_equal(given.images, LAST)
        np.testing.assert_array_equal(given.labels, LABELS)
        assert given.alpha == pytest.approx(0.02)
        assert given.normalised


def test_of_several_steps_the_latest_or_the_one_that_is_named(tmp_path):
    for step in (0, 900, 1000):
        torch.save(torch.tensor(IMAGES) + step, tmp_path / f"images_{step}.pt")
        torch.save(torch.tensor(LABELS), tmp_path / f"labels_{step}.pt")
    np.testing.assert_array_equal(read(tmp_path).images, LAST + 1000)
    assert read(tmp_path).alpha is None
    found = read(tmp_path / "images_900.pt", normalised=True)
    np.testing.assert_array_equal(found.images, LAST + 900)


def test_a_transform_beside_the_images_must_be_theirs(tmp_path):
    names = ("images_best", "labels_best", "lr_best")
    for name, value in zip(names, tensors().values(), strict=True):
        torch.save(value, tmp_path / f"{name}.pt")
    transform = {"mean": torch.full((3,), 0.4), "std": torch.full((3,), 0.2)}
    torch.save(transform, tmp_path / "transform.pt")
    np.testing.assert_allclose(read(tmp_path).transform.mean, 0.4)
    torch.save(transform | {"images_sha256": "0" * 64}, tmp_path / "transform.pt")
    with pytest.raises(InputError, match=r"transform.pt is of other images than .*images_best.pt"):
        read(tmp_path)


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


BAD = {
    "a list": ([1, 2], "is a list; wanted a tensor"),
    "a tensor": (torch.tensor(IMAGES), "is one tensor; wanted a mapping of names to tensors"),
    "no labels": (tensors(labels=None), "has no labels; wanted images and labels"),
    "code": (tensors(images=Trap()), "it holds more than tensors and plain values"),
    "words": (tensors(images="cat"), "images is a str; wanted a tensor"),
    "two names": (tensors(image_syn=torch.zeros(1)), "holds images under two names"),
    "two rates": (tensors(alpha=0.1), "holds both alpha and lr"),
    "sparse": (tensors(labels=torch.tensor(LABELS).to_sparse()), "labels is a tensor of"),
    "complex": (tensors(images=torch.tensor(IMAGES) + 0j), "images are complex64"),
    "NaN": (tensors(images=torch.tensor(IMAGES) * torch.nan), "NaN"),
    "logits": (tensors(labels=torch.randn(6, 3)), "of logits give the softmax"),
    "nameless": ({3: torch.zeros(1)}, "has no images"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_a_set_is_one_line(tmp_path, case):
    content, words = BAD[case]
    torch.save(content, tmp_path / "set.pt")
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "set.pt")
    assert "set.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 300, -50])
def test_a_damaged_file_is_one_line(tmp_path, kept):
    path = tmp_path / "set.pt"
    torch.save(tensors(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"it is damaged, or no file of torch\.save") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_theirs_are_judged_and_what_was_assumed_is_said(invoke, tmp_path):  # noqa: F811
    generator = np.random.default_rng(0)
    images = torch.tensor(generator.normal(size=(20, 1, 8, 8)), dtype=torch.float32)
    for name, value in {
        "images_best": images,
        "labels_best": torch.arange(20) % 10,
        "lr_best": torch.tensor(0.05),
    }.items():
        torch.save(value, tmp_path / f"{name}.pt")
    quick = "--augment none --width 4 --depth 1 --networks 1 --eval-epochs 1 --out judged"
    code, shown, error = invoke("evaluate", f". --zca {quick}")
    assert code == 0, error
    assert "taken as normalised already, by the ZCA whitening fitted to digits" in shown
