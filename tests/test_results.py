"""Result files: what is saved is loaded, damage is named, nothing is overwritten."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from ddpp_jax.errors import InputError
from ddpp_jax.sets import DistilledSet, is_distilled, read_distilled, write_distilled
from ddpp_jax.sets.files import FORMAT
from ddpp_jax.storage import read_tensors, write_tensors

DISTILLED = DistilledSet(
    images=np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype(np.float32),
    pixels=np.random.default_rng(1).normal(0.5, 0.5, size=(4, 5, 5, 3)).astype(np.float32),
    labels=np.array([0, 0, 1, 1], np.int32),
    alpha=0.125,
    class_names=("cat", "dog"),
    transform={
        "mean": np.array([0.4, 0.5, 0.6], np.float32),
        "std": np.array([0.2, 0.2, 0.3], np.float32),
    },
    origin={"method": "ours", "seed": 3, "settings": {"data": {"zca": False}}},
)


def test_distilled_set_survives(tmp_path):
    path = tmp_path / "deep" / "set.safetensors"
    write_distilled(path, DISTILLED)
    loaded = read_distilled(path)
    assert loaded.transform.keys() == DISTILLED.transform.keys()
    jax.tree.map(np.testing.assert_array_equal, loaded, DISTILLED)
    assert [p.name for p in path.parent.iterdir()] == ["set.safetensors"]


def whitened():
    """A set whose transform is larger than it is."""
    matrix = np.random.default_rng(2).normal(size=(75, 75)).astype(np.float32)
    transform = {"zca_mean": np.zeros(75, np.float32), "zca_matrix": matrix + matrix.T}
    return DISTILLED._replace(transform=transform)


def test_a_run_keeps_the_whitening_of_its_sets_once(tmp_path):
    paths = [tmp_path / "run" / part / "set.safetensors" for part in ("", "mtt")]
    for path in paths:
        write_distilled(path, whitened(), run=tmp_path / "run")
        assert path.stat().st_size < whitened().transform["zca_matrix"].nbytes
        loaded = read_distilled(path)
        jax.tree.map(np.testing.assert_array_equal, dict(loaded.transform), whitened().transform)
    names = sorted(p.name for p in (tmp_path / "run").rglob("*.safetensors"))
    assert names == ["set.safetensors", "set.safetensors", "whitening.safetensors"]
    # By itself a set is whole, and so is one that is normalised per channel.
    write_distilled(tmp_path / "alone.safetensors", whitened())
    assert read_distilled(tmp_path / "alone.safetensors").transform.keys() == {
        "zca_mean",
        "zca_matrix",
    }
    write_distilled(tmp_path / "plain" / "set.safetensors", DISTILLED, run=tmp_path / "plain")
    assert not (tmp_path / "plain" / "whitening.safetensors").exists()


def test_a_whitening_that_is_not_the_sets_own_is_refused(tmp_path):
    path = tmp_path / "set.safetensors"
    write_distilled(path, whitened(), run=tmp_path)
    place = tmp_path / "whitening.safetensors"
    kept = place.read_bytes()
    place.unlink()
    with pytest.raises(InputError, match=r"whitening.safetensors, which is not there; leave the"):
        read_distilled(path)
    place.write_bytes(kept[:-4] + b"0000")
    with pytest.raises(InputError, match=r"whitening.safetensors is damaged"):
        read_distilled(path)
    other = whitened()._replace(transform={n: 2 * a for n, a in whitened().transform.items()})
    write_distilled(tmp_path / "other" / "set.safetensors", other, run=tmp_path / "other")
    (tmp_path / "other" / "whitening.safetensors").rename(place)
    with pytest.raises(InputError, match=r"is another whitening than that of"):
        read_distilled(path)
    # Whoever writes the set again brings its own back.
    write_distilled(path, whitened(), run=tmp_path)
    assert read_distilled(path).transform.keys() == whitened().transform.keys()


def test_foreign_and_damaged_files_are_named(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, foreign)
    with pytest.raises(InputError, match=r"foreign.safetensors is damaged or of another kind"):
        read_distilled(foreign)
    damaged = tmp_path / "damaged.safetensors"
    write_distilled(damaged, DISTILLED)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(
        InputError, match=r"damaged.safetensors is damaged: .*; make or fetch it anew"
    ):
        read_distilled(damaged)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0, 0, 1], np.int32)}, "wanted a label for each image"),
        ({"labels": np.array([0, 0, 1, 2], np.int32)}, "labels beyond its 2 classes"),
        ({"images": np.full((4, 5, 5, 3), np.nan, np.float32)}, "NaN or infinite pixels"),
        ({"pixels": np.full((4, 5, 5, 3), np.inf, np.float32)}, "NaN or infinite pixels"),
        ({"pixels": np.zeros((4, 5, 6, 3), np.float32)}, "holds pixels"),
        ({"images": np.zeros((4, 5, 5), np.float32)}, "wanted a label for each image"),
        ({"alpha": -1.0}, "alpha that is not above 0"),
        ({"alpha": float("nan")}, "alpha that is not above 0"),
        ({"transform": {"mean": np.zeros(3, np.float32)}}, "wanted {'mean': \\(3,\\), 'std'"),
        ({"transform": {"mean": np.zeros(1), "std": np.ones(1)}}, "wanted {'mean': \\(3,\\)"),
        (
            {"transform": {"mean": np.zeros(3), "std": np.zeros(3)}},
            "std of 0; wanted 1e-30",
        ),
        ({"transform": {"mean": np.full(3, np.nan), "std": np.ones(3)}}, "mean that is not finite"),
        ({"transform": {"zca_mean": np.zeros(75), "zca_matrix": np.ones((75, 3))}}, "wanted"),
        ({"class_names": ("cat", 3)}, "class names that are no list of texts"),
        ({"class_names": "cat"}, "class names that are no list of texts"),
        ({"origin": [1]}, "origin that makes no sense"),
        ({"origin": {"seed": "three"}}, "origin that makes no sense: .*'seed'"),
        ({"origin": {"method": 5}}, "'method'"),
        ({"origin": {"which": "best", "step": 3}}, "'which'"),
        ({"origin": {"which": "last"}}, "wanted both or neither"),
        ({"origin": {"indices": [1, "2"]}}, "'indices'"),
        ({"origin": {"settings": 3}}, "'settings'"),
        ({"origin": {"settings": {"data": []}}}, "makes no sense"),
        ({"origin": {"settings": {"data": {"augment": 3}}}}, "data.augment"),
        ({"origin": {"settings": {"data": {"image_size": "8"}}}}, "data.image_size"),
        ({"origin": {"settings": {"model": {"width": 0}}}}, "--width is 0"),
        ({"origin": {"settings": {"model": {"precision": "half"}}}}, "model.precision"),
        ({"origin": {"settings": {"evaluation": {"networks": 2.5}}}}, "evaluation.networks"),
        ({"origin": {"settings": {"seed": []}}}, "'seed'"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(tmp_path, changes, words):
    write_distilled(tmp_path / "set.safetensors", DISTILLED._replace(**changes))
    with pytest.raises(InputError, match=words):
        read_distilled(tmp_path / "set.safetensors")


def test_a_set_of_an_earlier_version_is_named_as_such(tmp_path):
    path = tmp_path / "set.safetensors"
    tensors = {"images": np.zeros((1, 2, 2, 1), np.float32)}
    for name in ("ddpp-jax distilled set 3", "ddpp-jax distilled set 2"):
        safetensors.numpy.save_file(tensors, path, metadata={name: "{}"})
        assert is_distilled(path)
        with pytest.raises(InputError, match="set of an earlier version"):
            read_distilled(path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda tensors: tensors.pop("pixels"),
        lambda tensors: tensors.update(image=tensors.pop("images")),
        lambda tensors: tensors.update(more=np.zeros(2, np.float32)),
        lambda tensors: tensors.update(images=tensors["images"].astype(np.float16)),
        lambda tensors: tensors.update(labels=tensors["labels"].astype(np.int64)),
        lambda tensors: tensors.update(labels=tensors["labels"].astype(np.float32)),
        lambda tensors: tensors.update(alpha=np.ones(2, np.float32)),
        lambda tensors: tensors.update(alpha=np.ones(1, np.float32)),
    ],
)
def test_other_tensors_are_refused_even_with_a_digest(tmp_path, harm):
    write_distilled(tmp_path / "set.safetensors", DISTILLED)
    tensors, values = read_tensors(tmp_path / "set.safetensors", kind=FORMAT)
    harm(tensors)
    write_tensors(tmp_path / "set.safetensors", tensors, values, kind=FORMAT)
    with pytest.raises(InputError, match=r"set.safetensors (has|holds)"):
        read_distilled(tmp_path / "set.safetensors")


@pytest.mark.parametrize(("kind", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)])
def test_types_that_numpy_lacks_are_named(tmp_path, kind, size):
    path = tmp_path / "set.safetensors"
    header = json.dumps({"images": {"dtype": kind, "shape": [2], "data_offsets": [0, 2 * size]}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(2 * size))
    with pytest.raises(InputError, match=f"holds 'images' as {kind}, which NumPy has no type for"):
        read_distilled(path)


def test_our_name_with_foreign_metadata_is_refused(tmp_path):
    path = tmp_path / "set.safetensors"
    tensors = {n: np.zeros((1,), np.float32) for n in ("images", "pixels", "labels", "alpha")}
    for metadata in ("{", "{}", '{"class_names": 3}'):
        safetensors.numpy.save_file(tensors, path, metadata={FORMAT: metadata})
        with pytest.raises(InputError, match=r"set.safetensors is damaged"):
            read_distilled(path)
