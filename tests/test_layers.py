"""Imports point down, never sideways, never up."""

import ast
import subprocess
import sys
from pathlib import Path

import ddpp_jax

ROOT = Path(ddpp_jax.__file__).parent
LEVELS = {
    0: ["_process", "_types", "configs", "errors", "files", "text"],
    1: ["augment", "keys", "matching", "memory", "pruning", "unroll", "vector"],
    2: ["records", "tensors", "together"],
    3: ["data", "draws", "models", "report", "results", "statistics", "storage", "training"],
    4: ["buffers", "distill", "evaluate", "select", "teachers"],
    5: ["plots", "tables"],
    6: ["export", "page"],
    7: ["commands"],
    8: ["cli"],
}
LEVEL = {name: level for level, names in LEVELS.items() for name in names}
# What may be imported sideways: the floor that files and configs stand on.
FLOOR = {"_types", "errors", "text"}
OUTSIDE_LAYER_1 = {"functools", "operator", "math", "zlib", "typing", "collections", "jax"}
OUTSIDE_LAYER_1 |= {"jaxtyping", "numpy"}


def imports(path):
    """Names of the modules that a file imports, leaving out its `__main__` block."""
    body = [
        node
        for node in ast.parse(path.read_text()).body
        if not (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))
    ]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "ddpp_jax":
            yield from (f"ddpp_jax.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module


def files():
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT).with_suffix("").parts
        if place != ("__init__",) and place[-1] != "__main__":
            yield place[0], path


def test_every_file_has_a_level():
    assert {name for name, _ in files()} == set(LEVEL)


def test_imports_point_down():
    wrong = []
    for name, path in files():
        for module in imports(path):
            parts = module.split(".")
            if parts[0] != "ddpp_jax" or parts[1:2] in ([], [name]):
                continue
            if LEVEL[parts[1]] >= LEVEL[name] and parts[1] not in FLOOR:
                wrong.append(f"{path.name} imports {module}")
    assert not wrong


def test_layer_1_needs_jax_alone():
    for name, path in files():
        if LEVEL[name] == 1:
            outside = {m.split(".")[0] for m in imports(path)} - {"ddpp_jax"}
            assert outside <= OUTSIDE_LAYER_1, path.name
            inside = {m.split(".")[1] for m in imports(path) if m.startswith("ddpp_jax.")}
            assert inside <= {"_types"}, path.name


def test_importing_the_package_brings_jax_and_no_framework():
    names = [
        "flax",
        "optax",
        "tyro",
        "sklearn",
        "orbax",
        "matplotlib",
        "rich",
        "safetensors",
        "tensorflow",
    ]
    code = f"import sys, ddpp_jax; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
