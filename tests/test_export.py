"""Sets taken elsewhere, read back by what they are written for."""

import importlib.util
import json
import re
import shlex

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from processes import call
from test_commands import finished, invoke  # noqa: F401

import ddpp_jax
from ddpp_jax.configs import DataConfig
from ddpp_jax.data import (
    PerChannel,
    apply,
    fit_transform,
    load_raw,
    torch_files,
    transform_arrays,
)
from ddpp_jax.data.given import read_given
from ddpp_jax.errors import InputError
from ddpp_jax.export import FORMATS, LIGHT, export, write_card
from ddpp_jax.sets import DistilledSet, set_path, write_distilled

HAS_TORCH = importlib.util.find_spec("torch") is not None
NAMES = ("cat", "dog/wolf", "newt")


def written(folder, *, channels=3, beyond=0.0):
    """A set of six images whose classes are not in order; some pixels may lie beyond 0 and 1."""
    generator = np.random.default_rng(0)
    pixels = generator.uniform(-beyond, 1 + beyond, (6, 4, 4, channels)).astype(np.float32)
    transform = PerChannel(np.full(channels, 0.4, np.float32), np.full(channels, 0.2, np.float32))
    distilled = DistilledSet(
        images=((pixels - 0.4) / 0.2).astype(np.float32),
        pixels=pixels,
        labels=np.array([2, 0, 1, 0, 2, 1], np.int32),
        alpha=0.03,
        class_names=NAMES,
        transform=transform_arrays(transform),
        origin={"method": "ours", "which": "last", "step": 7},
    )
    write_distilled(set_path(folder, "last"), distilled)
    return distilled


def test_a_set_as_arrays(tmp_path):
    expected = written(tmp_path)
    found = ddpp_jax.load_distilled(tmp_path)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.class_names == NAMES
    assert found.alpha == pytest.approx(0.03)
    # Real test images become what these networks must see, and the set's own pixels its images.
    np.testing.assert_allclose(found.seen(found.pixels), found.images, atol=1e-5)
    eight_bits = np.full((1, 4, 4, 3), 102, np.uint8)
    np.testing.assert_allclose(found.seen(eight_bits), 0, atol=1e-5)
    np.testing.assert_array_equal(
        ddpp_jax.load_distilled(str(tmp_path / "distilled.safetensors")).images, found.images
    )


def test_a_whitened_set_brings_its_whitening(tmp_path):
    raw = load_raw(DataConfig(dataset="digits"))
    zca = fit_transform(raw, zca=True, cache_dir=None)
    images = apply(zca, raw.x_train[:10])
    distilled = DistilledSet(
        images,
        raw.y_train[:10],
        0.1,
        raw.class_names,
        transform_arrays(zca),
        pixels=raw.x_train[:10] / np.float32(16),
    )
    write_distilled(set_path(tmp_path, "last"), distilled)
    found = ddpp_jax.load_distilled(tmp_path)
    np.testing.assert_allclose(found.seen(raw.x_test), apply(zca, raw.x_test), atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((2, 4, 4), np.uint8), "of shape (2, 4, 4); wanted (images, 4, 4, 3)"),
        (np.zeros((2, 4, 4, 1), np.uint8), "of shape (2, 4, 4, 1)"),
        (np.full((2, 4, 4, 3), 16.0, np.float32), "floats from 16 to 16"),
        ([[1, 2], [3, 4]], "of shape (2, 2)"),
    ],
)
def test_what_a_transform_cannot_take_is_refused(tmp_path, pixels, words):
    written(tmp_path)
    with pytest.raises(InputError, match=re.escape(words)):
        ddpp_jax.load_distilled(tmp_path).seen(pixels)


