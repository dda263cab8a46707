"""MTT's expert trajectories: their order and layout, and their way into a store and back."""

import dataclasses
import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_layout
from test_commands import invoke  # noqa: F401

from ddpp_jax.cli.methods import Sources, make_method
from ddpp_jax.configs import (
    DataConfig,
    DistillJob,
    ModelConfig,
    Places,
    TeachConfig,
    TrajectoryConfig,
)
from ddpp_jax.data import load_raw
from ddpp_jax.errors import InputError
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.planning.identities import identity_of
from ddpp_jax.planning.problem import prepare
from ddpp_jax.storage import TeacherStore, write_json
from ddpp_jax.teachers import buffers

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

RAW = load_raw(DataConfig())
SIZES = [
    {"classes": 4, "width": 6, "depth": 2, "image_size": 16, "channels": 3},
    {"classes": 3, "width": 4, "depth": 1, "image_size": 10, "channels": 1},
    {"classes": 5, "width": 3, "depth": 3, "image_size": 13, "channels": 3},
]


def network_of(size):
    shape = (size["image_size"], size["image_size"], size["channels"])
    return make_network(ConvNet(**size), shape)


def formula(network, number=0):
    """Parameters of which no two are alike, norms near one."""
    values = 0.3 * np.sin(0.37 * np.arange(network.num_params) + number)
    params = network.unflatten(jnp.asarray(values, jnp.float32))
    params = {
        name: {k: v + 1 if k == "scale" else v for k, v in leaves.items()}
        for name, leaves in params.items()
    }
    return np.asarray(jax.flatten_util.ravel_pytree(params)[0])


def as_torch(vector, layout):
    """What a vector of ours is in MTT's buffers."""
    cuts = np.cumsum([int(np.prod(shape)) for shape in layout.shapes])[:-1]
    pieces = np.split(vector[layout.order], cuts)
    return [p.reshape(shape) for p, shape in zip(pieces, layout.shapes, strict=True)]


def numpy_logits(tensors, images):
    """A ConvNet over PyTorch's tensors and images (n, channels, height, width), in loops."""
    *blocks, weight, bias = tensors
    for low in range(0, len(blocks), 4):
        kernel, shift, scale, offset = blocks[low : low + 4]
        count, _, height, width = images.shape
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        found = np.zeros((count, len(kernel), height, width))
        for row in range(3):
            for column in range(3):
                part = padded[:, :, row : row + height, column : column + width]
                found += np.einsum("nchw,oc->nohw", part, kernel[:, :, row, column])
        found += shift[:, None, None]
        centred = found - found.mean(axis=(2, 3), keepdims=True)
        centred /= np.sqrt((centred**2).mean(axis=(2, 3), keepdims=True) + 1e-5)
        found = np.maximum(centred * scale[:, None, None] + offset[:, None, None], 0)
        rows, columns = height // 2, width // 2
        found = found[:, :, : 2 * rows, : 2 * columns]
        images = found.reshape(count, -1, rows, 2, columns, 2).mean(axis=(3, 5))
    return images.reshape(len(images), -1) @ weight.T + bias


@pytest.mark.parametrize("size", SIZES)
def test_logits_are_the_same_in_either_layout(size):
    network = network_of(size)
    layout = buffers.torch_layout(network.tensors)
    assert sorted(layout.order) == list(range(network.num_params))
    vector = formula(network)
    images = np.random.default_rng(0).normal(size=(3, *[size["image_size"]] * 2, size["channels"]))
    ours = network.apply_fn(network.unflatten(jnp.asarray(vector)), jnp.asarray(images, "float32"))
    theirs = numpy_logits(as_torch(vector, layout), np.moveaxis(images, 3, 1))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_order_is_that_of_the_golden_files():
    golden = torch_layout.load("trajectory_small_f64.npz")
    shapes = json.loads(str(golden["shapes"]))
    network = make_network(ConvNet(classes=4, width=8, depth=2, image_size=16), (16, 16, 3))
    layout = buffers.torch_layout(network.tensors)
    assert [list(shape) for shape in layout.shapes] == [shape for _, shape in shapes]
    places = np.arange(network.num_params, dtype=np.float32)
    expected = torch_layout.convnet_params(places, str(golden["shapes"]), side=4)
    found = np.empty_like(places)
    found[layout.order] = places
    np.testing.assert_array_equal(found, jax.flatten_util.ravel_pytree(expected)[0])


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="MTT's buffers are of ConvNets; this network has Conv"):
        buffers.torch_layout([("Conv3x3_0/kernel", (3, 3, 3, 8)), ("Dense_0/bias", (4,))])


