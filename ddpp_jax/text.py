"""Names and other text from outside: shown so that nothing is hidden, checked, and made file names.

A name may hold whatever a file system or an array can hold: escape sequences that a terminal obeys,
marks that turn the direction of what follows, characters that nobody sees, bytes that are no text.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence

from ddpp_jax import cluster
from ddpp_jax.errors import InputError, one_line

LONGEST_FILE_NAME = 120
"""Bytes that a name takes at most within the name of a file or a folder."""

# Letters and marks that leave nothing to be seen, though Unicode does not count them as controls.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
# Joiners shape the letters of Persian, Hindi and others, and join emoji.
_JOINERS = frozenset("\u200c\u200d")
_IN_FILE_NAMES = frozenset(" .,+()-_")
_LEFT_OUT = frozenset({"thumbs.db", "desktop.ini"})
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)


def printable(text: str) -> str:
    r"""The text with whatever is not seen, or changes how the rest is seen, as a visible escape.

    That is: control characters, line breaks and tabs included; marks of direction, zero-width and
    other formatting characters; code points that are no characters; and bytes of a file name that
    are not UTF-8, which Python holds as lone surrogates. All else stays as it is.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable() and _UNSEEN.isdisjoint(text):
        return text
    return "".join(_escaped(character) for character in text)


def warn(text: str) -> None:
    """Show one line on stderr: something is not as it should be, and work goes on."""
    if not cluster.leads():
        return
    print(f"warning: {printable(one_line(text))}", file=sys.stderr, flush=True)


def checked_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """The names of classes, each in Unicode's composed form (NFC).

    Args:
        names: in the order of the labels.
        what: where they come from, for a message.

    Raises:
        InputError: one is empty or blank, cannot be written as UTF-8, or holds characters that
            control or are not seen; or two are one name, be it in two Unicode forms.
    """
    found: dict[str, str] = {}
    for name in names:
        whole = checked_name(name, f"{what}: the class")
        if whole in found:
            other = found[whole]
            forms = "" if other == name else f" in two Unicode forms ({other!a} and {name!a})"
            raise InputError(f"{what}: two classes are called {whole!r}{forms}; rename one of them")
        found[whole] = name
    return tuple(found)


def checked_name(name: str, what: str) -> str:
    """A name in Unicode's composed form (NFC).

    Args:
        name: of a class or a dataset.
        what: stands before the name in a message.

    Raises:
        InputError: as for `checked_names`.
    """
    shown = f'{what} "{printable(name)}"'
    if not name.strip():
        raise InputError(f"{shown} has an empty name; rename it")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(f"{shown} has a name that is not UTF-8; rename it")
    if any(_is_hidden(character) and character not in _JOINERS for character in name):
        raise InputError(
            f"{shown} has a name with characters that control or are not seen; rename it"
        )
    return unicodedata.normalize("NFC", name)


def file_name(name: str) -> str:
    """What a file or folder may be called after a name, on any system.

    Signs become `_`, dots and spaces at the ends go, names that Windows keeps for devices and those
    that our own reading leaves out begin with `_`, and long ones are cut.
    """
    whole = unicodedata.normalize("NFC", name)
    kept = "".join(c if _is_plain(c) else "_" for c in whole).strip(". ") or "_"
    kept = cut(kept).rstrip(". ")
    device = _OF_WINDOWS.fullmatch(kept.split(".")[0].rstrip())
    return f"_{kept}" if device or kept.casefold() in _LEFT_OUT else kept


def file_names(names: Sequence[str]) -> list[str]:
    """A `file_name` for each name; all begin with their number where some would be one folder."""
    found = [file_name(name) for name in names]
    if len({unicodedata.normalize("NFC", name.casefold()) for name in found}) < len(found):
        width = max(3, len(str(len(found) - 1)))
        found = [f"{place:0{width}d} {name}" for place, name in enumerate(found)]
    return found


def cut(text: str) -> str:
    """As much of the text's beginning as has `LONGEST_FILE_NAME` bytes in UTF-8."""
    return text.encode("utf-8", "replace")[:LONGEST_FILE_NAME].decode("utf-8", "ignore")


def shortened(text: str, longest: int) -> str:
    """The text, or so many characters of its beginning, the last of which is an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _escaped(character: str) -> str:
    if not _is_hidden(character):
        return character
    if "\udc80" <= character <= "\udcff":  # A byte that was not UTF-8, as Python holds it.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _is_hidden(character: str) -> bool:
    if character in _UNSEEN:
        return True
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _is_plain(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind[0] in "LN" or kind in ("Mn", "Mc") or character in _IN_FILE_NAMES
