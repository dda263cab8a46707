"""The README's examples run as they stand there."""

import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import call
from test_commands import finished  # noqa: F401

from ddpp_jax import cli, commands, evaluate
from ddpp_jax.configs import EvaluateConfig, ModelConfig

SMALL = {
    "config": EvaluateConfig(networks=2, eval_epochs=3),
    "model": ModelConfig(width=4, depth=1),
}
README = Path(__file__).parent.parent / "README.md"


def examples():
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_library_example():
    code, *_ = examples()
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


def test_evaluation_example(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "score", partial(evaluate.score, **SMALL))
    code = examples()[-1]
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype(np.float32)
    labels = np.array([0, 0, 1, 1, 2, 2])
    names = {"images": images, "labels": labels, "x_test": images, "y_test": labels}
    exec(compile(code, "README.md", "exec"), names)
    assert names["verdict"].accuracies.shape == (2,)
    assert str(names["verdict"].mean) in capsys.readouterr().out


def test_taking_a_set_away(finished):  # noqa: F811
    _, code, _ = examples()
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
    """The command lines of the README that begin so, without their comments."""
    parts = re.split(r"^```(.*)\n", README.read_text(), flags=re.MULTILINE)
    # Text, what stands behind the opening fence, a block, what stands behind the closing one.
    blocks = [parts[place + 1] for place in range(1, len(parts), 4) if not parts[place]]
    found = [line for block in blocks for line in block.splitlines() if line.startswith(start)]
    assert found
    return sorted({line.split("  #")[0].split(" # ")[0].strip() for line in found})


WORK = {
    "distill": ("run_distill", "run_sweep"),
    "teachers": ("run_teachers",),
    "evaluate": ("run_evaluate",),
    "select": ("run_select",),
    "report": ("run_report", "follow"),
    "export": ("run_export",),
}


@pytest.mark.parametrize("line", lines("python -m ddpp_jax."))
def test_every_command_is_understood(line, monkeypatch, tmp_path):
    """Each is parsed as it stands; what it then does is run by the tests of the commands."""
    monkeypatch.chdir(tmp_path)
    calls = []
    _, _, module, *arguments = shlex.split(line)
    stage = module.removeprefix("ddpp_jax.")
    for name in WORK[stage]:
        monkeypatch.setattr(commands, name, lambda *xs, name=name, **named: calls.append(name))
    with pytest.raises(SystemExit) as leaving:
        getattr(cli, stage)(arguments)
    assert leaving.value.code == 0
    assert len(calls) == ("--list-settings" not in arguments)


@pytest.mark.parametrize("line", lines(("scripts/", ".venv/bin/python scripts/")))
def test_every_script_is_there_and_knows_its_flags(line):
    words = shlex.split(line.removeprefix(".venv/bin/python "))
    path = README.parent / words[0]
    assert path.exists()
    flags = [word for word in words if word.startswith("--")]
    if not flags:
        return
    if path.name == "quickstart":
        shown = call(README.parent, "distill", "--help").stdout
    else:
        script = {"table1": "paper_tables", "table3": "paper_tables"}.get(path.name, path.stem)
        table = [path.name[-1]] if path.name.startswith("table") else []
        command = [sys.executable, path.parent / f"{script}.py", *table, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for flag in flags:
        assert flag in shown
