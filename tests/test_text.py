"""Names from outside: shown, checked, and made file names."""

import unicodedata

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ddpp_jax.errors import InputError
from ddpp_jax.text import checked_names, file_name, file_names, printable, shortened

ANY = st.text(st.characters(codec=None), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat [red] $x$ ünï 猫 👍 a\u00a0b", None),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\rd\x7f\x9b", r"a\nb\tc\rd\x7f\x9b"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("a\u200bb\ufeff\u00ad", r"a\u200bb\ufeff\xad"),
        ("a\u2028b", r"a\u2028b"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("\u3164\u034f", r"\u3164\u034f"),
    ],
)
def test_what_is_not_seen_is_shown(text, shown):
    assert printable(text) == (text if shown is None else shown)


@given(ANY)
def test_what_is_shown_is_one_line_that_can_be_written(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    assert printable(shown) == shown


def test_names_are_brought_to_one_form():
    assert checked_names(["cafe\u0301", "A", "a", "می\u200cخواهم"], "x") == (
        "caf\u00e9",
        "A",
        "a",
        "می\u200cخواهم",
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["caf\u00e9", "cafe\u0301"], r"called 'café' in two Unicode forms .* and 'cafe\\u0301'\)"),
        (["a", "a"], "two classes are called 'a'; rename one"),
        (["a", ""], 'the class "" has an empty name; rename it'),
        (["a", " \u3000"], "has an empty name"),
        (["a", "caf\udce9"], r'the class "caf\\xe9" has a name that is not UTF-8; rename it'),
        (["a", "\x1b[2J"], r'the class "\\x1b\[2J" has a name with characters that control'),
        (["a", "b\n"], "characters that control or are not seen"),
        (["a", "b\u202e"], "characters that control or are not seen"),
        (["a", "\ufeffb"], "characters that control or are not seen"),
    ],
)
def test_names_that_cannot_be_shown_are_refused_in_one_line(names, words):
    with pytest.raises(InputError, match=words) as caught:
        checked_names(names, "data")
    assert str(caught.value).startswith("data: ")
    assert printable(str(caught.value)) == str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cat", "cat"),
        ("dog/wolf", "dog_wolf"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("dots. .", "dots"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("COM1 ", "_COM1"),
        ("com¹", "_com¹"),
        ("console", "console"),
        ("Thumbs.db", "_Thumbs.db"),
        ('a<b>:"|?*\\', "a_b_______"),
        ("कि", "कि"),
        ("\x1b\u202e", "__"),
        ("", "_"),
        ("猫" * 100, "猫" * 40),
    ],
)
def test_file_names(name, file):
    assert file_name(name) == file


@given(st.lists(ANY, min_size=1, max_size=8))
def test_file_names_are_safe_and_apart_on_any_system(names):
    found = file_names(names)
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in found}) == len(names)
    for name in found:
        assert 0 < len(name.encode("utf-8")) < 150
        assert not name.startswith(".")
        assert not name.endswith((".", " "))
        assert not set(name) & set('/\\:*?"<>|\0\n')


def test_equal_file_names_are_numbered():
    assert file_names(["A", "a", "b"]) == ["000 A", "001 a", "002 b"]
    assert file_names(["caf\u00e9", "cafe\u0301"]) == ["000 café", "001 café"]


def test_shortened():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