@pytest.fixture
def plain(monkeypatch):
    """Buffers of NumPy's arrays in pickles in place of PyTorch's tensors, which needs it not."""

    def save(content, path):
        Path(path).write_bytes(pickle.dumps(content))

    torch = SimpleNamespace(from_numpy=lambda array: array, save=save)
    monkeypatch.setattr(buffers, "require_torch", lambda what: torch)
    monkeypatch.setattr(buffers, "load_torch", lambda path, mapped: pickle.loads(path.read_bytes()))
    monkeypatch.setattr(buffers, "tensor_array", lambda value, what: value)
    return save


TEACH = "--width 4 --depth 1 --augment none --epochs 2"
JOB = DistillJob(
    data=DataConfig(augment="none"),
    model=ModelConfig(width=4, depth=1),
    teaching=TeachConfig(teachers=4, epochs=2, teacher_rate=0.1),
    distillation=TrajectoryConfig(steps=6, max_start_epoch=1, target_epochs=1),
)


def pairs(job):
    """What the steps of a distillation read of its teachers."""
    problem = prepare(job, Places(teachers_dir=Path("runs/teachers")))
    feed = make_method(job, Sources({0: problem})).method.feed(0, 0)
    taken = feed.take(6, rows=6)
    return problem.manifest, np.asarray([taken.start, taken.target])


def test_a_store_goes_out_and_comes_back(invoke, plain, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(buffers, "TEACHERS_A_FILE", 2)
    code, _, error = invoke("teachers", f"{TEACH} --teachers 4")
    assert code == 0, error
    (trained,) = (tmp_path / "runs" / "teachers").iterdir()
    code, shown, error = invoke("export", f"{trained} --formats mtt-buffers --out theirs")
    assert code == 0
    assert "4 teachers are in theirs" in shown
    assert "pads grey images by 3 pixels" in error
    content = pickle.loads((tmp_path / "theirs" / "replay_buffer_1.pt").read_bytes())
    assert [len(teacher) for teacher in content] == [3, 3]
    # What one would import is said, and nothing is written.
    code, shown, error = invoke("teachers", f"{TEACH} --teachers 4 --import theirs --dry-run")
    assert code == 0, error
    assert "0 found, 4 to import" in shown
    assert [path.name for path in trained.parent.iterdir()] == [trained.name]
    code, shown, error = invoke("teachers", f"{TEACH} --teachers 4 --import theirs")
    assert code == 0, error
    (name,) = re.findall(r"--imported ([0-9a-f]{8})", shown)
    (imported,) = trained.parent.glob("digits-imported-*")
    assert imported != trained
    assert json.loads((imported / "manifest.json").read_text())["imported"] == name
    stores = TeacherStore(trained), TeacherStore(imported)
    for index in range(4):
        a, b = (store.read(index, range(3), num_params=NETWORK.num_params) for store in stores)
        np.testing.assert_array_equal(a, b)
        a, b = (store.known(index) for store in stores)
        assert a["accuracy"] == b["accuracy"]
        assert b["source"] == f"replay_buffer_{index // 2}.pt, {index % 2}"
    # A distillation reads the same parameters, and is another run.
    theirs = dataclasses.replace(JOB, teaching=dataclasses.replace(JOB.teaching, imported=name))
    (manifest, own), (other_manifest, read) = pairs(JOB), pairs(theirs)
    np.testing.assert_array_equal(own, read)
    assert manifest != other_manifest
    assert identity_of(JOB, RAW) != identity_of(theirs, RAW)
    assert "imported" not in json.dumps(identity_of(JOB, RAW))
    # A teacher that is lost or damaged is refused by name, and comes back by the same import.
    bits = next((imported / "teacher-001").rglob("d/*"))
    bits.write_bytes(bits.read_bytes()[:9])
    code, _, error = invoke("teachers", f"{TEACH} --teachers 4 --imported {name}")
    assert code == 2
    assert f"{bits.relative_to(tmp_path)} is damaged" in error
    assert "--import with the same files and settings replaces it" in error
    shutil.rmtree(imported / "teacher-002")
    flags = f"{TEACH} --max-start-epoch 1 --target-epochs 1 --teachers 4 --imported {name}"
    code, _, error = invoke("distill", f"{flags} --out again")
    assert code == 2
    assert "lacks teacher 2; give --teachers 2, or" in error
    assert not (tmp_path / "again").exists()
    code, _, error = invoke("teachers", f"{TEACH} --teachers 4 --import theirs")
    assert code == 0
    assert "set aside as teacher-001.damaged-1, and read again" in error
    code, _, error = invoke("teachers", f"{TEACH} --teachers 4 --imported {name}")
    assert code == 0, error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--imported 00000000", "no teachers were imported as 00000000 for these data"),
        ("--imported mine", "--imported is 'mine'; wanted the eight digits"),
        ("--imported 00000000 --dry-run", "no teachers were imported as 00000000"),
    ],
)
def test_teachers_that_were_not_imported_are_not_trained(invoke, tmp_path, flags, words):  # noqa: F811
    for stage, more in (("teachers", ""), ("distill", "--max-start-epoch 1 --target-epochs 1")):
        code, shown, error = invoke(stage, f"{TEACH} {more} {flags}")
        assert code == 2
        assert "Settings: those of the digits" in shown or not shown
        assert words in error
        assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


