"""Images that are read when they are asked for, beside the same images in memory."""

import dataclasses
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_data_sources import TFDS, needs_tfds

from ddpp_jax import data as of_data
from ddpp_jax.configs import DataConfig
from ddpp_jax.data import (
    Keys,
    Stored,
    balanced,
    dataset_of,
    deviation,
    fit_transform,
    load_raw,
    normalised,
    of_classes,
    read_ahead,
    records_source,
    restricted,
    whole,
)
from ddpp_jax.errors import InputError
from ddpp_jax.storage import Room

COUNTS = (40, 20, 12)
"""Training images of each class."""


def pixels(count, *, dtype=np.uint8, seed=0, size=6, channels=3):
    generator = np.random.default_rng(seed)
    high = 256 if dtype == np.uint8 else 4000
    return generator.integers(0, high, (count, size, size, channels)).astype(dtype)


def arrays(dtype=np.uint8):
    """The arrays of a dataset with three uneven classes, each bright in a colour of its own."""
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(3), COUNTS))
    found = {
        "x_train": pixels(len(labels), dtype=dtype),
        "y_train": labels,
        "x_test": pixels(15, dtype=dtype, seed=1),
        "y_test": np.arange(15) % 3,
        "class_names": np.asarray(["a", "b", "c"]),
    }
    for part in ("train", "test"):
        images, label = found[f"x_{part}"], found[f"y_{part}"]
        bright = np.arange(3)[None, None, None] == label[:, None, None, None]
        half = 128 if dtype == np.uint8 else 2000
        images[:] = np.where(bright, images // 2 + half, images)
    return found


def npy_folder(folder, dtype=np.uint8, **changes):
    folder.mkdir()
    for name, array in (arrays(dtype) | changes).items():
        np.save(folder / f"{name}.npy", array)
    return folder


def image_folder(folder):
    held = arrays()
    for part in ("train", "test"):
        for number, (image, label) in enumerate(
            zip(held[f"x_{part}"], held[f"y_{part}"], strict=True)
        ):
            place = folder / part / "abc"[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:03d}.png")
    return folder


def sources(tmp_path, kind):
    """The config of a dataset of some kind, made here."""
    if kind == "digits":
        return DataConfig(dataset="digits", held_out=0.1)
    if kind == "npz":
        np.savez(tmp_path / "set.npz", **arrays())
        return DataConfig(dataset=str(tmp_path / "set.npz"))
    if kind == "images":
        return DataConfig(dataset=str(image_folder(tmp_path / "set")), held_out=0.2)
    if kind == "resized":
        return DataConfig(dataset=str(image_folder(tmp_path / "set")), image_size=4, channels=1)
    if kind == "split":
        folder = npy_folder(tmp_path / "set")
        for name in ("x_test", "y_test"):
            (folder / f"{name}.npy").unlink()
        return DataConfig(dataset=str(folder), per_class=8)
    dtype = {"npy": np.uint8, "16-bit": np.uint16, "floats": np.float64}[kind]
    return DataConfig(dataset=str(npy_folder(tmp_path / "set", dtype)))


KINDS = ("digits", "npz", "npy", "16-bit", "floats", "images", "resized", "split")


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_data_are_those_in_memory(tmp_path, kind):
    config = sources(tmp_path, kind)
    here, there = (load_raw(config, images=how) for how in ("device", "stream"))
    assert isinstance(there.x_train, Stored)
    assert there.fingerprint == here.fingerprint
    transforms = [fit_transform(raw, zca=False, cache_dir=None) for raw in (here, there)]
    for theirs, ours in zip(*transforms, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for held, stored in ((here, there), (normalised(here, transforms[0]), None)):
        stored = stored or normalised(there, transforms[1])
        for name in ("train", "test", "held"):
            images, streamed = getattr(held, f"x_{name}"), getattr(stored, f"x_{name}")
            assert (streamed.shape, streamed.dtype) == (images.shape, images.dtype)
            np.testing.assert_array_equal(streamed[:], images)
            np.testing.assert_array_equal(getattr(stored, f"y_{name}"), getattr(held, f"y_{name}"))
        chosen = np.asarray([7, 3, 3, 11, 0])
        np.testing.assert_array_equal(stored.x_train[chosen], held.x_train[chosen])
        np.testing.assert_array_equal(stored.x_train[2], held.x_train[2])
        batches = list(normalised(there, transforms[1]).x_test.batches(4))
        joined = np.concatenate(batches)[: len(here.y_test)]
        np.testing.assert_array_equal(joined, normalised(here, transforms[0]).x_test)


@needs_tfds
def test_streamed_records_of_tfds_are_those_in_memory():
    config = DataConfig(dataset="cifar100", data_dir=str(TFDS), per_class=3)
    here, there = (load_raw(config, images=how) for how in ("device", "stream"))
    np.testing.assert_array_equal(there.x_train[:], here.x_train)
    np.testing.assert_array_equal(there.y_train, here.y_train)
    np.testing.assert_array_equal(there.x_test[np.asarray([99, 5])], here.x_test[[99, 5]])


def test_parts_of_streamed_data_read_nothing(tmp_path, monkeypatch):
    config = sources(tmp_path, "npy")
    here, there = (load_raw(config, images=how) for how in ("device", "stream"))

    def refuse(*_):
        raise AssertionError("an image was read")

    unread = dataclasses.replace(there, x_train=dataclasses.replace(there.x_train, read_fn=refuse))
    cuts = (
        balanced,
        partial(of_classes, classes=[2, 0]),
    )
    for cut in cuts:
        ours, theirs = cut(unread), cut(here)
        np.testing.assert_array_equal(ours.y_train, theirs.y_train)
        back = dataclasses.replace(ours.x_train, read_fn=there.x_train.read_fn)
        np.testing.assert_array_equal(back[:], theirs.x_train)
    some = np.asarray([5, 1, 30])
    assert restricted(there, some).fingerprint == restricted(here, some).fingerprint


def test_whitened_images_are_equal_to_rounding(tmp_path):
    config = sources(tmp_path, "npy")
    here, there = (load_raw(config, images=how) for how in ("device", "stream"))
    transforms = [fit_transform(raw, zca=True, cache_dir=None) for raw in (here, there)]
    np.testing.assert_array_equal(transforms[1].matrix, transforms[0].matrix)
    found = np.concatenate(list(normalised(there, transforms[1]).x_train.batches(24)))
    np.testing.assert_allclose(found, normalised(here, transforms[0]).x_train, atol=1e-4)


def test_what_takes_the_reading_of_all_images_is_kept(tmp_path, monkeypatch):
    """Until a file changes; and what is kept is checked."""
    config, cache = sources(tmp_path, "npy"), tmp_path / "cache"
    folder = tmp_path / "set"

    def loaded():
        reads.clear()
        raw = load_raw(config, images="stream", cache_dir=cache)
        return raw, fit_transform(raw, zca=False, cache_dir=cache)

    reads, read = [], of_data.arrays.NpyImages.__getitem__
    monkeypatch.setattr(
        of_data.arrays.NpyImages,
        "__getitem__",
        lambda self, chosen: reads.append(self.path) or read(self, chosen),
    )
    raw, transform = loaded()
    assert reads
    other = dataclasses.replace(config, augment="none", zca=True)
    assert load_raw(other, images="stream", cache_dir=cache).fingerprint == raw.fingerprint
    parts = of_classes(load_raw(config, images="stream", cache_dir=cache), [0, 1])
    fit_transform(parts, zca=False, cache_dir=cache)  # What it keeps is not that of the whole.
    again, same = loaded()
    assert not reads
    assert again.fingerprint == raw.fingerprint
    assert all(map(np.array_equal, same, transform))
    images = np.load(folder / "x_train.npy")
    images[3, 2, 2, 0] ^= 1
    before = (folder / "x_train.npy").stat()
    np.save(folder / "x_train.npy", images)
    os.utime(folder / "x_train.npy", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    changed, _ = loaded()
    assert reads
    assert changed.fingerprint != raw.fingerprint
    labels = np.load(folder / "y_train.npy")
    np.save(folder / "y_train.npy", np.roll(labels, 1))
    relabelled, _ = loaded()
    assert relabelled.fingerprint not in (raw.fingerprint, changed.fingerprint)
    kept = next(cache.glob("images-*.json"))
    for path in cache.glob("images-*.json"):
        path.write_text("{}")
    with pytest.raises(InputError, match=f"{kept.parent}.*delete it, and the same command"):
        loaded()


def test_auto_streams_what_does_not_fit(tmp_path, monkeypatch):
    config = sources(tmp_path, "npy")
    assert isinstance(load_raw(config, images="auto").x_train, np.ndarray)
    for room in (Room(2**40, 1000), Room(1000, 2**40)):
        assert isinstance(load_raw(config, images="auto", room=room).x_train, Stored)
    monkeypatch.setattr(of_data.loading, "free_room", lambda: Room(1000, 1000))
    assert isinstance(load_raw(config, images="auto").x_train, Stored)


def test_what_needs_all_images_refuses_streamed_ones(tmp_path):
    raw = load_raw(sources(tmp_path, "npy"), images="stream")
    with pytest.raises(InputError, match=r"^a dance needs all images in memory.*--images device"):
        whole(raw.x_train, "a dance")
    held = load_raw(sources(tmp_path / "..", "digits")).x_train
    assert whole(held, "a dance") is held


def test_the_deviation_of_streamed_images_is_that_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(of_data.transforms, "_CHUNK", 2000)
    raw = load_raw(sources(tmp_path, "npy"), images="stream")
    white = normalised(raw, fit_transform(raw, zca=True, cache_dir=None))
    for images in (raw.x_train, white.x_train):
        assert deviation(images) == pytest.approx(float(images[:].std(dtype=np.float64)), rel=1e-6)


def test_reading_ahead_keeps_the_order_and_passes_errors_on():
    def read(number):
        if number == 7:
            raise InputError("image 7 is damaged")
        return number * number

    assert list(read_ahead(read, range(6))) == [0, 1, 4, 9, 16, 25]
    squares = read_ahead(read, range(100))
    assert [next(squares) for _ in range(7)] == [0, 1, 4, 9, 16, 25, 36]
    with pytest.raises(InputError, match="image 7"):
        next(squares)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "was cut short"),
        (lambda path: path.write_bytes(b"nothing"), "cannot be read as an .npy file"),
        (lambda path: np.save(path, np.asfortranarray(np.load(path))), "column by column"),
        (lambda path: np.save(path, np.load(path).astype("U1")), "wanted uint8"),
        (lambda path: np.save(path, np.load(path)[..., :2]), "wanted (n, height, width)"),
        (lambda path: np.save(path, np.load(path).astype(np.uint16)), "wanted one type"),
        (lambda path: path.unlink(), "has no x_train"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(tmp_path, harm, said):
    folder = npy_folder(tmp_path / "set")
    harm(folder / "x_train.npy")
    if said == "has no x_train":  # Then it is no folder of arrays at all.
        said = "holds no folders of classes"
    with pytest.raises(InputError) as caught:
        load_raw(DataConfig(dataset=str(folder)), images="stream")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path):
    raw = load_raw(sources(tmp_path, "npy"), images="stream")
    path = tmp_path / "set" / "x_train.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"x_train\.npy is shorter than it was"):
        raw.x_train[:]


class Records:
    """A source of other people's making."""

    def __init__(self, images, labels, make=lambda image, label: (image, label)):
        self.images, self.labels, self.make = images, labels, make

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.make(self.images[index], self.labels[index])


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (lambda image, label: (image, label), None),
        (lambda image, label: {"image": image, "label": int(label)}, None),
        (lambda image, label: {"img": Image.fromarray(image), "y": [label]}, Keys("img", "y")),
    ],
)
def test_anything_with_a_length_and_records_is_a_source(tmp_path, make, keys):
    held = arrays()
    parts = [Records(held[f"x_{part}"], held[f"y_{part}"], make) for part in ("train", "test")]
    config = DataConfig(per_class=8, image_size=4)
    source = records_source("theirs", ("a", "b", "c"), *parts, config=config, keys=keys)
    np.savez(tmp_path / "theirs.npz", **held)
    like = load_raw(DataConfig(dataset=str(tmp_path / "theirs.npz"), per_class=8, image_size=4))
    for how in ("device", "stream"):
        found = dataset_of(source, config, images=how)
        assert (found.name, found.fingerprint) == ("theirs", like.fingerprint)
        np.testing.assert_array_equal(found.x_train[:], like.x_train)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda image, label: image, "is a ndarray; wanted a mapping, or an image"),
        (lambda image, label: {"picture": image, "label": label}, "has no 'image'; it has"),
        (lambda image, label: (image[..., :2], label), "is an image of shape"),
        (lambda image, label: (image.astype(int), label), "are int64; wanted uint8"),
        (lambda image, label: (image, "cat"), "has the label 'cat'; wanted a whole number"),
        (lambda image, label: (image if label else image[:3], label), "wanted one type and shape"),
    ],
)
def test_other_records_are_refused(make, said):
    held = arrays()
    records = Records(held["x_train"], held["y_train"], make)

    def load():
        source = records_source("theirs", ("a", "b", "c"), records, config=DataConfig())
        return dataset_of(source, DataConfig())

    with pytest.raises(InputError) as caught:
        load()
    assert said in str(caught.value)
    with pytest.raises(InputError, match="holds no records"):
        records_source("none", ("a", "b"), Records([], []), config=DataConfig())


