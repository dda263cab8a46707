"""KIP's whitening, of images of mean 0 and length 1: the numbers, files and commands."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_layout
from safetensors.numpy import load_file
from small import distilled_like, two_of_each
from test_commands import invoke  # noqa: F401
from test_goldens import close
from test_stored import sources
from test_whitening import DIGITS, colours, flip, small, strangers, truncate

from ddpp_jax import load_distilled
from ddpp_jax.cli.sets import read_set
from ddpp_jax.configs import DataConfig, EvaluateJob, TeachersJob, setting
from ddpp_jax.data import (
    Contrast,
    PerChannel,
    Stored,
    agrees,
    apply,
    as_shown,
    carried_transform,
    fit_transform,
    from_shown,
    load_dataset,
    load_raw,
    normalise,
    normalised,
    numbers_like,
    require_transform,
    same_transform,
    small_record,
    transform_arrays,
    transform_from,
    transformed,
    undo,
    whitening,
)
from ddpp_jax.data.carried import from_small_record, probe
from ddpp_jax.data.normalising import numbers_of
from ddpp_jax.data.transforms import contrasted
from ddpp_jax.data.whitening import fit_contrast
from ddpp_jax.errors import InputError
from ddpp_jax.export import export
from ddpp_jax.planning.identities import plain
from ddpp_jax.progress import Report
from ddpp_jax.sets import write_distilled

PLAIN = PerChannel(np.zeros(3, np.float32), np.ones(3, np.float32))
"""Channels as they are: the golden numbers are of images that are standardised before."""


def golden():
    """By name, images channels last and the matrix of vectors in that order."""
    arrays = torch_layout.load("kip.npz")
    order = np.arange(48).reshape(3, 4, 4).transpose(1, 2, 0).ravel()
    found = {}
    for name, array in arrays.items():
        if name.startswith("zca_"):
            square = array.shape == (48, 48)
            found[name[4:]] = (
                array[np.ix_(order, order)]
                if square
                else np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            )
    return found


GOLDEN = golden()


def fit(images, channels=PLAIN):
    """The transform as float32, with which the stages work."""
    return transform_from(transform_arrays(fit_contrast(images, channels)))


def contrast_of(raw, cache_dir=None):
    return fit_transform(raw, zca=True, contrast=True, cache_dir=cache_dir)


def distilled_of(raw, seed=0):
    """Images as a distillation leaves them: of any lengths and means before they are whitened."""
    transform = contrast_of(raw)
    draws = np.random.default_rng(seed)
    images = apply(transform, raw.x_train[two_of_each(raw)])
    scales = draws.uniform(0.3, 3, size=(len(images), 1, 1, 1))
    images = (scales * images + draws.normal(scale=0.3, size=images.shape)).astype(np.float32)
    return distilled_like(raw, transform, images)


@pytest.mark.parametrize("kind", ["full", "few"])
def test_golden(kind):
    train = GOLDEN[f"{kind}_train"]
    assert train.dtype == np.float64
    fitted = fit_contrast(train, PLAIN)
    assert fitted.matrix.dtype == np.float64
    close(fitted.matrix, GOLDEN[f"{kind}_matrix"], 1e-9)
    for name, images in (("train_white", train[:5]), ("new_white", GOLDEN[f"{kind}_new"])):
        flat, _ = contrasted(images.reshape(len(images), -1))
        close(flat @ fitted.matrix, GOLDEN[f"{kind}_{name}"].reshape(len(flat), -1), 1e-9)
        close(apply(fit(train), images.astype(np.float32)), GOLDEN[f"{kind}_{name}"], 1e-5)


def test_many_chunks_give_what_one_gives(monkeypatch):
    channels = PerChannel(np.float32([0.3, 0.4, 0.5]), np.float32([0.2, 0.25, 0.3]))
    whole = fit_contrast(colours(), channels)
    monkeypatch.setattr(whitening, "_ROWS", 7)
    chunked = fit_contrast(colours(), channels)
    close(chunked.matrix, whole.matrix, 1e-12)
    close(chunked.length, whole.length, 1e-12)
    np.testing.assert_array_equal(whole.matrix, whole.matrix.T)


def test_images_that_stand_twice_change_nothing():
    """Of fewer images than pixels, directions that no image has are left alone, copies or not."""
    train = GOLDEN["few_train"]
    twice = fit_contrast(np.concatenate([train, train]), PLAIN)
    close(twice.matrix, GOLDEN["few_matrix"], 1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_seen_by_the_formula(dtype):
    pixels = colours(dtype=dtype)
    transform = contrast_of(small(pixels))
    true = pixels / 255 if dtype == np.uint8 else pixels.astype(np.float64)
    standard = (true - true.mean(axis=(0, 1, 2))) / true.std(axis=(0, 1, 2))
    flat = standard.reshape(len(pixels), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    white = flat / lengths @ transform.matrix.astype(np.float64)
    found = apply(transform, pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, white.reshape(found.shape), atol=2e-4)
    assert transform.length[0] == pytest.approx(lengths.mean(), rel=1e-5)
    # What is shown is each image less its mean, of one length, on the scale of the data.
    shown = (flat / lengths * lengths.mean()).reshape(pixels.shape)
    shown = shown * true.std(axis=(0, 1, 2)) + true.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(undo(transform, found), shown, atol=1e-5)
    np.testing.assert_allclose(as_shown(transform, pixels), shown, atol=1e-5)
    assert np.abs(shown - true).max() > 0.1


def test_what_is_shown_of_a_set_gives_it_back():
    raw = small(colours())
    distilled = distilled_of(raw)
    transform = contrast_of(raw)
    real = apply(transform, raw.x_train[:4])
    np.testing.assert_allclose(apply(transform, undo(transform, real)), real, atol=1e-3)
    images, pixels = distilled.images, distilled.looks
    np.testing.assert_allclose(from_shown(transform, pixels), images, atol=1e-3)
    # As if they were real images, they would be others: their lengths are not 1.
    assert np.abs(apply(transform, pixels) - images).max() > 0.5
    assert agrees(transform, pixels, images)
    assert agrees(transform, raw.x_train[:4] / np.float32(255), real)
    assert not agrees(transform, pixels[::-1], images)
    assert not agrees(transform, pixels, 2 * images)
    assert not agrees(transform, pixels, np.full_like(images, np.nan))


def test_an_image_that_is_the_same_everywhere_becomes_0():
    raw = DIGITS
    transform = contrast_of(raw)
    flat = np.stack([np.full((8, 8, 1), level, np.uint8) for level in (0, 9, 255)])
    for pixels in (flat, (flat / np.float32(255)).astype(np.float32)):
        np.testing.assert_array_equal(apply(transform, pixels), np.zeros(flat.shape))
    on_device = normalise(numbers_of(transform, flat.dtype), jnp.asarray(flat))
    np.testing.assert_array_equal(on_device, np.zeros(flat.shape))
    colours = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    colours[..., 1] //= 2
    black = np.zeros((1, 4, 4, 3), np.uint8)  # Its standardised channels differ.
    assert np.abs(apply(contrast_of(small(colours)), black)).max() > 0.1
    found, lengths = contrasted(np.float32([[0.1] * 7, [0, 0, 1, 0, 0, 0, 0]]))
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(lengths, [0, np.sqrt(6 / 7)], rtol=1e-6)
    # They take part in the fit with nothing: 3 of 303 images make it 1 % smaller, and no NaN.
    some = raw.x_train[:300]
    with_them = fit_contrast(np.concatenate([some, flat]), PerChannel(*transform[:2]))
    assert np.isfinite(with_them.matrix).all()
    alone = fit_contrast(some, PerChannel(*transform[:2]))
    close(with_them.length, alone.length * 300 / 303, 1e-6)


def test_images_that_are_all_the_same_everywhere_are_refused(tmp_path):
    levels = np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((20, 4, 4, 1), np.uint8)
    with pytest.raises(InputError, match="would leave nothing of it; give --no-contrast"):
        contrast_of(small(levels))
    colour = np.zeros((20, 4, 4, 3), np.uint8)
    with pytest.raises(InputError, match="channel 0 of the training images is the same"):
        require_transform(small(colour), zca=True, contrast=True, cache_dir=tmp_path)


@pytest.mark.parametrize("kind", ["npy", "floats", "images", "digits"])
def test_streamed_images_are_equal_to_rounding(tmp_path, kind):
    config = sources(tmp_path, kind)
    here, there = (load_raw(config, images=how) for how in ("device", "stream"))
    assert isinstance(there.x_train, Stored)
    transforms = [contrast_of(raw) for raw in (here, there)]
    assert same_transform(*transforms)
    held = normalised(here, transforms[0]).x_train
    streamed = normalised(there, transforms[1]).x_train
    np.testing.assert_array_equal(streamed[:], held)
    found = np.concatenate(list(streamed.batches(24)))[: len(held)]
    np.testing.assert_allclose(found, held, atol=2e-4)
    shapes = numbers_like(streamed.pixel, streamed.image_shape, zca=True, contrast=True)
    made = streamed.numbers()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), made
    )


def test_the_cache_is_its_own_and_gives_the_same_bits(tmp_path, monkeypatch):
    config = DataConfig(dataset="digits", zca=True, contrast=True)
    first = load_dataset(config, cache_dir=tmp_path)
    print_ = first.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [f"contrast-{print_}.safetensors"]
    other = load_dataset(dataclasses.replace(config, contrast=False), cache_dir=tmp_path)
    assert other.fingerprint == print_
    assert np.abs(other.x_train - first.x_train).max() > 1
    assert (tmp_path / f"zca-{print_}.safetensors").exists()

    def refit(*_, **__):
        raise AssertionError("fitted again")

    monkeypatch.setattr(whitening, "fit_contrast", refit)
    second = load_dataset(config, cache_dir=tmp_path)
    np.testing.assert_array_equal(second.x_test, first.x_test)
    for ours, theirs in zip(second.transform, first.transform, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    require_transform(DIGITS, zca=True, contrast=True, cache_dir=tmp_path)


def of_the_other(path):
    plain = path.with_name(path.name.replace("contrast-", "zca-"))
    fit_transform(DIGITS, zca=True, cache_dir=path.parent)
    plain.rename(path)


@pytest.mark.parametrize("damage", [truncate, flip, strangers, of_the_other])
def test_a_damaged_cache_is_named(tmp_path, damage):
    contrast_of(DIGITS, tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    with pytest.raises(InputError, match=rf"{path.name} is.*delete it, and the same command"):
        contrast_of(DIGITS, tmp_path)
    with pytest.raises(InputError, match=rf"{path.name} is.*delete it"):
        require_transform(DIGITS, zca=True, contrast=True, cache_dir=tmp_path)
    path.unlink()
    assert isinstance(contrast_of(DIGITS, tmp_path), Contrast)


def test_the_setting_goes_with_zca_alone():
    wanted = "goes with --zca alone; give --zca too, or --no-contrast"
    with pytest.raises(InputError, match=wanted):
        TeachersJob(data=DataConfig(contrast=True))
    with pytest.raises(InputError, match=wanted):
        fit_transform(DIGITS, zca=False, contrast=True, cache_dir=None)


def test_names_of_runs_stay_where_it_is_off():
    job = setting("cifar10-ipc1", "kip")
    assert "contrast" not in plain(job, DIGITS)["data"]
    job = dataclasses.replace(job, data=dataclasses.replace(job.data, contrast=True))
    assert plain(job, DIGITS)["data"]["contrast"] is True


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A set of the digits and one in colour, each with its exports, channels last and first."""
    folder = tmp_path_factory.mktemp("contrast")
    colour = small(colours())
    for name, raw in (("grey", DIGITS), ("colour", colour)):
        write_distilled(folder / f"{name}.safetensors", distilled_of(raw))
        one = load_distilled(folder / f"{name}.safetensors")
        export(one, folder / name, ["png", "npz", "safetensors", "card"], channels_first=False)
        export(one, folder / f"{name}-first", ["npz", "safetensors"], channels_first=True)
    return folder, {"grey": DIGITS, "colour": colour}


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_every_format_is_seen_as_the_set_itself(exported, tmp_path, name):
    folder, raws = exported
    raw = raws[name]

    def read(path):
        return read_set(EvaluateJob(), folder / path, raw, tmp_path, Report(None))

    own = read(f"{name}.safetensors")
    assert same_transform(own.transform, contrast_of(raw))
    files = ("distilled.npz", "distilled.safetensors")
    order = np.argsort(own.labels, kind="stable")
    for path in [f"{name}{end}/{file}" for end in ("", "-first") for file in files]:
        found = read(path)
        np.testing.assert_array_equal(found.images, own.images[order])
        assert same_transform(found.transform, own.transform)
        assert "brings its own ZCA whitening as in KIP (--contrast)" in found.said
    pictures = read(f"{name}/images")
    # Eight bits of the range, times what whitening makes of them.
    most = np.abs(own.images).max()
    assert np.abs(pictures.images - own.images[order]).max() < 0.1 * most
    assert same_transform(pictures.transform, own.transform)
    assert "ZCA whitening as in KIP (--contrast) of" in pictures.said
    assert "eight bits are coarse for this whitening, an .npz of the set is exact" in pictures.said
    card = (folder / name / "README.md").read_text()
    assert "`contrast_length`" in card
    assert "zca_mean" not in card


