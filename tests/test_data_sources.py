"""Real data from TFDS, folders and .npz files, and what is said of bad ones."""

import importlib.util
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import png
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import load_dataset, load_raw, tfds
from ddpp_jax.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
TFDS = DATA / "tfds"
CHEST = DATA / "chest_xray"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason="the real data are not here")
needs_chest = pytest.mark.skipif(not CHEST.is_dir(), reason="the real data are not here")


def load(dataset, **settings):
    return load_raw(DataConfig(dataset=str(dataset), **settings))


def refusal(dataset, **settings):
    """The one line that a dataset is refused with."""
    with pytest.raises(InputError) as caught:
        load(dataset, **settings)
    line = str(caught.value)
    assert "\n" not in line
    return line


# TFDS


@needs_tfds
def test_cifar10_is_whole():
    import tensorflow_datasets

    raw = load("cifar10", data_dir=str(TFDS))
    assert raw.name == "cifar10"
    assert raw.class_names[:3] == ("airplane", "automobile", "bird")
    assert raw.x_train.shape == (50_000, 32, 32, 3)
    assert raw.x_test.shape == (10_000, 32, 32, 3)
    assert raw.x_train.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(raw.y_train), np.full(10, 5000))
    np.testing.assert_array_equal(np.bincount(raw.y_test), np.full(10, 1000))
    # Published means of CIFAR-10's training pixels.
    mean = raw.x_train.mean(axis=(0, 1, 2), dtype=np.float64) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    theirs = tensorflow_datasets.data_source("cifar10", data_dir=TFDS, split="train")[0]
    assert raw.y_train[0] == theirs["label"] == raw.class_names.index("horse")
    np.testing.assert_array_equal(raw.x_train[0], theirs["image"])  # decoded by TFDS itself


@needs_tfds
def test_cifar100_has_its_fine_labels_and_pixels():
    import tensorflow_datasets

    raw = load("cifar100", data_dir=str(TFDS))
    assert len(raw.class_names) == 100
    assert raw.class_names[:2] == ("apple", "aquarium_fish")
    np.testing.assert_array_equal(np.bincount(raw.y_train), np.full(100, 50))
    np.testing.assert_array_equal(np.bincount(raw.y_test), np.full(100, 10))
    theirs = tensorflow_datasets.data_source("cifar100", data_dir=TFDS, split="train")
    for index in (0, 1, 4999):  # decoded by TFDS itself
        np.testing.assert_array_equal(raw.x_train[index], theirs[index]["image"])
        assert raw.y_train[index] == theirs[index]["label"]
    few = load(TFDS / "cifar100", per_class=2, channels=1, image_size=8)
    assert few.name == "cifar100"
    assert few.x_train.shape == (200, 8, 8, 1)
    np.testing.assert_array_equal(np.bincount(few.y_train), np.full(100, 2))


@needs_tfds
def test_split_and_resize_of_tfds_images(small_tfds):
    info = small_tfds / "dataset_info.json"
    held = json.loads(info.read_text())
    held["splits"] = held["splits"][:1]  # the train split alone
    info.write_text(json.dumps(held))
    raw = load("mine", data_dir=str(small_tfds.parents[1]))
    assert raw.name == "mine"
    np.testing.assert_array_equal(np.bincount(raw.y_train), np.full(100, 40))
    np.testing.assert_array_equal(np.bincount(raw.y_test), np.full(100, 10))


@pytest.fixture
def small_tfds(tmp_path):
    """The folder of a version of a dataset that TFDS has no code for."""
    folder = tmp_path / "tfds" / "mine" / "3.0.2"
    shutil.copytree(TFDS / "cifar100" / "3.0.2", folder)
    return folder


