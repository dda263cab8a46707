"""Imports point down, never sideways, never up, and run in no circle."""

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ddpp_jax

ROOT = Path(ddpp_jax.__file__).parent
LEVELS = (
    ("errors",),
    ("cluster",),
    ("_process", "_types", "text"),
    ("core", "configs"),
    ("storage",),
    ("networks", "data", "progress", "training"),
    ("sets",),
    ("methods",),
    ("teachers", "distill", "select", "evaluate"),
    ("results",),
    ("planning", "report", "export", "audit", "continual", "search"),
    ("tuning",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FROM_OUTSIDE_THE_CORE = {"functools", "operator", "math", "zlib", "typing", "collections", "jax"}
FROM_OUTSIDE_THE_CORE |= {"jaxtyping", "numpy"}


def imports(path):
    """Names of the modules that a file imports, wherever in it that is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


def is_module(name):
    place = ROOT.parent.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def files():
    """Each file's room and path; how a command is called belongs to the commands."""
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).with_suffix("").parts
        if place != ("__init__",):
            yield "cli" if place[-1] == "__main__" else place[0], path


def module_of(path):
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


def test_every_room_has_a_level():
    assert {name for name, _ in files()} == set(LEVEL)


def test_the_map_has_every_room_in_the_order_of_imports():
    """The table in ddpp_jax/README.md, row by row."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(.+?)` \| \S", text, flags=re.MULTILINE)
    assert rows == [(str(LEVEL[name]), shown(name)) for names in LEVELS for name in names]


def shown(room):
    """A room as the map calls it."""
    return f"{room}/" if (ROOT / room).is_dir() else f"{room}.py"


def test_imports_point_down():
    wrong = []
    for room, path in files():
        for module in imports(path):
            parts = module.split(".")
            above = parts[1:2] not in ([], [room]) and LEVEL.get(parts[1], 0) >= LEVEL[room]
            if parts[0] == "ddpp_jax" and above:
                wrong.append(f"{module_of(path)} imports {module}")
    assert not wrong


@pytest.mark.parametrize("room", sorted(LEVEL))
def test_inside_a_room_imports_run_in_no_circle(room):
    paths = {module_of(path): path for name, path in files() if name == room}
    room_itself = f"ddpp_jax.{room}"
    graph = {
        name: {module for module in imports(path) if module in paths or module == room_itself}
        for name, path in paths.items()
        if not name.endswith(".__init__")
    }
    whole = [name for name, needed in graph.items() if room_itself in needed]
    assert not whole or (ROOT / room).is_file(), f"{whole} import their own room"
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("room", sorted({p.parent for _, p in files()} - {ROOT}))
def test_no_file_has_the_name_of_what_its_room_gives(room):
    module = importlib.import_module(module_of(room / "__init__.py").removesuffix(".__init__"))
    names = {path.stem for path in room.glob("*.py")} & set(getattr(module, "__all__", ()))
    assert not names


def test_the_core_needs_jax_alone():
    for room, path in files():
        if room == "core":
            outside = {module.split(".")[0] for module in imports(path)} - {"ddpp_jax"}
            assert outside <= FROM_OUTSIDE_THE_CORE, path.name
            inside = {m.split(".")[1] for m in imports(path) if m.startswith("ddpp_jax.")}
            assert inside <= {"_types", "core"}, path.name


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