def test_an_export_says_how_its_images_come_of_its_pixels(exported):
    """By the numbers in the file alone, in the order in which it holds them."""
    folder, raws = exported
    with np.load(folder / "colour-first" / "distilled.npz") as file:
        arrays = dict(file)
    mean, std = (arrays[f"contrast_{n}"][:, None, None] for n in ("mean", "std"))
    flat = ((arrays["pixels"] - mean) / std / arrays["contrast_length"]).reshape(4, -1)
    white = (flat @ arrays["contrast_matrix"]).reshape(arrays["images"].shape)
    np.testing.assert_allclose(white, arrays["images"], atol=1e-3)
    # Test images, as the card says it.
    pixels = np.moveaxis(raws["colour"].x_test, 3, 1) / 255
    flat = ((pixels - mean) / std).reshape(len(pixels), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    white = (flat @ arrays["contrast_matrix"]).reshape(pixels.shape)
    seen = load_distilled(folder / "colour.safetensors").seen(raws["colour"].x_test)
    np.testing.assert_allclose(np.moveaxis(white, 1, 3), seen, atol=2e-4)


BAD = {
    "a part": ({"contrast_length": None}, "has contrast_mean and no contrast_length; wanted all"),
    "no length": ({"contrast_length": np.zeros(1)}, "contrast_length holds 0; wanted"),
    "no deviation": ({"contrast_std": np.zeros(1)}, "contrast_std holds 0; wanted"),
    "two kinds": ({"mean": np.zeros(1), "std": np.ones(1)}, "holds both mean or std and contrast_"),
    "nothing": ({"contrast_matrix": np.zeros((64, 64))}, "contrast_matrix holds nothing but 0"),
    "a size": ({"contrast_matrix": np.eye(48)}, r"contrast_matrix is of shape \(48, 48\)"),
    "another": ({"contrast_matrix": 2 * np.eye(64)}, "not its pixels under its own transform"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_file_says_of_its_images_must_hold(exported, tmp_path, case):
    changes, words = BAD[case]
    with np.load(exported[0] / "grey" / "distilled.npz") as file:
        arrays = {n: v for n, v in (dict(file) | changes).items() if v is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        read_set(EvaluateJob(), tmp_path / "set.npz", DIGITS, None, Report(None))
    assert "\n" not in str(caught.value)


def test_a_spoilt_transform_of_our_own_file_is_one_line(tmp_path):
    one = distilled_of(DIGITS)
    for name, array, words in (
        ("contrast_length", np.zeros(1, np.float32), "has a contrast_length of 0; wanted"),
        ("contrast_mean", np.zeros(2, np.float32), "has the transform"),
        ("contrast_matrix", np.full((64, 64), np.nan, np.float32), "contrast_matrix that is not"),
    ):
        spoilt = one._replace(transform={**one.transform, name: array})
        write_distilled(tmp_path / "set.safetensors", spoilt)
        with pytest.raises(InputError, match=words):
            load_distilled(tmp_path / "set.safetensors")


def test_a_probe_tells_it_from_others():
    transform = contrast_of(DIGITS)
    record = json.loads(json.dumps(small_record(transform)))
    assert record.keys() == {"contrast_probe"}
    found = from_small_record(record, (8, 8, 1), "it")
    assert found == probe(transform)
    assert found.fits(transform)
    assert not found.fits(fit_transform(DIGITS, zca=True, cache_dir=None))
    assert not found.fits(transform._replace(length=np.float32(1.01) * transform.length))
    assert not found.fits(transform._replace(std=np.float32(1.1) * transform.std))
    assert not found.fits(transform._replace(matrix=np.float32(1.01) * transform.matrix))
    kept = carried_transform(transform_arrays(transform), (8, 8, 1), "it")
    assert same_transform(kept, transform)
    pixels = DIGITS.x_test[:3]
    np.testing.assert_array_equal(transformed(kept, pixels), apply(transform, pixels))


QUICK = "--augment none --width 4 --depth 1 --networks 1 --eval-epochs 8"
KIP = (
    "digits --method kip --zca --contrast --depth 1 --width 4 --steps 3 --ipc 2 --networks 1 "
    "--eval-epochs 8 --random-draws 1 --eval-every 0"
)
REFUSED = [
    ("distill", "digits --method kip --contrast", "goes with --zca alone; give --zca too"),
    ("teachers", "digits --contrast --no-zca", "goes with --zca alone; give --zca too"),
    (
        "evaluate",
        "SET/grey/distilled.npz --no-contrast",
        "with ZCA whitening as in KIP (--contrast",
    ),
    ("evaluate", "SET/grey/images --no-zca", "and --no-zca says otherwise; leave it out, or give"),
    ("evaluate", "SET/grey.safetensors --no-contrast", "--no-contrast says otherwise"),
    ("evaluate", "SET/grey.safetensors --no-zca", "and --no-zca says otherwise; leave it out, or"),
    ("evaluate", "SET/grey/images --per-class 50", "of other training images than those of digits"),
]


@pytest.mark.parametrize(("stage", "flags", "words"), REFUSED)
def test_what_is_refused_is_one_line(invoke, exported, stage, flags, words):  # noqa: F811
    code, shown, error = invoke(stage, flags.replace("SET", str(exported[0])))
    assert (code, shown) == (2, "")
    assert words in error
    assert error.count("\n") == 1


def test_a_set_without_it_is_not_seen_with_it(invoke, tmp_path):  # noqa: F811
    zca = fit_transform(DIGITS, zca=True, cache_dir=None)
    one = distilled_of(DIGITS)._replace(transform=transform_arrays(zca))
    write_distilled(tmp_path / "set.safetensors", one)
    code, _, error = invoke("evaluate", "set.safetensors --zca --contrast")
    assert code == 2
    assert "was made with ZCA whitening, and --contrast says otherwise; leave it out" in error


def test_pixels_of_others_are_said_to_lose_means_and_lengths(invoke, tmp_path):  # noqa: F811
    images = (DIGITS.x_train[:20] / 255).astype(np.float32)
    given = {"images": images, "labels": DIGITS.y_train[:20], "lr": np.float32(0.05)}
    np.savez(tmp_path / "theirs.npz", **given)
    code, shown, error = invoke("evaluate", f"theirs.npz --zca --contrast {QUICK}")
    assert code == 0, error
    assert "taken as pixels, and seen by the ZCA whitening as in KIP (--contrast)" in shown
    assert "each image is brought to mean 0 and length 1, whatever it had" in shown


def test_streamed_images_distil_to_the_same_set(invoke, tmp_path):  # noqa: F811
    sources(tmp_path, "npy")
    flags = (
        f"digits --dataset set --method dm --zca --contrast {QUICK} --steps 3 --random-draws 0 "
        "--eval-every 0 --pixel-rate 0.1 --siamese none"
    )
    found = {}
    for images in ("stream", "device"):
        code, shown, error = invoke("distill", f"{flags} --images {images} --out {images}")
        assert code == 0, error
        assert ("will be streamed from where they are" in shown) == (images == "stream")
        found[images] = load_distilled(tmp_path / images)
    assert list((tmp_path / "runs" / "cache").glob("channels-*.json"))
    np.testing.assert_allclose(found["stream"].images, found["device"].images, atol=1e-3)


def test_a_run_of_kip_and_its_evaluation(invoke, tmp_path):  # noqa: F811
    """The whole pipeline: in memory, evaluated again by its run and its exports, and audited."""
    code, shown, error = invoke("distill", f"{KIP} --out run")
    assert code == 0, error
    assert "ZCA whitening as in KIP (--contrast), cached in" in shown
    one = load_distilled(tmp_path / "run")
    transform = contrast_of(DIGITS, tmp_path / "runs" / "cache")
    assert same_transform(transform_from(one.transform), transform)
    assert len(list(tmp_path.glob("run/whitening.safetensors"))) == 1
    np.testing.assert_allclose(from_shown(transform, one.looks), one.images, atol=1e-3)
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert all(0 <= row["mean"] <= 1 for row in rows)
    code, _, error = invoke("export", "run --out out --formats png,npz,card")
    assert code == 0
    assert "whitened as in KIP, which no other tool does by itself" in error
    code, _, error = invoke("evaluate", "run out out/images --out evaluated")
    assert code == 0, error
    own, exact, near = (
        row["accuracies"]
        for row in json.loads((tmp_path / "evaluated" / "result.json").read_text())["rows"]
    )
    assert own == exact == next(row["accuracies"] for row in rows if row["method"] == "KIP")
    assert own == pytest.approx(near, abs=0.1)
    # Pixels are compared as the set shows them, and so are the images that it started from.
    code, shown, error = invoke("audit", "run --no-features --out audited")
    assert code == 0, error
    assert "as its frame of step 0 shows" in shown
    code, _, error = invoke("select", "digits --method random --zca --contrast --out chosen")
    assert code == 0, error
    code, shown, error = invoke("audit", "chosen --no-features --out copies")
    assert code == 0, error
    (found,) = json.loads((tmp_path / "copies" / "result.json").read_text())["copies"]
    assert found["found"]
    assert found["start"]["mean"] == pytest.approx(0, abs=1e-4)


def test_an_attack_compares_pixels_as_sets_show_them(invoke, tmp_path):  # noqa: F811
    """Random real images, which its control releases, lie at no distance from members."""
    flags = (
        f"digits --attack --method dm --ipc 1 --steps 2 --per-class 12 --zca --contrast {QUICK} "
        "--shadows 4 --attacks loss --worst 1 --out attack"
    )
    code, _, error = invoke("audit", flags)
    assert code == 0, error
    ratios = {}
    for method in ("random", "dm"):
        paths = [*(tmp_path / "attack").rglob(f"{method}.safetensors")]
        assert len(paths) == 4
        ratios[method] = np.concatenate([load_file(path)["ratios"] for path in paths])
    np.testing.assert_array_equal(ratios["random"], 0)
    assert (ratios["dm"] > 0).all()
