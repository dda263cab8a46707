"""The examples and commands of every README.md run as they stand there."""

import dataclasses
import importlib.util
import json
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from prepared import cut_copy
from processes import call
from test_commands import finished, make_npz  # noqa: F401

from ddpp_jax import evaluate
from ddpp_jax.cli.program import COMMANDS
from ddpp_jax.cli.program import run as run_command
from ddpp_jax.configs import EvaluateConfig, ModelConfig, untuned

SMALL = {
    "config": EvaluateConfig(networks=2, eval_epochs=3),
    "model": ModelConfig(width=4, depth=1),
}
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
HOUSE = ROOT / "ddpp_jax" / "README.md"
CLI = ROOT / "ddpp_jax" / "cli" / "README.md"
SEARCH = ROOT / "ddpp_jax" / "search" / "README.md"
CONTINUAL = ROOT / "ddpp_jax" / "continual" / "README.md"  # Its example: tests/test_continual.py.
AUDIT = ROOT / "ddpp_jax" / "audit" / "README.md"
DATA = ROOT / "ddpp_jax" / "data" / "README.md"
MOST_LINES = 200
SHARED = Path(__file__).parents[2] / "shared" / "data" / "tfds"


def readmes():
    """Every README.md of the repository, outside of what programs make."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("README.md"))
    return [
        ROOT / path
        for path in sorted(found)
        if not any(part.startswith(".") or part in ("runs", "dist") for part in path.parts)
    ]


def examples(path=README):
    return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)


def test_every_example_is_run_by_a_test():
    """Those of the tests below and, of SEARCH, of tests/test_search.py; others need their own."""
    found = {path: len(examples(path)) for path in readmes() if examples(path)}
    assert found == {README: 1, HOUSE: 1, CLI: 2, AUDIT: 1, CONTINUAL: 1, DATA: 1, SEARCH: 1}


def test_the_first_page_is_short():
    assert len(README.read_text().splitlines()) < MOST_LINES


def test_library_example():
    (code,) = examples()
    keys = jax.random.split(jax.random.key(0), 3)
    start = {"w": 0.1 * jax.random.normal(keys[0], (16, 3)), "b": 0.01 * jnp.ones(3)}
    names = {
        "images": jax.random.normal(keys[1], (6, 4, 4, 1)),
        "alpha": jnp.array(0.1),
        "labels": jnp.array([0, 0, 1, 1, 2, 2]),
        "start": start,
        "target": jax.tree.map(lambda leaf: leaf + 0.05, start),
    }
    exec(compile(code, "README.md", "exec"), names)
    pixels, alpha = names["gradients"]
    assert pixels.shape == (6, 4, 4, 1)
    assert np.all(np.any(pixels != 0, axis=(1, 2, 3)))
    assert alpha != 0


def test_example_of_other_peoples_records():
    """Pairs of an image and its label, of two classes."""
    (code,) = examples(DATA)
    images = np.random.default_rng(0).integers(0, 256, (12, 40, 36, 3)).astype(np.uint8)
    train = [(image, number % 2) for number, image in enumerate(images)]
    names = {"train": train, "test": train[:4]}
    exec(compile(code, "README.md", "exec"), names)
    dataset = names["dataset"]
    assert dataset.x_train.shape == (12, 32, 32, 3)
    assert abs(float(dataset.x_train[:].mean())) < 1e-5


def test_example_of_other_parts():
    (code,) = examples(HOUSE)
    network = small.network()
    names = {"network": network, "pairs_fn": small.pairs_fn(network), "schedule": small.schedule()}
    exec(compile(code, "README.md", "exec"), names)
    method = names["method"]
    assert set(method.parts) == {"mask_fn", "optimizer_fn"}
    state = method.init(jax.random.key(0), small.start())
    pair = jax.tree.map(lambda leaf: leaf[0], method.feed(0, 0).take(1, rows=1))
    _, info = jax.jit(method.step)(jax.random.key(0), state, pair, small.hparams())
    assert not info.skipped
    assert 0 < info.metrics["kept_fraction"] < 1


def test_evaluation_example(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "score", partial(evaluate.score, **SMALL))
    _, code = examples(CLI)
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype(np.float32)
    labels = np.array([0, 0, 1, 1, 2, 2])
    names = {"images": images, "labels": labels, "x_test": images, "y_test": labels}
    exec(compile(code, "README.md", "exec"), names)
    assert names["evaluation"].accuracies.shape == (2,)
    assert str(names["evaluation"].mean) in capsys.readouterr().out


def test_taking_a_set_away(finished):  # noqa: F811
    code, _ = examples(CLI)
    seen = {}
    names = {
        "run": finished[0] / "run",
        "train": lambda images, labels, rate: seen.update(images=images, labels=labels, rate=rate),
        "test": lambda images: seen.update(test=images),
        "test_pixels": np.zeros((3, 8, 8, 1), np.uint8),
        "print": lambda names: seen.update(names=names),
    }
    exec(compile(code, "README.md", "exec"), names)
    assert seen["images"].shape == (10, 8, 8, 1)
    assert seen["test"].shape == (3, 8, 8, 1)
    assert seen["names"] == tuple("0123456789")
    assert seen["rate"] > 0


def lines(start):
    """The command lines of every README.md that begin so, without their comments."""
    found = set()
    for path in readmes():
        parts = re.split(r"^```(.*)\n", path.read_text(), flags=re.MULTILINE)
        # Text, what stands behind the opening fence, a block, what stands behind the closing one.
        blocks = [parts[place + 1] for place in range(1, len(parts), 4) if not parts[place]]
        found |= {line for block in blocks for line in block.splitlines() if line.startswith(start)}
    assert found
    return sorted({line.split("  #")[0].split(" # ")[0].strip() for line in found})


def test_the_way_of_the_data_names_what_there_is():
    way = HOUSE.read_text().split("## The way of the data")[1].split("\n## ")[0]
    names = re.findall(r"`([a-z_]+\.[A-Za-z_.]+)`", way)
    names = [name for name in names if (ROOT / "ddpp_jax" / name.split(".")[0]).is_dir()]
    assert len(names) > 15
    for name in names:
        assert pydoc.locate(f"ddpp_jax.{name}") is not None, name


def test_every_command_has_a_line_on_the_first_page():
    rows = re.findall(r"^\| `python -m ddpp_jax\.(\w+)` \| \S", README.read_text(), re.MULTILINE)
    assert rows == list(COMMANDS)


WORK = {
    "distill": ("run_distill",),
    "teachers": ("run_teachers", "run_import"),
    "evaluate": ("run_evaluate",),
    "select": ("run_select",),
    "search": ("run_search",),
    "continual": ("run_continual",),
    "audit": ("run_copies", "run_attack"),
    "report": ("run_report", "follow"),
    "export": ("run_export",),
}
PLACES = {"search": "search_architectures"}
"""The files of those commands that are not called as their file is."""


@pytest.mark.parametrize("line", lines("python -m ddpp_jax."))
def test_every_command_is_understood(line, monkeypatch, tmp_path):
    """Each is parsed as it stands; what it then does is run by the tests of the commands."""
    monkeypatch.chdir(tmp_path)
    own_data(tmp_path)
    calls = []
    _, _, module, *arguments = shlex.split(line)
    stage = module.removeprefix("ddpp_jax.")
    if ">" in arguments:
        calls, arguments = ["printed"], arguments[: arguments.index(">")]
    if stage == "distill":  # Searches are run by tests/test_auto.py.
        place = importlib.import_module("ddpp_jax.cli.distill")
        monkeypatch.setattr(place, "find_settings", lambda search, *_: search.asked)
        monkeypatch.setattr(place, "settings_found", lambda search: search.asked)
        monkeypatch.setattr(place, "check_distill", lambda *_: None)
    monkeypatch.setattr("ddpp_jax.cluster.join", lambda *_: None)
    for name in WORK[stage]:
        place = importlib.import_module(f"ddpp_jax.cli.{PLACES.get(stage, stage)}")
        monkeypatch.setattr(place, name, lambda *xs, name=name, **named: calls.append(name))
    with pytest.raises(SystemExit) as leaving:
        run_command(stage, arguments)
    assert leaving.value.code == 0
    several = flag_value("--methods", arguments) if stage == "distill" else None
    wanted = 1 if several is None else len(several.split(","))
    assert len(calls) == wanted * ("--list-settings" not in arguments)


def flag_value(flag, arguments):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def own_data(folder):
    """Data of one's own, and settings that were printed."""
    make_npz(folder / "mine.npz")
    (folder / "mine.json").write_text(json.dumps(dataclasses.asdict(untuned())))


