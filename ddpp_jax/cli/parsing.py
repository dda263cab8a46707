"""Flags to settings by tyro, and its framed errors to one line."""

import contextlib
import dataclasses
import io
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tyro

from ddpp_jax.configs import METHODS
from ddpp_jax.errors import InputError
from ddpp_jax.storage import expanded

Parsed = TypeVar("Parsed")

_REGISTRY = tyro.constructors.ConstructorRegistry()
_NONE = "none"


def parse_flags(
    default: Parsed,
    usage: str,
    about: str,
    arguments: Sequence[str],
    *,
    kind: Any = None,
) -> Parsed:
    """The command that the arguments ask for, varied from a default.

    Args:
        default: a dataclass, whose fields' docstrings are the help.
        usage: how it is called.
        about: what it does.
        arguments: as they were given.
        kind: of the command, where its class alone leaves open what some of its fields are.

    Raises:
        InputError: a flag is unknown, or its value cannot be taken.
    """
    parse = partial(
        tyro.cli,
        type(default) if kind is None else kind,
        default=default,
        prog=usage,
        description=about,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=_REGISTRY,
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse()
    except _RefusedError as error:
        raise InputError(str(error)) from error
    except SystemExit as leaving:
        if not leaving.code:
            raise
    # Once more, as wide as it takes: a message that is wrapped cannot be put together again.
    captured, columns = io.StringIO(), os.environ.get("COLUMNS")
    # Tyro draws its frames as the encoding of stdout allows, which need not be that of a terminal.
    drawn = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    os.environ["COLUMNS"] = "10000"
    try:
        with (
            contextlib.redirect_stdout(drawn),
            contextlib.redirect_stderr(captured),
            contextlib.suppress(SystemExit),
        ):
            parse()
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    raise InputError(f"{_explained(_sentence(captured.getvalue()))}; --help lists the flags")


def _explained(sentence: str) -> str:
    """An error, which says of unknown flags that are of other methods whose they are."""
    if not sentence.startswith("Unrecognized options"):
        return sentence

    def owned(found: re.Match[str]) -> str:
        name = found[0].removeprefix("--").replace("-", "_")
        own = [
            method
            for method, kind in METHODS.items()
            if name in (field.name for field in dataclasses.fields(kind))
        ]
        return found[0] if len(own) in (0, len(METHODS)) else f"{found[0]} (of {', '.join(own)})"

    return re.sub(r"--[\w-]+", owned, sentence)


def _sentence(box: str) -> str:
    """The first paragraph of tyro's framed error, as one line."""
    lines = [line.strip("│╭╮╰╯| ") for line in box.splitlines()[1:]]
    rule = next((i for i, line in enumerate(lines) if set(line) <= set("─-")), len(lines))
    text = " ".join(lines[:rule]).removesuffix(".") or box
    return re.sub(r"^Error parsing (?:(?!-)[\w.]+: |(?=-))", "", text)


def _number(kind: type, wanted: str) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"got {textwrap.shorten(text, 60)!r}, wanted {wanted}") from None

    return number


class _RefusedError(Exception):
    """A path that cannot be one; tyro would put words of its own in place of a ValueError's."""


def _path(text: str) -> Path:
    try:
        return expanded(text)
    except InputError as error:
        raise _RefusedError(str(error)) from error


def _primitive(
    kind: type, make: Callable[[str], Any], metavar: str, *, or_none: bool = False
) -> Any:
    def instance(strings: list[str]) -> Any:
        return None if or_none and strings[0].lower() == _NONE else make(strings[0])

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{metavar}|{_NONE}" if or_none else metavar,
        instance_from_str=instance,
        is_instance=lambda value: isinstance(value, kind) or (or_none and value is None),
        str_from_instance=lambda value: [_NONE if value is None else f"{value}"],
    )


def _register(annotation: Any, spec: Any) -> None:
    @_REGISTRY.primitive_rule
    def rule(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        return spec if info.type == annotation else None


_register(int, _primitive(int, _number(int, "a whole number"), "INT"))
_register(float, _primitive(float, _number(float, "a number"), "NUMBER"))
_register(
    float | None, _primitive(float, _number(float, "a number or none"), "NUMBER", or_none=True)
)
_register(int | None, _primitive(int, _number(int, "a whole number or none"), "INT", or_none=True))
_register(str | None, _primitive(str, str, "TEXT", or_none=True))
_register(Path, _primitive(Path, _path, "PATH"))
_register(Path | None, _primitive(Path, _path, "PATH", or_none=True))
