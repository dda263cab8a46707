"""The README's examples run as they stand there."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax import evaluate
from ddpp_jax.configs import EvaluateConfig, ModelConfig

SMALL = {
    "config": EvaluateConfig(networks=2, eval_epochs=3),
    "model": ModelConfig(width=4, depth=1),
}
README = Path(__file__).parent.parent / "README.md"


def examples():
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_library_example():
    code, _ = examples()
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
    _, code = examples()
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype(np.float32)
    labels = np.array([0, 0, 1, 1, 2, 2])
    names = {"images": images, "labels": labels, "x_test": images, "y_test": labels}
    exec(compile(code, "README.md", "exec"), names)
    assert names["verdict"].accuracies.shape == (2,)
    assert str(names["verdict"].mean) in capsys.readouterr().out