SIZES = {
    "teachers": "--width 8 --depth 1 --image-size 16 --per-class 20 --teachers 2 --epochs 4",
    "select": "--width 8 --depth 1 --image-size 16 --per-class 20 --epochs 2",
    "search": "--width 4 --depth 1 --per-class 20 --widths 4 --depths 1 --activations relu,sigmoid "
    "--norms none --poolings max --proxy-epochs 2 --full-epochs 2",
}
SIZES["dm"] = SIZES["teachers"] + (
    " --steps 4 --networks 2 --eval-epochs 2 --random-draws 1 --eval-every 0"
)
SIZES["distill"] = SIZES["dm"] + " --student-steps 2 --target-epochs 1 --max-start-epoch 2"


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """Enough real images of both datasets for the sizes above; their files are read whole."""
    folder = tmp_path_factory.mktemp("prepared")
    for name, counts in (
        ("cifar10", {"train": 1500, "test": 300}),
        ("cifar100", {"train": 5000, "test": 500}),
    ):
        cut_copy(SHARED / name / "3.0.2", folder / name / "3.0.2", counts)
    return folder


@pytest.mark.parametrize("line", lines("python -m ddpp_jax."))
def test_every_command_runs_small(line, finished, tmp_path, request):  # noqa: F811
    """As it stands but for its size; the sets of `evaluate` are those of tests/test_commands.py."""
    _, _, module, *arguments = shlex.split(line)
    stage = module.removeprefix("ddpp_jax.")
    if "DATA" in arguments and not SHARED.exists():
        pytest.skip("needs shared data")
    no_torch = importlib.util.find_spec("torch") is None
    elsewhere = {"--import", "mtt-buffers", "--attack", "--coordinator", "--images"} & set(
        arguments
    )
    if elsewhere or stage in ("evaluate", "continual"):
        # Streamed images by tests/test_streaming.py, MTT's buffers by tests/test_buffers.py,
        # attacks by tests/test_audit_command.py, classes in steps by tests/test_continual.py, jobs
        # of several processes by tests/test_cluster.py.
        pytest.skip("run elsewhere")
    if {"mine.npz", "--auto"} & set(arguments):
        pytest.skip("run elsewhere")  # By tests/test_auto.py.
    if "--formats" in arguments and no_torch:
        pytest.skip("needs PyTorch")
    for name in ("RUN", "OTHER"):
        shutil.copytree(finished[0] / "run", tmp_path / name)
    words = [
        str(request.getfixturevalue("small_data")) if word == "DATA" else word for word in arguments
    ]
    named = flag_value("--method", words) or flag_value("--methods", words) or "ddpp"
    trajectories = {"ddpp", "mtt"} & set(named.split(","))
    size = SIZES.get(stage if stage != "distill" or trajectories else "dm", "").split()
    size = SIZES["dm"].split() if flag_value("--methods", words) else size
    size = [] if "--list-settings" in words else size
    dry = "--width 8 --per-class 50" + " --student-steps 5" * (stage == "distill")
    size = dry.split() if "--dry-run" in words else size
    done = call(tmp_path, stage, *words, *size)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", lines(("scripts/", ".venv/bin/python scripts/")))
