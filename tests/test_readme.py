"""The README's library example runs as it stands there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_library_example():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
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