def test_what_holds_no_set_of_a_run_is_named_as_such(tmp_path):
    for folder, name, words in (
        ("out", "export.json", "is an export of a set"),
        ("run", "config.json", "is of a run that is not finished"),
        ("found", "result.json", "holds results and no set of its own"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{}")
        with pytest.raises(InputError, match=words):
            ddpp_jax.load_distilled(tmp_path / folder)


def test_a_set_that_a_finished_run_does_not_have(tmp_path):
    written(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"there is no .*distilled-best-test"):
        ddpp_jax.load_distilled(tmp_path, which="best-test")


def test_what_is_no_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="wanted the folder of a finished run"):
        ddpp_jax.load_distilled(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("beyond", [0.0, 1.5])
def test_images_are_the_set_to_the_noise_of_eight_bits(tmp_path, channels, beyond):
    expected = written(tmp_path, channels=channels, beyond=beyond)
    export(ddpp_jax.load_distilled(tmp_path), tmp_path / "out", ["png"], channels_first=False)
    found = read_given(tmp_path / "out" / "images", DataConfig(channels=channels), normalised=False)
    order = np.argsort(expected.labels, kind="stable")
    np.testing.assert_array_equal(found.labels, expected.labels[order])
    pixels = found.images / 255 if found.images.dtype == np.uint8 else found.images
    step = (1 + 2 * beyond) / 255
    np.testing.assert_allclose(pixels, expected.pixels[order], atol=0.51 * step)
    names = sorted(place.name for place in (tmp_path / "out" / "images").iterdir())
    assert names == ["cat", "dog_wolf", "newt", "range.json"]
    with Image.open(tmp_path / "out" / "images" / "cat" / "0000.png") as image:
        assert image.mode == ("L" if channels == 1 else "RGB")


@pytest.mark.parametrize("channels_first", [False, True])
def test_arrays_are_the_set_in_the_order_of_its_classes(tmp_path, channels_first):
    expected = written(tmp_path, beyond=1.0)
    small = ddpp_jax.load_distilled(tmp_path)
    export(small, tmp_path / "out", ["npz", "safetensors"], channels_first=channels_first)
    order = np.argsort(expected.labels, kind="stable")
    images = expected.images[order]
    images = np.moveaxis(images, 3, 1) if channels_first else images
    with np.load(tmp_path / "out" / "distilled.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays.pop("class_names").tolist() == list(NAMES)
    tensors = safetensors.numpy.load_file(tmp_path / "out" / "distilled.safetensors")
    for found in (arrays, tensors):
        np.testing.assert_array_equal(found["images"], images)
        np.testing.assert_array_equal(found["labels"], [0, 0, 1, 1, 2, 2])
        assert float(found["lr"]) == pytest.approx(0.03)
        np.testing.assert_allclose(found["mean"], 0.4)
    # Our own evaluation takes either, in either layout.
    for name in ("distilled.npz", "distilled.safetensors"):
        given = read_given(tmp_path / "out" / name, DataConfig(), normalised=True)
        np.testing.assert_array_equal(given.images, expected.images[order])
        assert given.alpha == pytest.approx(0.03)


def test_the_card_says_how_to_normalise_the_pictures(tmp_path):
    expected = written(tmp_path, beyond=1.5)
    small = ddpp_jax.load_distilled(tmp_path)
    export(small, tmp_path / "out", ["png", "card"], channels_first=False)
    text = (tmp_path / "out" / "README.md").read_text()
    head = text.split("---\n")[1]
    for line in ("license: unknown", "- n<1K", "path: images/**/*.png", "- dataset-distillation"):
        assert line in head
    numbers = text.split("`Normalize(")[1].split(")`")[0]
    mean, std = (json.loads(part.split("=")[1]) for part in numbers.split(", std"))
    with Image.open(tmp_path / "out" / "images" / "cat" / "0000.png") as image:
        seen = (np.asarray(image) / 255 - mean) / std
    first = int(np.flatnonzero(expected.labels == 0)[0])
    np.testing.assert_allclose(seen, expected.images[first], atol=0.51 * 4 / 255 / 0.2 + 1e-3)


def test_the_card_of_grey_and_of_chosen_images(tmp_path):
    written(tmp_path, channels=1)
    small = ddpp_jax.load_distilled(tmp_path)
    text = write_card(small, tmp_path, (0.0, 1.0)).read_text()
    assert "`Grayscale(1)` and `ToTensor()`" in text
    assert "distilled to 6 images" in text
    assert "go by the names" not in text
    chosen = small._replace(
        origin={"method": "herding", "indices": [1]}, class_names=("b", "a", "c")
    )
    text = write_card(chosen, tmp_path, (0.0, 1.0)).read_text()
    assert "chosen: 6 images" in text
    assert "Pruning" not in text
    assert "go by the names" in text


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
@pytest.mark.filterwarnings("ignore")
def test_files_of_pytorch_are_floats_and_classes_in_order(tmp_path):
    import torch

    expected = written(tmp_path)
    small = ddpp_jax.load_distilled(tmp_path)
    export(small, tmp_path / "out", ["mtt", "dd-ranking"], channels_first=False)
    order = np.argsort(expected.labels, kind="stable")
    for names in (("images_best", "labels_best", "lr_best"), ("images", "labels", "lr")):
        images, labels, rate = (
            torch.load(tmp_path / "out" / f"{name}.pt", weights_only=True) for name in names
        )
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(images.numpy(), np.moveaxis(expected.images[order], 3, 1))
        np.testing.assert_array_equal(labels.numpy(), expected.labels[order])
        assert float(rate) == pytest.approx(0.03)


def test_without_pytorch_its_formats_are_refused_in_one_line(invoke, tmp_path, monkeypatch):  # noqa: F811
    written(tmp_path / "run")

    def absent(name):
        raise ModuleNotFoundError(name)

    invoke("export", "")  # What the command itself needs is then there.
    monkeypatch.setattr(torch_files.importlib, "import_module", absent)
    status, _, error = invoke("export", f"{tmp_path / 'run'} --formats mtt")
    assert status == 2
    assert 'need PyTorch: pip install "ddpp-jax[torch]"' in error
    assert len(error.splitlines()) == 1


BAD = [
    ("", "got 0 runs; name one run folder"),
    ("nowhere", "there is no nowhere"),
    ("run --formats gif", "no format is called 'gif'; wanted some of png, npz"),
    ("run --formats ,", "no format is called none"),
    ("run --out taken", "taken holds other files and no export.json; choose another folder"),
]


@pytest.mark.parametrize(("flags", "words"), BAD)
def test_bad_exports_are_one_line(invoke, tmp_path, flags, words):  # noqa: F811
    written(tmp_path / "run")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    status, shown, error = invoke("export", flags)
    assert (status, shown) == (2, "")
    assert words in error
    assert len(error.splitlines()) == 1
    assert (tmp_path / "taken" / "mine.txt").read_text() == "mine"


def test_an_export_of_another_set_is_not_overwritten(invoke, tmp_path):  # noqa: F811
    written(tmp_path / "run")
    assert invoke("export", "run --out out --formats npz")[0] == 0
    # More formats of the same set may join.
    assert invoke("export", "run --out out --formats card")[0] == 0
    written(tmp_path / "other", beyond=0.2)
    before = (tmp_path / "out" / "distilled.npz").read_bytes()
    status, _, error = invoke("export", "other --out out --formats npz")
    assert status == 2
    assert "out holds something else" in error
    assert (tmp_path / "out" / "distilled.npz").read_bytes() == before


def test_every_export_evaluates_as_the_original(finished, tmp_path):  # noqa: F811
    folder, _ = finished
    out = tmp_path / "export"
    done = call(folder, "export", "run", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert f"{out / 'images'}" in done.stdout
    quick = shlex.split("--augment crop --width 8 --depth 1 --networks 3 --eval-epochs 40")
    means = {}
    for name, flags in {
        "run": [str(folder / "run")],
        "npz": [str(out / "distilled.npz")],
        "safetensors": [str(out / "distilled.safetensors")],
        "images": [str(out / "images")],
    }.items():
        where = tmp_path / name
        done = call(
            tmp_path, "evaluate", *flags, *quick, "--setting", "digits", "--out", str(where)
        )
        assert done.returncode == 0, done.stderr
        means[name] = json.loads((where / "result.json").read_text())["rows"][0]["mean"]
    assert means["npz"] == means["safetensors"] == means["run"]
    assert means["images"] == pytest.approx(means["run"], abs=0.02)


def test_the_light_formats_need_no_pytorch():
    assert set(FORMATS) - set(LIGHT) == {"mtt", "dd-ranking"}
