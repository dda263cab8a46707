"""By which transform a set is evaluated, for every format that it may come in."""

import importlib.util
import json
import shlex

import numpy as np
import pytest
import safetensors.numpy
from small import distilled_like, two_of_each
from test_commands import invoke  # noqa: F401

from ddpp_jax import load_distilled
from ddpp_jax.cli.sets import read_set
from ddpp_jax.configs import DataConfig, EvaluateJob
from ddpp_jax.data import Zca, apply, fit_transform, load_raw, transform_arrays
from ddpp_jax.errors import InputError
from ddpp_jax.export import export
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet, write_distilled

HAS_TORCH = importlib.util.find_spec("torch") is not None
RAW = load_raw(DataConfig())
QUICK = "--augment none --width 4 --depth 1 --networks 1 --eval-epochs 8"


def make_set(path, *, zca, raw=RAW):
    """Two real images of each class, as a distillation would leave them."""
    transform = fit_transform(raw, zca=zca, cache_dir=None)
    images = apply(transform, raw.x_train[two_of_each(raw)])
    write_distilled(path, distilled_like(raw, transform, images))
    return load_distilled(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A whitened set and a normalised one, each with its exports."""
    folder = tmp_path_factory.mktemp("exported")
    for name, zca in (("white", True), ("plain", False)):
        small = make_set(folder / f"{name}.safetensors", zca=zca)
        formats = ["png", "npz", "safetensors", *(["mtt", "dd-ranking"] if HAS_TORCH else [])]
        export(small, folder / name, formats, channels_first=False)
        export(small, folder / f"{name}-first", ["npz", "safetensors"], channels_first=True)
    return folder


def files_of(name):
    found = [f"{name}/distilled.npz", f"{name}/distilled.safetensors"]
    found += [f"{name}-first/distilled.npz", f"{name}-first/distilled.safetensors"]
    if HAS_TORCH:
        found += [f"{name}/images_best.pt", f"{name}/images.pt"]
    return [*found, f"{name}/images"]


@pytest.mark.filterwarnings("ignore")  # Of what PyTorch imports.
@pytest.mark.parametrize("name", ["white", "plain"])
def test_every_format_is_seen_as_the_set_itself(exported, tmp_path, name):
    """The same images and the same transform of the test images, to the bit."""

    def read(path):
        return read_set(EvaluateJob(), exported / path, RAW, tmp_path, Report(None))

    own, words = read(f"{name}.safetensors"), {"white": "ZCA whitening", "plain": "normalisation"}
    for path in files_of(name):
        found = read(path)
        np.testing.assert_array_equal(found.labels, own.labels)
        assert found.rate == pytest.approx(own.rate)
        if path.endswith("images"):  # Eight bits are not the same pixels.
            np.testing.assert_allclose(found.images, own.images, atol=0.02)
        else:
            np.testing.assert_array_equal(found.images, own.images)
        for a, b in zip(found.transform[:2], own.transform[:2], strict=True):
            np.testing.assert_array_equal(a, b)
        assert found.said.startswith(f"{exported / path} ")
        assert words[name] in found.said


def test_an_export_gets_the_figures_of_its_set(invoke, exported, tmp_path):  # noqa: F811
    names = ("white.safetensors", "white-first/distilled.npz", "white/images")
    every = shlex.join(str(exported / name) for name in names)
    code, shown, error = invoke("evaluate", f"{every} {QUICK} --out evaluated")
    assert code == 0, error
    rows = json.loads((tmp_path / "evaluated" / "result.json").read_text())["rows"]
    own, exact, near = (row["accuracies"] for row in rows)
    assert own == exact
    assert own == pytest.approx(near, abs=0.1)
    assert f"{exported}/white-first/distilled.npz brings its own ZCA whitening" in shown
    assert f"{exported}/white/images says that it was made with the ZCA whitening" in shown


def test_one_set_under_two_transforms_is_judged_twice(invoke, exported, tmp_path):  # noqa: F811
    with np.load(exported / "white" / "distilled.npz") as file:
        arrays = dict(file)
    del arrays["pixels"]
    np.savez(tmp_path / "a.npz", **arrays)
    other = arrays | {"zca_matrix": np.eye(64, dtype=np.float32)}
    np.savez(tmp_path / "b.npz", **other)
    code, _, error = invoke("evaluate", f"a.npz b.npz {QUICK} --out evaluated")
    assert code == 0, error
    a, b = json.loads((tmp_path / "evaluated" / "result.json").read_text())["rows"]
    assert a["confusion"] != b["confusion"]


CONTRADICTIONS = [
    ("white/distilled.npz --no-zca", "was made with ZCA whitening, and --no-zca says otherwise"),
    (
        "white/distilled.safetensors --no-zca",
        "--no-zca says otherwise; leave it out, or give --zca",
    ),
    ("white/images --no-zca", "--no-zca says otherwise"),
    ("white.safetensors --no-zca", "--no-zca says otherwise"),
    ("plain/distilled.npz --zca", "was made with normalisation per channel, and --zca says"),
    ("plain/images --zca", "--zca says otherwise; leave it out, or give --no-zca"),
    ("plain.safetensors --zca", "--zca says otherwise"),
    ("white/distilled.npz --no-normalised", "--no-normalised says otherwise; leave it out"),
    ("plain.safetensors --no-normalised", "--no-normalised says otherwise"),
    ("plain/images --normalised", "a folder of pictures, whose pixels are not normalised"),
    ("white/images --per-class 50", "the ZCA whitening of other training images than those of"),
    ("white/images --held-out 0.02", "the ZCA whitening of other training images than those of"),
]


@pytest.mark.parametrize(("flags", "words"), CONTRADICTIONS)
def test_flags_that_contradict_a_file_are_refused(invoke, exported, flags, words):  # noqa: F811
    code, shown, error = invoke("evaluate", f"{exported}/{flags}")
    assert (code, shown) == (2, "")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("flags", ["--zca --normalised", ""])
def test_what_agrees_with_a_file_is_no_contradiction(invoke, exported, flags):  # noqa: F811
    flags = f"{exported}/white/distilled.npz {flags} {QUICK} --eval-epochs 1"
    code, _, error = invoke("evaluate", flags)
    assert code == 0, error


@pytest.mark.parametrize(
    ("arrays", "flags", "words"),
    [
        ({}, "", "taken as pixels, and seen by the normalisation per channel fitted to digits"),
        ({}, "--zca", "taken as pixels, and seen by the ZCA whitening fitted to digits"),
        ({}, "--normalised", "taken as normalised already, by the normalisation per channel"),
        (
            {"mean": np.full(1, 0.3, np.float32), "std": np.full(1, 0.3, np.float32)},
            "",
            "its images lie between 0 and 1, and are taken as pixels not yet transformed",
        ),
    ],
)
def test_what_is_assumed_is_said_in_one_line(invoke, tmp_path, arrays, flags, words):  # noqa: F811
    images = RAW.x_train[:20].astype(np.float32)
    given = {"images": images, "labels": RAW.y_train[:20], "lr": np.float32(0.05)}
    np.savez(tmp_path / "theirs.npz", **given, **arrays)
    code, shown, _ = invoke("evaluate", f"theirs.npz {flags} {QUICK} --eval-epochs 1")
    assert code == 0
    (line,) = [line for line in shown.splitlines() if words in line]
    assert line.startswith("theirs.npz ")


def test_normalised_images_beside_their_pixels_must_be_as_the_settings_say(
    invoke,  # noqa: F811
    exported,
    tmp_path,
):
    with np.load(exported / "white" / "distilled.npz") as file:
        arrays = {name: file[name] for name in ("images", "pixels", "labels", "lr")}
    np.savez(tmp_path / "theirs.npz", **arrays)
    code, shown, error = invoke("evaluate", "theirs.npz")
    assert (code, shown) == (2, "")
    assert "not its pixels under the normalisation per channel fitted to digits" in error
    assert "give --zca" in error
    code, _, error = invoke("evaluate", f"theirs.npz --zca {QUICK} --eval-epochs 1")
    assert code == 0, error


def test_an_export_folder_is_judged_by_what_it_holds(invoke, exported, tmp_path):  # noqa: F811
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text("{}")
    code, _, error = invoke("evaluate", "out")
    assert code == 2
    assert "export it again with --formats npz" in error
    arrays = (exported / "white" / "distilled.npz").read_bytes()
    (tmp_path / "out" / "distilled.npz").write_bytes(arrays)
    code, shown, _ = invoke("evaluate", f"out {QUICK} --eval-epochs 1")
    assert code == 0
    assert "out/distilled.npz brings its own ZCA whitening" in shown


@pytest.mark.parametrize("zca", [True, False])
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_an_export_says_how_its_images_come_of_its_pixels(exported, zca, kind):
    """By the numbers in the file alone, in the order in which it holds them."""
    path = exported / f"{'white' if zca else 'plain'}-first" / f"distilled.{kind}"
    if kind == "npz":
        with np.load(path) as file:
            arrays = dict(file)
        assert str(arrays["layout"]) == "channels_first"
    else:
        arrays = safetensors.numpy.load_file(path)
    assert arrays["images"].shape == (20, 1, 8, 8)
    if zca:
        flat = arrays["pixels"].reshape(20, -1) - arrays["zca_mean"]
        found = (flat @ arrays["zca_matrix"]).reshape(arrays["images"].shape)
    else:
        found = (arrays["pixels"] - arrays["mean"][:, None, None]) / arrays["std"][:, None, None]
    np.testing.assert_allclose(found, arrays["images"], atol=1e-4)


def test_the_same_in_colour_where_the_order_matters(tmp_path):
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(48, 48)) / 7
    matrix = np.eye(48, dtype=np.float32) + (mixing @ mixing.T).astype(np.float32)
    zca = Zca(generator.uniform(size=48).astype(np.float32), matrix)
    pixels = generator.uniform(size=(6, 4, 4, 3)).astype(np.float32)
    distilled = DistilledSet(
        images=apply(zca, pixels),
        pixels=pixels,
        labels=np.arange(6, dtype=np.int32) % 2,
        alpha=0.1,
        class_names=("a", "b"),
        transform=transform_arrays(zca),
        origin={},
    )
    write_distilled(tmp_path / "set.safetensors", distilled)
    small = load_distilled(tmp_path / "set.safetensors")
    export(small, tmp_path / "out", ["npz"], channels_first=True)
    with np.load(tmp_path / "out" / "distilled.npz") as file:
        arrays = dict(file)
    flat = arrays["pixels"].reshape(6, -1) - arrays["zca_mean"]
    found = (flat @ arrays["zca_matrix"]).reshape(6, 3, 4, 4)
    np.testing.assert_allclose(found, arrays["images"], atol=1e-4)
    turned = np.moveaxis(arrays["images"], 1, 3)
    order = np.argsort(distilled.labels, kind="stable")
    np.testing.assert_array_equal(turned, distilled.images[order])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"zca_mean": np.zeros(63, np.float32)}, "has the transform"),
        ({"zca_matrix": np.full((64, 64), np.nan, np.float32)}, "a zca_matrix that is not finite"),
        ({"mean": np.zeros(1, np.float32), "std": np.ones(1, np.float32)}, "has the transform"),
        ({"zca_mean": None}, "has the transform"),
        ({"zca_mean": None, "zca_matrix": None}, "has the transform {}"),
    ],
)
def test_a_spoilt_transform_of_our_own_file_is_one_line(tmp_path, arrays, words):
    small = make_set(tmp_path / "set.safetensors", zca=True)
    spoilt = {n: v for n, v in {**small.transform, **arrays}.items() if v is not None}
    distilled = small._replace(transform=spoilt, origin={})
    write_distilled(tmp_path / "set.safetensors", distilled)
    with pytest.raises(InputError, match=words) as caught:
        load_distilled(tmp_path / "set.safetensors")
    assert "set.safetensors" in str(caught.value)
