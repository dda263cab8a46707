"""Small sets that other programs wrote, and what is said of bad ones."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import EXPORT_FORMAT, carried_transform, read_given, small_record, torch_files
from ddpp_jax.errors import InputError

IMAGES = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = np.array([0, 0, 1, 1, 2, 2])
SOFT = np.full((6, 3), 1 / 3, np.float32)


def read(path, normalised=False):
    return read_given(path, DataConfig(), normalised=normalised)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_images_and_hard_labels(tmp_path, kind):
    path = tmp_path / f"set.{kind}"
    if kind == "npz":
        np.savez(path, images=IMAGES, labels=LABELS, alpha=0.02, class_names=["a", "b", "c"])
    else:
        arrays = {"images": IMAGES, "labels": LABELS, "lr": np.full((1,), 0.02, np.float32)}
        safetensors.numpy.save_file(arrays, path)
    given = read(path)
    np.testing.assert_array_equal(given.images, IMAGES)
    np.testing.assert_array_equal(given.labels, LABELS)
    assert given.alpha == pytest.approx(0.02)
    assert given.class_names == (("a", "b", "c") if kind == "npz" else None)


def test_pytorchs_layout_soft_labels_and_whole_pixels(tmp_path):
    pixels = (255 * IMAGES).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=np.moveaxis(pixels, 3, 1), labels=SOFT)
    given = read(tmp_path / "set.npz")
    np.testing.assert_array_equal(given.images, pixels)
    np.testing.assert_array_equal(given.labels, SOFT)
    assert given.alpha is None


def test_normalised_images_are_taken_only_where_they_are_promised(tmp_path):
    np.savez(tmp_path / "set.npz", images=3 * IMAGES - 1, labels=LABELS)
    with pytest.raises(InputError, match=r"floats from -0.99.* to 1.99.*; or give --normalised"):
        read(tmp_path / "set.npz")
    given = read(tmp_path / "set.npz", normalised=True)
    np.testing.assert_allclose(given.images, 3 * IMAGES - 1, atol=1e-6)


def test_a_folder_of_images(tmp_path):
    for index, label in enumerate(LABELS):
        (tmp_path / f"class {label}").mkdir(exist_ok=True)
        pixels = Image.fromarray((255 * IMAGES[index]).astype(np.uint8))
        pixels.save(tmp_path / f"class {label}" / f"{index}.png")
    given = read(tmp_path)
    np.testing.assert_array_equal(given.images, (255 * IMAGES).astype(np.uint8))
    np.testing.assert_array_equal(given.labels, LABELS)
    assert given.class_names == ("class 0", "class 1", "class 2")


BAD = {
    "no images": ({"labels": LABELS}, "has no images; wanted images and labels, it holds labels"),
    "no labels": ({"images": IMAGES}, "has no labels"),
    "empty": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "wanted at least one image"),
    "flat": ({"images": IMAGES.reshape(6, -1), "labels": LABELS}, r"of shape \(6, 192\)"),
    "too few labels": ({"images": IMAGES, "labels": LABELS[:5]}, r"of shape \(5,\) for 6 images"),
    "labels below 0": ({"images": IMAGES, "labels": LABELS - 1}, "labels hold -1"),
    "labels as floats": ({"images": IMAGES, "labels": LABELS + 0.5}, "a row of probabilities"),
    "one-hot integers": ({"images": IMAGES, "labels": np.eye(3, dtype=int)[LABELS]}, "as floats"),
    "two rates": (
        {"images": IMAGES, "labels": LABELS, "lr": 0.1, "alpha": 0.2},
        "both alpha and lr",
    ),
    "no probabilities": ({"images": IMAGES, "labels": 2 * SOFT}, "that are no probabilities"),
    "NaN probabilities": ({"images": IMAGES, "labels": np.nan * SOFT}, "no probabilities"),
    "NaN": ({"images": np.nan * IMAGES, "labels": LABELS}, "NaN or infinite"),
    "whole numbers": ({"images": IMAGES.astype(int), "labels": LABELS}, "int64; wanted uint8"),
    "words": ({"images": IMAGES, "labels": np.array(list("abcabc"))}, "wanted whole numbers"),
    "rate 0": ({"images": IMAGES, "labels": LABELS, "alpha": 0.0}, "alpha is not one finite"),
    "rates": ({"images": IMAGES, "labels": LABELS, "lr": np.ones(2)}, "lr is not one finite"),
    "names": (
        {"images": IMAGES, "labels": SOFT, "class_names": ["a", "b"]},
        "3 probabilities for each image and 2 class_names",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_a_set_is_refused_in_one_line(tmp_path, case):
    arrays, words = BAD[case]
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "set.npz")
    assert "set.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_refused_in_normalised_images_too(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.nan * IMAGES, labels=LABELS)
    with pytest.raises(InputError, match="NaN or infinite"):
        read(tmp_path / "set.npz", normalised=True)


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.array([Trap()], dtype=object), labels=LABELS)
    with pytest.raises(InputError, match=r"images cannot be read.*plain numbers"):
        read(tmp_path / "set.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"raw.npz cannot be read as an .npz file"):
        read(tmp_path / "raw.npz")


@pytest.mark.parametrize("name", ["set.npz", "set.safetensors", "set.txt"])
def test_damaged_missing_and_unknown_files(tmp_path, name):
    with pytest.raises(InputError, match=f"there is no file .*{name}"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"no set at all")
    words = "of no kind known here" if name.endswith(".txt") else "cannot be read as|is damaged"
    with pytest.raises(InputError, match=words):
        read(tmp_path / name)


ZCA = {
    "zca_mean": np.full(192, 0.5, np.float32),
    "zca_matrix": np.diag(np.linspace(1, 2, 192)).astype(np.float32),
}
MEANS = {"mean": np.full(3, 0.5, np.float32), "std": np.array([0.1, 0.2, 0.4], np.float32)}
WHITE = ((IMAGES.reshape(6, -1) - 0.5) * np.linspace(1, 2, 192)).reshape(IMAGES.shape)
WHITE = WHITE.astype(np.float32)
EXPORTED = {"images": WHITE, "pixels": IMAGES, "labels": LABELS} | ZCA


def test_a_file_brings_its_transform(tmp_path):
    np.savez(tmp_path / "white.npz", **EXPORTED)
    given = read(tmp_path / "white.npz")
    assert given.normalised
    np.testing.assert_array_equal(given.images, WHITE)
    np.testing.assert_array_equal(given.transform.matrix, ZCA["zca_matrix"])
    normal = (IMAGES - MEANS["mean"]) / MEANS["std"]
    np.savez(tmp_path / "normal.npz", images=normal, labels=LABELS, **MEANS)
    given = read(tmp_path / "normal.npz")
    assert given.normalised
    np.testing.assert_array_equal(given.transform.std, MEANS["std"])
    # What is between 0 and 1 is not transformed yet, and said to be so; bytes cannot be otherwise.
    np.savez(tmp_path / "pixels.npz", images=IMAGES, labels=LABELS, **MEANS)
    given = read(tmp_path / "pixels.npz")
    assert not given.normalised
    assert "taken as pixels" in given.note
    assert read(tmp_path / "pixels.npz", normalised=True).normalised
    whole = (255 * IMAGES).astype(np.uint8)
    np.savez(tmp_path / "whole.npz", images=whole, labels=LABELS, **ZCA)
    assert not read(tmp_path / "whole.npz").normalised
    with pytest.raises(InputError, match="uint8; wanted floats, since they are normalised"):
        read(tmp_path / "whole.npz", normalised=True)


def test_a_transform_is_turned_along_with_the_images(tmp_path):
    def first(array):
        return np.moveaxis(array, 3, 1)

    order = first(np.arange(192).reshape(1, 8, 8, 3)).ravel()
    turned = {
        "images": first(WHITE),
        "pixels": first(IMAGES),
        "labels": LABELS,
        "zca_mean": ZCA["zca_mean"][order],
        "zca_matrix": ZCA["zca_matrix"][np.ix_(order, order)],
    }
    np.savez(tmp_path / "first.npz", **turned)
    given = read(tmp_path / "first.npz")
    np.testing.assert_array_equal(given.images, WHITE)
    np.testing.assert_array_equal(given.transform.matrix, ZCA["zca_matrix"])
    # A matrix in the other order than the images would be another transform.
    np.savez(tmp_path / "mixed.npz", **(turned | ZCA))
    with pytest.raises(InputError, match="images that are not its pixels under its own transform"):
        read(tmp_path / "mixed.npz")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_the_layout_is_what_the_file_says(tmp_path, kind):
    images = np.random.default_rng(1).uniform(size=(6, 3, 3, 3)).astype(np.float32)
    for layout, expected in (
        ("channels_first", np.moveaxis(images, 1, 3)),
        ("channels_last", images),
        (None, images),
    ):
        path = tmp_path / f"{layout}.{kind}"
        if kind == "npz":
            said = {} if layout is None else {"layout": layout}
            np.savez(path, images=images, labels=LABELS, class_names=["a", "b", "c"], **said)
        else:
            about = {"class_names": ["a", "b", "c"]} | (
                {} if layout is None else {"layout": layout}
            )
            arrays = {"images": images, "labels": LABELS}
            safetensors.numpy.save_file(arrays, path, {EXPORT_FORMAT: json.dumps(about)})
        given = read(path)
        np.testing.assert_array_equal(given.images, expected)
        assert given.class_names == ("a", "b", "c")


BAD_CLAIMS = {
    "half of a whitening": ({"zca_mean": None}, "has zca_matrix and no zca_mean; wanted both"),
    "half of a scale": (MEANS | {"std": None, "zca_mean": None, "zca_matrix": None}, "no std"),
    "both": (MEANS, "holds both mean or std and zca_mean or zca_matrix"),
    "a short mean": ({"zca_mean": np.zeros(191)}, r"zca_mean is of shape \(191,\)"),
    "a flat matrix": (
        {"zca_matrix": np.zeros(192**2)},
        r"\(36864,\) for such images",
    ),
    "a matrix of a size": ({"zca_matrix": np.eye(64)}, r"zca_matrix is of shape \(64, 64\)"),
    "NaN": ({"zca_mean": np.full(192, np.nan)}, "zca_mean holds NaN or infinite"),
    "beyond float32": ({"zca_matrix": 1e39 * np.eye(192)}, "zca_matrix holds NaN or infinite"),
    "nothing": ({"zca_matrix": np.zeros((192, 192))}, "zca_matrix holds nothing but 0"),
    "words": ({"zca_mean": np.array(["a"] * 192)}, "zca_mean is <U1; wanted floats"),
    "whole numbers": ({"zca_mean": np.zeros(192, int)}, "zca_mean is int64; wanted floats"),
    "another whitening": ({"zca_matrix": np.eye(192)}, "not its pixels under its own transform"),
    "another image": ({"images": WHITE[::-1]}, "not its pixels under its own transform"),
    "other pixels": ({"pixels": IMAGES[:5]}, "holds pixels of shape"),
    "no pixels": ({"pixels": np.array(["a"])}, r"pixels are of shape \(1,\)"),
    "an odd layout": (
        {"layout": "sideways"},
        "layout beside them is 'sideways'; wanted channels_f",
    ),
    "a number for a layout": ({"layout": 1}, "layout beside them is dtype"),
    "the other layout": ({"layout": "channels_first"}, "but their layout is channels_first"),
    "images beyond float32": (
        {"images": WHITE.astype(float) * 1e39},
        "images hold NaN or infinite pixels, or",
    ),
    "a rate beyond float32": ({"lr": 1e39}, "lr is not one finite number above 0"),
    "logits": ({"labels": 5 * SOFT - 1}, "of logits give the softmax"),
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_what_a_file_says_of_its_images_must_hold(tmp_path, case):
    changes, words = BAD_CLAIMS[case]
    arrays = {n: v for n, v in (EXPORTED | changes).items() if v is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "set.npz")
    assert "set.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_deviation_is_above_zero(tmp_path, scale):
    std = np.full(3, scale, np.float32)
    np.savez(tmp_path / "set.npz", images=3 * IMAGES - 1, labels=LABELS, mean=std, std=std)
    with pytest.raises(InputError, match=r"std holds .*; wanted 1e-30 or more"):
        read(tmp_path / "set.npz")


def pictures(folder, record):
    for label in range(3):
        (folder / f"{label}").mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray((255 * IMAGES[label]).astype(np.uint8))
        pixels.save(folder / f"{label}" / "0.png")
    about = {"low": 0.0, "high": 1.0, "lr": 0.1, "transform": record}
    (folder / "range.json").write_text(json.dumps(about))
    return folder


def test_pictures_say_which_transform_they_need(tmp_path):
    given = read(pictures(tmp_path / "a", {"mean": [0.5] * 3, "std": [0.1, 0.2, 0.4]}))
    assert not given.normalised
    np.testing.assert_array_equal(given.transform.std, MEANS["std"])
    zca = carried_transform(ZCA, (8, 8, 3), "it")
    assert small_record(zca).keys() == {"zca_probe"}
    given = read(pictures(tmp_path / "b", small_record(zca)))
    assert given.transform.fits(zca)
    near = zca._replace(matrix=zca.matrix + np.float32(1e-6))
    far = zca._replace(matrix=zca.matrix + np.float32(1e-3))
    assert given.transform.fits(near)
    assert not given.transform.fits(far)


@pytest.mark.parametrize(
    "record",
    [
        3,
        [],
        {},
        {"mean": [0.5] * 3},
        {"mean": [0.5] * 3, "std": [0.1] * 2},
        {"mean": [0.5] * 3, "std": ["a"] * 3},
        {"mean": [0.5] * 3, "std": [[0.1]] * 3},
        {"mean": [0.5] * 3, "std": [float("nan")] * 3},
        {"mean": [0.5] * 3, "std": [0.0] * 3},
        {"mean": [1e39] * 3, "std": [0.1] * 3},
        {"zca_probe": []},
        {"zca_probe": [10**400]},
        {"zca_probe": [0.1], "mean": [0.5]},
    ],
)
def test_a_spoilt_record_of_pictures_is_one_line(tmp_path, record):
    with pytest.raises(InputError, match=r"range.json(: | is damaged: )") as caught:
        read(pictures(tmp_path, record))
    assert "\n" not in str(caught.value)


def test_numbers_that_numpy_lacks_are_one_line(tmp_path):
    header = {"images": {"dtype": "BF16", "shape": [1, 1, 1, 1], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    (tmp_path / "set.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0")
    with pytest.raises(InputError, match=r"set\.safetensors"):
        read(tmp_path / "set.safetensors")


@pytest.mark.parametrize("about", ["[", "3", '"class_names"', "[" * 100_000, '{"class_names": 3}'])
def test_spoilt_metadata_are_one_line(tmp_path, about):
    path = tmp_path / "set.safetensors"
    arrays = {"images": IMAGES, "labels": LABELS}
    safetensors.numpy.save_file(arrays, path, {EXPORT_FORMAT: about})
    with pytest.raises(InputError, match=r"set\.safetensors") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_without_pytorch_its_files_are_one_line(tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(torch_files.importlib, "import_module", absent)
    (tmp_path / "images_best.pt").write_bytes(b"")
    for path in (tmp_path, tmp_path / "images_best.pt"):
        with pytest.raises(InputError, match='need PyTorch: pip install "ddpp-jax') as caught:
            read(path)
        assert "\n" not in str(caught.value)