NETWORK = make_network(ConvNet(10, 4, 1, 8, 1), (8, 8, 1))
LAYOUT = buffers.torch_layout(NETWORK.tensors)


def teacher(number=0, epochs=2, network=NETWORK, layout=LAYOUT):
    """A teacher of a buffer that moves from epoch to epoch."""
    return [as_torch(formula(network, number + epoch), layout) for epoch in range(epochs + 1)]


def other(**size):
    network = network_of(
        {"classes": 10, "width": 4, "depth": 1, "image_size": 8, "channels": 1} | size
    )
    return teacher(network=network, layout=buffers.torch_layout(network.tensors))


def spoilt(epoch, place, value):
    found = teacher()
    found[epoch][place] = value(found[epoch][place])
    return found


BAD = {
    "no list": ({"images": 1}, "holds a dict; wanted MTT's list of teachers"),
    "empty": ([], "holds a list of nothing"),
    "no teacher": ([3], "teacher 0 is a int; wanted a list of epochs"),
    "no epochs": ([[]], "teacher 0 has 0 epochs, fewer than --epochs 2; it cannot be used"),
    "few teachers": ([teacher()], "holds 1 teachers in 1 files, fewer than --teachers 2; give"),
    "few epochs": ([teacher(epochs=1)] * 2, "has 1 epochs, fewer than --epochs 2; give --epochs 1"),
    "a width": ([other(width=6)] * 2, "give --width 6 and --depth 1"),
    "a depth": ([other(depth=2)] * 2, "give --width 4 and --depth 2"),
    "a size": ([other(image_size=16)] * 2, "by --image-size"),
    "colour": ([other(channels=3)] * 2, "give data of 3 channels"),
    "classes": ([other(classes=7)] * 2, "give data of 7 classes"),
    "no norm": ([[e[:2] + e[4:] for e in teacher()]] * 2, "no ConvNets with instance norm"),
    "a tensor short": ([[e[:-1] for e in teacher()]] * 2, "has 5 tensors; wanted 6 tensors"),
    "one shape": ([spoilt(1, 1, lambda t: t[:-1]), teacher()], r"epoch 1 has .* number 1 \(3,\)"),
    "NaN": ([teacher(), spoilt(2, 4, lambda t: t * np.nan)], "teacher 1 holds NaN or infinite"),
    "doubles": ([spoilt(0, 0, lambda t: t.astype("float64"))] * 2, "holds float64; wanted float32"),
    "no movement": ([[teacher()[0]] * 3] * 2, "is the same in all of its epochs: MTT's program"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_imported_is_one_line(invoke, plain, tmp_path, case):  # noqa: F811
    content, words = BAD[case]
    plain(content, tmp_path / "replay_buffer_0.pt")
    code, shown, error = invoke("teachers", f"{TEACH} --teachers 2 --import .")
    assert code == 2, shown
    assert re.search(words, error), error
    assert error.startswith("python -m ddpp_jax.teachers: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["replay_buffer_0.pt"]


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("nowhere", "there is no file nowhere; wanted replay_buffer_*.pt or their folder"),
        ("empty", "empty holds no replay_buffer_*.pt"),
        ("mine/replay_buffer_0.pt mine", "is named twice; name each file once"),
        ("mine --imported 00000000", "--import brings teachers in, and --imported names some"),
    ],
)
def test_what_no_buffers_are_is_one_line(invoke, plain, tmp_path, paths, words):  # noqa: F811
    for name in ("empty", "mine"):
        (tmp_path / name).mkdir()
    plain([teacher()], tmp_path / "mine" / "replay_buffer_0.pt")
    code, _, error = invoke("teachers", f"{TEACH} --teachers 1 --import {paths}")
    assert code == 2
    assert words in error
    assert error.count("\n") == 1


def test_files_go_by_their_numbers(tmp_path):
    for number in (10, 2, 0, 1):
        (tmp_path / f"replay_buffer_{number}.pt").touch()
    found = [path.stem.split("_")[-1] for path in buffers.buffer_files([tmp_path])]
    assert found == ["0", "1", "2", "10"]


def test_teachers_of_other_data_are_warned_of(invoke, plain, tmp_path):  # noqa: F811
    plain([teacher(n) for n in range(3)], tmp_path / "replay_buffer_0.pt")
    code, shown, error = invoke("teachers", f"{TEACH} --teachers 2 --import replay_buffer_0.pt")
    assert code == 0
    assert "hardly more than chance: they are of other data" in error
    assert "2 teachers of 2 epochs" in shown


BAD_EXPORTS = [
    ("run --formats mtt-buffers", "run is no store of teachers, which mtt-buffers is of"),
    ("store", "store is a store of teachers; give --formats mtt-buffers"),
    ("store --formats mtt-buffers,npz", "give --formats mtt-buffers"),
    ("store --formats mtt-buffers", "store holds no teachers"),
]


@pytest.mark.parametrize(("flags", "words"), BAD_EXPORTS)
def test_what_no_store_is_is_not_exported(invoke, plain, tmp_path, flags, words):  # noqa: F811
    for name in ("run", "store"):
        (tmp_path / name).mkdir()
    write_json(tmp_path / "store" / "manifest.json", {})
    code, shown, error = invoke("export", flags)
    assert (code, shown) == (2, "")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("ignore")  # Of what PyTorch imports.
def test_buffers_as_mtts_program_saves_them(invoke, tmp_path):  # noqa: F811
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    from bench import torch_reference

    net = torch_reference.ConvNet(classes=10, width=4, depth=1, side=8, channels=1)
    generator = torch.Generator().manual_seed(0)
    epochs = [net.initial(generator) for _ in range(3)]
    start = [torch.nn.Parameter(tensor) for tensor in epochs[0]]
    content = [[[p.detach().cpu() for p in start], *epochs[1:]]]
    torch.save(content, tmp_path / "replay_buffer_0.pt")
    code, _, error = invoke("teachers", f"{TEACH} --teachers 1 --import replay_buffer_0.pt")
    assert code == 0, error
    (place,) = (tmp_path / "runs" / "teachers").iterdir()
    vectors = TeacherStore(place).read(0, range(3), num_params=NETWORK.num_params)
    images = torch.randn(5, 1, 8, 8, generator=generator)
    for vector, tensors in zip(vectors, content[0], strict=True):
        theirs = net.logits(tensors, images).numpy()
        params = NETWORK.unflatten(jnp.asarray(vector))
        ours = NETWORK.apply_fn(params, jnp.asarray(np.moveaxis(images.numpy(), 1, 3)))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    code, _, error = invoke("export", f"{place} --formats mtt-buffers --out back")
    assert code == 0, error
    back = torch.load(tmp_path / "back" / "replay_buffer_0.pt", weights_only=True)
    for a, b in zip(back[0], content[0], strict=True):
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y)


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.filterwarnings("ignore")  # Of what PyTorch imports.
def test_nothing_of_a_buffer_is_run(invoke, tmp_path):  # noqa: F811
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    torch.save([Trap()], tmp_path / "replay_buffer_0.pt")
    code, _, error = invoke("teachers", f"{TEACH} --teachers 1 --import replay_buffer_0.pt")
    assert code == 2
    assert "no code of it is run" in error
    whole = tmp_path / "replay_buffer_1.pt"
    torch.save([[[torch.zeros(99)]]], whole)
    whole.write_bytes(whole.read_bytes()[:-40])
    code, _, error = invoke("teachers", f"{TEACH} --teachers 1 --import replay_buffer_1.pt")
    assert code == 2
    assert "it is damaged, or no file of torch.save" in error
    assert error.count("\n") == 1