def test_every_script_is_there_and_knows_its_flags(line):
    path, *words = shlex.split(line.removeprefix(".venv/bin/python "))
    path = ROOT / path
    assert path.exists()
    flags = [word for word in words if word.startswith("--")]
    if not flags:
        return
    if path.name == "quickstart":
        shown = call(ROOT, "distill", "--help").stdout
    else:
        # What stands before the flags may choose them, such as a table or a part.
        before = words[: words.index(flags[0])]
        command = [sys.executable, path.with_suffix(".py"), *before, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for flag in flags:
        assert flag in shown


@pytest.mark.parametrize("path", readmes(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_is_named_is_there(path):
    for name in re.findall(r"\b(?:tests/)?(test_\w+\.py)", path.read_text()):
        assert (ROOT / "tests" / name).exists(), name


@pytest.mark.parametrize("line", lines(".venv/bin/python -m pytest"))
def test_every_choice_of_tests_finds_some(line):
    words = shlex.split(line)[3:]
    names = [path.name for path in (ROOT / "tests").glob("test_*.py")]
    if words[0] == "-k":
        assert any(word in name for word in words[1:] for name in names)
    else:
        assert all((ROOT / word).is_file() for word in words)


def test_every_script_is_described():
    text = (ROOT / "scripts" / "README.md").read_text()
    for path in sorted((ROOT / "scripts").rglob("*")):
        name = path.relative_to(ROOT / "scripts").as_posix()
        if path.is_file() and "__pycache__" not in name and path.name != "README.md":
            assert f"`{name}`" in text, name


@pytest.mark.parametrize("path", readmes(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, link


@pytest.mark.parametrize("path", readmes(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(path):
    assert not re.findall(r"^[A-Z_]{4,}$", path.read_text(), flags=re.MULTILINE)