def truncate(folder):
    path = next(folder.glob("*train*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def spoil(folder):
    path = next(folder.glob("*train*"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(bytes(data))
    return path.name


def remove(folder):
    path = next(folder.glob("*test*"))
    path.unlink()
    return path.name


def foreign_format(folder):
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    return "3.0.2 is prepared as tfrecord; wanted array_record"


def garbled(folder):
    (folder / "dataset_info.json").write_text("{")
    return "3.0.2 cannot be read as a dataset of TFDS"


@needs_tfds
@pytest.mark.parametrize("damage", [truncate, spoil, remove, foreign_format, garbled])
def test_damaged_tfds_data_are_named(small_tfds, damage):
    named = damage(small_tfds)
    assert named in refusal("mine", data_dir=str(small_tfds.parents[1]))


@needs_tfds
def test_damaged_tfds_image_is_named(small_tfds, monkeypatch):
    import tensorflow_datasets

    source = tensorflow_datasets.core.data_sources.array_record.ArrayRecordDataSource
    read = source.__getitem__

    def damaged(self, index):
        example = read(self, index)
        return {**example, "image": example["image"][:200]} if index == 7 else example

    monkeypatch.setattr(source, "__getitem__", damaged)
    line = refusal("mine", data_dir=str(small_tfds.parents[1]))
    assert "cifar100-train.array_record-00000-of-00001, example 7 of train" in line


@needs_tfds
def test_deep_tfds_images_keep_their_depth(small_tfds, monkeypatch):
    import tensorflow_datasets

    source = tensorflow_datasets.core.data_sources.array_record.ArrayRecordDataSource
    read = source.__getitem__
    pixels = np.random.default_rng(0).integers(0, 4000, (5, 32, 32, 3), dtype=np.uint16)
    pixels[0, 0, 0] = 0, 4000, 1
    files = [png(image) for image in pixels]

    def deep(self, index):
        return {**read(self, index), "image": files[index % 5]}

    monkeypatch.setattr(source, "__getitem__", deep)
    raw = load("mine", data_dir=str(small_tfds.parents[1]))
    np.testing.assert_allclose(raw.x_train[:5], pixels / 4000, rtol=1e-6)
    assert raw.notes == (
        "pixels of mine are 16-bit from 0 to 4000; taken as 0 to 1 by that range; --range LOW,HIGH "
        "overrules",
    )


@needs_tfds
def test_a_validation_split_that_is_tested_on_is_mentioned(small_tfds):
    info = small_tfds / "dataset_info.json"
    info.write_text(info.read_text().replace('"name": "test"', '"name": "validation"'))
    for path in small_tfds.glob("*-test*"):
        path.rename(path.with_name(path.name.replace("-test", "-validation")))
    raw = load("mine", data_dir=str(small_tfds.parents[1]), image_size=2)
    assert len(raw.y_test) == 1000
    assert raw.notes == ("mine has no test split; its validation split is tested on",)


@needs_tfds
def test_several_configs_are_named(small_tfds):
    for config in ("grey", "tinted"):
        shutil.copytree(small_tfds, small_tfds.parent / config / "1.0.0")
    shutil.rmtree(small_tfds)
    root = str(small_tfds.parents[1])
    assert "mine/grey (grey, tinted)" in refusal("mine", data_dir=root)
    assert load("mine/tinted", data_dir=root, per_class=1).name == "mine-tinted"


def test_data_that_are_not_prepared(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds, "find_spec", lambda name: None if name == "tensorflow" else name)
    line = refusal("cifar10", data_dir=str(tmp_path))
    assert f"cifar10 is not prepared in {tmp_path / 'cifar10'}" in line
    assert "pip install tensorflow" in line
    assert str(tmp_path / "cifar10" / "3.") in line


def test_data_that_cannot_be_downloaded(tmp_path, monkeypatch):
    core = pytest.importorskip("tensorflow_datasets").core

    def unreachable(self, *, file_format):
        assert file_format == "array_record"
        raise ConnectionError("no route\nto anywhere")

    monkeypatch.setattr(tfds, "find_spec", lambda name: name)
    monkeypatch.setattr(core.DatasetBuilder, "download_and_prepare", unreachable)
    line = refusal("mnist", data_dir=str(tmp_path))
    assert "mnist is not prepared in" in line
    assert "cannot be downloaded: no route; put a prepared" in line


@pytest.mark.parametrize("module", ["tensorflow_datasets", "array_record"])
def test_missing_packages_are_named(monkeypatch, module):
    find = importlib.util.find_spec
    monkeypatch.setattr(tfds, "find_spec", lambda name: None if name == module else find(name))
    line = refusal("cifar10")
    assert f"{module} is not installed; pip install" in line


@pytest.mark.parametrize("name", ["no_such_thing", "not a name!", "cifar10/none", "cifar10:0.0.1"])
def test_unknown_names(tmp_path, name):
    pytest.importorskip("tensorflow_datasets")
    line = refusal(name, data_dir=str(tmp_path))
    assert f"--dataset is '{name}'" in line
    assert "wanted digits, a name that TFDS knows, a folder of images or an .npz file" in line


def test_paths_that_are_not_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "does not exist; wanted a folder" in refusal(tmp_path / "nowhere")
    assert "does not exist" in refusal("./nowhere")
    assert "is a file; wanted a folder of images or an .npz" in refusal(tmp_path / "notes.txt")
    assert f"there is no file {tmp_path / 'no.npz'}" in refusal(tmp_path / "no.npz")


# Folders


@needs_chest
def test_chest_radiographs():
    raw = load("chest_xray", data_dir=str(DATA))
    assert raw.name == "chest_xray"
    assert raw.class_names == ("BACTERIA", "NORMAL", "VIRUS")
    assert raw.x_train.shape == (4684, 112, 112, 1)
    np.testing.assert_array_equal(np.bincount(raw.y_train), [2224, 1266, 1194])
    np.testing.assert_array_equal(np.bincount(raw.y_test), [556, 317, 299])
    first = min((CHEST / "test" / "BACTERIA").iterdir())
    np.testing.assert_array_equal(raw.x_test[0, ..., 0], np.asarray(Image.open(first)))


def picture(path, *, mode="L", size=(6, 6), value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size, value)
    image.save(path)


@pytest.fixture
def pictures(tmp_path):
    """A folder with four grey images of each of two classes, whose pixels tell which is which."""
    for label, name in enumerate(("ant", "bee")):
        for number in range(4):
            picture(tmp_path / "zoo" / name / f"{number}.png", value=100 * label + number)
    (tmp_path / "zoo" / "ant" / ".hidden").write_text("x")
    (tmp_path / "zoo" / "README").write_text("x")
    return tmp_path / "zoo"


def test_folder_is_split(pictures):
    raw = load(pictures, test_share=0.25)
    assert raw.class_names == ("ant", "bee")
    assert (len(raw.y_train), len(raw.y_test)) == (6, 2)
    for images, labels in ((raw.x_train, raw.y_train), (raw.x_test, raw.y_test)):
        assert images.shape[1:] == (6, 6, 1)
        np.testing.assert_array_equal(images[:, 0, 0, 0] // 100, labels)
    seen = np.r_[raw.x_train[:, 0, 0, 0], raw.x_test[:, 0, 0, 0]]
    np.testing.assert_array_equal(np.sort(seen), [0, 1, 2, 3, 100, 101, 102, 103])
    assert len(load(pictures, per_class=1).y_train) == 2
    assert load(pictures, channels=3, image_size=4).x_train.shape == (6, 4, 4, 3)


def test_class_may_be_missing_from_the_test(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "both" / "train")
    picture(tmp_path / "both" / "test" / "bee" / "0.png", value=200)
    raw = load("both", data_dir=str(tmp_path))
    assert len(raw.y_train) == 8
    np.testing.assert_array_equal(raw.y_test, [1])


def test_one_colour_image_makes_all_colour(pictures):
    picture(pictures / "bee" / "9.png", mode="RGB", value=(10, 20, 30))
    assert load(pictures).x_train.shape[-1] == 3
    assert load(pictures, channels=1).x_train.shape[-1] == 1


def colour_of(folder, path, channels=3):
    """The colour of an image file as it is read, beside plain ones in a second class."""
    for number in range(3):
        picture(folder / "other" / f"{number}.png", mode="RGB")
    shutil.copy(path, path.with_name(f"copy{path.suffix}"))
    raw = load(folder, channels=channels, test_share=0.5)
    images = raw.x_train[raw.y_train == raw.class_names.index(path.parent.name)]
    return images[0, 0, 0].tolist()


def test_transparency_lies_over_white(tmp_path):
    path = tmp_path / "clear" / "0.png"
    picture(path, mode="RGBA", value=(0, 0, 0, 0))
    assert colour_of(tmp_path, path) == [255, 255, 255]


def test_palette_and_cmyk_become_rgb(tmp_path):
    path = tmp_path / "palette" / "0.gif"
    path.parent.mkdir()
    Image.new("RGB", (6, 6), (255, 0, 0)).quantize(4).save(path)
    assert colour_of(tmp_path, path) == [255, 0, 0]
    path = tmp_path / "press" / "0.tiff"
    picture(path, mode="CMYK", value=(0, 255, 255, 0))
    assert colour_of(tmp_path, path) == [255, 0, 0]


def test_large_images_are_read_in_threads_in_order(tmp_path):
    for number in range(70):
        picture(tmp_path / "ab"[number % 2] / f"{number:02}.png", size=(220, 210), value=number)
    raw = load(tmp_path, image_size=4, test_share=0.1)
    assert raw.x_train.shape[1:] == (4, 4, 1)
    np.testing.assert_array_equal(raw.x_train[:, 0, 0, 0] % 2, raw.y_train)
    assert np.all(np.diff(raw.x_train[raw.y_train == 0][:, 0, 0, 0].astype(int)) > 0)


def half_an_image(zoo):
    path = zoo / "bee" / "2.png"
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    path.write_bytes(file.getvalue()[:60])
    return f"{path} "


def not_an_image(zoo):
    (zoo / "bee" / "notes.txt").write_text("x")
    return f"{zoo / 'bee' / 'notes.txt'} is not an image"


def empty_file(zoo):
    (zoo / "ant" / "1.png").write_bytes(b"")
    return f"{zoo / 'ant' / '1.png'} is not an image"


def broken_link(zoo):
    (zoo / "ant" / "9.png").symlink_to("nowhere.png")
    return f"{zoo / 'ant' / '9.png'} is a link to nothing"


def nested(zoo):
    picture(zoo / "ant" / "more" / "1.png")
    return f"{zoo / 'ant' / 'more'} is a folder inside a class"


def empty_class(zoo):
    (zoo / "cat").mkdir()
    return f"{zoo / 'cat'} holds no images"


def one_class(zoo):
    shutil.rmtree(zoo / "bee")
    return f"{zoo} holds one class only, ant"


def no_class(zoo):
    shutil.rmtree(zoo / "bee")
    shutil.rmtree(zoo / "ant")
    return f"{zoo} holds no folders of classes"


def other_shape(zoo):
    picture(zoo / "bee" / "1.png", size=(7, 6))
    return f"{zoo / 'ant' / '0.png'} is 6x6 and {zoo / 'bee' / '1.png'} is 6x7; give --image-size"


def float_pixels(zoo):
    Image.fromarray(np.ones((6, 6), np.float32)).save(zoo / "bee" / "8.tiff")
    return f"0.png is 8-bit and {zoo / 'bee' / '8.tiff'} is floating-point; nobody can tell"


def only_train(zoo):
    picture(zoo / "train" / "ant" / "0.png")
    return f"{zoo} holds train and no test"


def empty_train(zoo):
    (zoo / "train").mkdir()
    return f"{zoo / 'train'} holds no images"


def single_image(zoo):
    picture(zoo / "cat" / "0.png")
    return "class cat has 1 image, too few"


@pytest.mark.parametrize(
    "damage",
    [
        half_an_image,
        not_an_image,
        empty_file,
        broken_link,
        nested,
        empty_class,
        one_class,
        no_class,
        other_shape,
        float_pixels,
        only_train,
        empty_train,
        single_image,
    ],
)
def test_bad_folders_are_named(pictures, damage):
    named = damage(pictures)
    assert named in refusal(pictures)


def test_images_that_are_not_square_are_refused(tmp_path):
    for name in ("a0", "a1", "b0", "b1"):
        picture(tmp_path / name[0] / f"{name}.png", size=(5, 6))
    assert "are 6x5; wanted square ones: give --image-size" in refusal(tmp_path)
    assert load(tmp_path, image_size=5).x_train.shape == (2, 5, 5, 1)


def test_bad_test_folders_are_named(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "both" / "train")
    stray = tmp_path / "both" / "test" / "wolf"
    stray.mkdir(parents=True)
    assert f"{stray} is a class that" in refusal(tmp_path / "both")
    stray.rename(stray.with_name("ant"))
    assert f"{tmp_path / 'both' / 'test'} holds no images" in refusal(tmp_path / "both")


def test_too_few_images_of_a_class_are_named(pictures):
    (pictures / "bee" / "0.png").unlink()
    line = refusal(pictures, per_class=3)
    assert "class bee has 2 training images, fewer than --per-class 3" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_named(pictures):
    (pictures / "bee").chmod(0)
    assert str(pictures / "bee") in refusal(pictures)


# .npz files


def arrays(**changes):
    rng = np.random.default_rng(0)
    given = {
        "x_train": rng.integers(0, 256, (8, 6, 6, 3), dtype=np.uint8),
        "y_train": np.arange(8) % 2,
        "x_test": rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8),
        "y_test": np.arange(4) % 2,
    }
    given |= changes
    return {name: array for name, array in given.items() if array is not None}


def test_npz_as_it_is(tmp_path):
    given = arrays(class_names=np.array(["ant", "bee"]))
    np.savez(tmp_path / "zoo.npz", **given)
    raw = load("zoo.npz", data_dir=str(tmp_path))
    assert (raw.name, raw.class_names) == ("zoo", ("ant", "bee"))
    for name, array in given.items():
        if name != "class_names":
            np.testing.assert_array_equal(getattr(raw, name), array)


def test_npz_of_grey_floats_without_a_test(tmp_path):
    images = np.random.default_rng(0).random((10, 6, 5))
    labels = np.arange(10)[:, None] % 2
    np.savez_compressed(tmp_path / "zoo.npz", x_train=images, y_train=labels)
    raw = load(tmp_path / "zoo.npz", image_size=6)
    assert raw.class_names == ("0", "1")
    assert raw.x_train.shape == (8, 6, 6, 1)
    assert raw.x_test.shape == (2, 6, 6, 1)
    assert raw.x_train.dtype == np.float32
    dataset = load_dataset(DataConfig(dataset=str(tmp_path / "zoo.npz"), image_size=6))
    assert dataset.x_train.mean() == pytest.approx(0, abs=1e-5)


IMAGES, TESTS = arrays()["x_train"], arrays()["x_test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, "has no y_train; .* it holds x_test, x_train, y_test"),
        ({"x_test": None}, "has no x_test"),
        ({"y_train": np.array([0, None], object)}, "y_train cannot be read: Object arrays"),
        ({"y_train": np.arange(8) / 2}, "y_train are float64 and hold 0.5; wanted whole"),
        ({"y_train": np.arange(8) % 2 - 1}, "y_train hold -1; wanted 0 or more"),
        ({"y_test": np.array([0, 1, 2, 1])}, "y_test hold 2; wanted 0 to 1"),
        (
            {"y_train": np.array([0, 1, 0, 1, 0, 1, 0, 2**31 - 2])},
            "3 labels from 0 to 2147483646; wanted .* 0 to 2",
        ),
        ({"y_train": np.arange(7) % 2}, r"y_train are of shape \(7,\) for 8 images"),
        ({"y_train": np.arange(8) % 2 + 1}, "y_train holds 1 to 2 and y_test 0 to 1; wanted 0 as"),
        ({"y_train": np.arange(8) % 2 * 3}, "2 labels from 0 to 3; wanted .* 0 to 1; numpy.unique"),
        ({"class_names": np.array(["ant"])}, "y_train hold 1; wanted 0 to 0"),
        ({"class_names": np.array([1, 2])}, "class_names is int64"),
        ({"class_names": np.array(["a", "b", "c"])}, "class c has no training image"),
        ({"x_train": IMAGES * np.nan, "x_test": TESTS / 255}, "x_train hold NaN"),
        ({"x_train": IMAGES / 255, "x_test": TESTS / 255 + np.inf}, "x_test hold NaN or infinite"),
        ({"x_train": IMAGES * 0 + 7.0, "x_test": TESTS * 0 + 7.0}, "pixels are all 7; give other"),
        ({"x_train": IMAGES.astype(complex)}, "x_train is complex128; wanted uint8"),
        ({"x_train": IMAGES.astype(np.int16)}, "x_train is int16 and x_test uint8"),
        ({"x_train": IMAGES / 255}, "x_train is float64 and x_test uint8"),
        ({"x_train": np.moveaxis(IMAGES, 3, 1)}, r"numpy.moveaxis\(x_train, 1, 3\) moves"),
        ({"x_train": IMAGES[0, 0]}, r"x_train is of shape \(6, 3\); wanted \(n, height, width\)"),
        ({"x_train": IMAGES[..., :2]}, "x_train is of shape .* 1 or 3 channels"),
        ({"x_test": TESTS[:, :5]}, "x_train holds images of 6x6x3, x_test of 5x6x3"),
        ({"x_train": IMAGES[:0], "y_train": np.arange(0)}, "x_train is of shape .* at least one"),
    ],
)
def test_bad_arrays_are_named(tmp_path, changes, message):
    path = tmp_path / "zoo.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "zoo" in str(caught.value) or "class" in str(caught.value)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "zoo.npz"
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:-300])
    assert f"{path} cannot be read as an .npz file" in refusal(path)
    path.write_bytes(b"")
    assert f"{path} cannot be read as an .npz file" in refusal(path)
    with path.open("wb") as file:
        np.save(file, IMAGES)
    assert f"{path} cannot be read as an .npz file" in refusal(path)
    np.savez(path, **arrays())
    data = bytearray(path.read_bytes())
    data[400] ^= 255
    path.write_bytes(bytes(data))
    assert f"{path}: x_train cannot be read" in refusal(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_arrays_are_read_or_refused_and_nothing_else(tmp_path, save):
    path, rng = tmp_path / "zoo.npz", np.random.default_rng(0)
    save(path, **arrays(class_names=np.array(["ant", "bee"])))
    whole, refusals = path.read_bytes(), []
    heads = [place for place in range(len(whole)) if whole[place : place + 6] == b"\x93NUMPY"]
    for number in range(150):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            # Half of them in what the arrays and the archive say of themselves.
            near = rng.choice([*heads, len(data) - 400]) if number % 2 and heads else 0
            data[min(near + rng.integers(128 if near else len(data)), len(data) - 1)] = (
                rng.integers(256)
            )
        path.write_bytes(bytes(data))
        try:
            load(path)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all("\n" not in line for line in refusals)
