"""Result files: what is saved is loaded, damage is named, nothing is overwritten."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from ddpp_jax.errors import InputError
from ddpp_jax.results import FORMAT, DistilledFile, read_distilled, write_distilled

DISTILLED = DistilledFile(
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


def test_foreign_and_damaged_files_are_named(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, foreign)
    with pytest.raises(InputError, match=r"foreign.safetensors is not a distilled set"):
        read_distilled(foreign)
    damaged = tmp_path / "damaged.safetensors"
    write_distilled(damaged, DISTILLED)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"damaged.safetensors cannot be read"):
        read_distilled(damaged)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0, 0, 1], np.int32)}, "wanted a label for each image"),
        ({"labels": np.array([0, 0, 1, 2], np.int32)}, "labels beyond its 2 classes"),
        ({"images": np.full((4, 5, 5, 3), np.nan, np.float32)}, "NaN or infinite pixels"),
        ({"images": np.zeros((4, 5, 5), np.float32)}, "wanted a label for each image"),
        ({"alpha": -1.0}, "alpha that is not above 0"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(tmp_path, changes, words):
    write_distilled(tmp_path / "set.safetensors", DISTILLED._replace(**changes))
    with pytest.raises(InputError, match=words):
        read_distilled(tmp_path / "set.safetensors")


def test_our_name_with_foreign_metadata_is_refused(tmp_path):
    path = tmp_path / "set.safetensors"
    tensors = {n: np.zeros((1,), np.float32) for n in ("images", "pixels", "labels", "alpha")}
    for metadata in ("{", "{}", '{"class_names": 3}'):
        safetensors.numpy.save_file(tensors, path, metadata={FORMAT: metadata})
        with pytest.raises(InputError, match="cannot be read as a distilled set"):
            read_distilled(path)