def test_images_are_cut_to_their_middle(tmp_path):
    """As torchvision's CenterCrop cuts them, before they are resized."""
    wide = pixels(6, size=8)[:, 1:7]  # 6 x 8.
    np.savez(
        tmp_path / "wide.npz",
        x_train=wide,
        y_train=np.arange(6) % 2,
        x_test=wide,
        y_test=np.arange(6) % 2,
    )
    for how in ("device", "stream"):
        load = partial(load_raw, images=how)
        raw = load(DataConfig(dataset=str(tmp_path / "wide.npz"), crop=True))
        np.testing.assert_array_equal(raw.x_train[:], wide[:, :, 1:7])
        small = load(DataConfig(dataset=str(tmp_path / "wide.npz"), crop=True, image_size=3))
        again = of_data.pixels.resized(wide[:, :, 1:7], 3)
        np.testing.assert_array_equal(small.x_train[:], again)
    with pytest.raises(InputError, match=r"6x8; wanted square ones: give --image-size, or --crop"):
        load_raw(DataConfig(dataset=str(tmp_path / "wide.npz")))


def tiny_imagenet(folder):
    """A folder as Stanford's, of three classes."""
    held, wnids = arrays(), ("n01443537", "n01629819", "n01641577")
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(reversed(wnids)) + "\n")
    (folder / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn01629819\tfrog\nn01641577\tfrog, other frog\n"
    )
    for number, (image, label) in enumerate(zip(held["x_train"], held["y_train"], strict=True)):
        place = folder / "train" / wnids[label] / "images"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{wnids[label]}_{number}.JPEG", quality=95)
    lines = []
    for number, (image, label) in enumerate(zip(held["x_test"], held["y_test"], strict=True)):
        Image.fromarray(image).save(folder / "val" / "images" / f"val_{number}.JPEG", quality=95)
        lines.append(f"val_{number}.JPEG\t{wnids[label]}\t0\t0\t5\t5")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_tiny_imagenet_is_read_as_it_is_given(tmp_path):
    folder = tiny_imagenet(tmp_path / "tiny-imagenet-200")
    raw = load_raw(DataConfig(dataset="tiny-imagenet-200", data_dir=str(tmp_path)))
    assert raw.name == "tiny-imagenet-200"
    assert raw.class_names == ("goldfish", "n01629819", "n01641577")  # Two are called frog.
    np.testing.assert_array_equal(np.bincount(raw.y_train), COUNTS)
    np.testing.assert_array_equal(np.bincount(raw.y_test), [5, 5, 5])
    with Image.open(folder / "val" / "images" / "val_4.JPEG") as image:
        place = np.flatnonzero(raw.y_test == 1)[3]  # After val_1, val_10 and val_13.
        np.testing.assert_array_equal(raw.x_test[place], np.asarray(image))
    annotations = folder / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text() + "val_0.JPEG\tn99999999\t0\t0\t1\t1\n")
    with pytest.raises(InputError, match=r"line 16, is 'val_0\.JPEG.*a class of wnids\.txt"):
        load_raw(DataConfig(dataset=str(folder)))


def test_normalised_levels_are_the_bits_of_memory():
    """All 256 of them, on the device and under `vmap`."""
    raw = load_raw(DataConfig(dataset="digits"))
    fitted = fit_transform(raw, zca=False, cache_dir=None)
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    numbers = of_data.normalising.numbers_of(fitted, levels.dtype)
    found = jax.vmap(partial(of_data.normalise, numbers))(jnp.asarray(levels)[None])
    np.testing.assert_array_equal(found[0], of_data.apply(fitted, levels))
