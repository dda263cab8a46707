"""Classes of any name: told apart, refused or shown, and exported so that they return."""

import json
import os
import warnings

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table
from test_commands import invoke  # noqa: F401
from test_export import written
from test_results import DISTILLED

import ddpp_jax
from ddpp_jax.configs import DataConfig
from ddpp_jax.data import PerChannel, load_raw, transform_arrays
from ddpp_jax.data.given import read_given
from ddpp_jax.errors import InputError
from ddpp_jax.export import export, write_card
from ddpp_jax.progress import Report
from ddpp_jax.report import build, drawings, pictures, svg
from ddpp_jax.sets import DistilledSet, set_path, write_distilled

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
HOSTILE = ("\x1b[31mred", "$x^{", "<script>alert(1)</script>", "a\n# b|c", "[bold]", "猫")


def picture(path, value=90, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 6), value).save(path)


def zoo(folder, *names, count=4):
    for label, name in enumerate(names):
        for number in range(count):
            picture(folder / name / f"{number}.png", 50 * label + number)
    return folder


def load(folder, **settings):
    return load_raw(DataConfig(dataset=str(folder), **settings))


def refusal(folder, **settings):
    with pytest.raises(InputError) as caught:
        load(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Which folders are classes


@pytest.mark.parametrize("names", [("car", "train"), ("car", "test"), ("car", "test", "train")])
def test_train_and_test_may_be_classes(tmp_path, names):
    raw = load(zoo(tmp_path, *names))
    assert raw.class_names == names
    assert raw.notes == ()


def test_classes_called_train_and_test_within_parts(tmp_path):
    for part in ("train", "test"):
        zoo(tmp_path / part, "car", "test", "train")
    raw = load(tmp_path)
    assert raw.class_names == ("car", "test", "train")
    assert len(raw.y_train) == len(raw.y_test) == 12


def test_parts_without_classes_are_no_classes(tmp_path):
    zoo(tmp_path, "test", "train", "val")
    assert "test holds no folders of classes; wanted a folder of images for each" in refusal(
        tmp_path
    )


def test_one_part_with_classes_and_one_without_are_refused(tmp_path):
    zoo(tmp_path / "train", "a", "b")
    picture(tmp_path / "test" / "0.png")
    assert f"{tmp_path / 'train'} holds folders and {tmp_path / 'test'} holds none" in refusal(
        tmp_path
    )


def test_what_is_not_used_is_mentioned(tmp_path):
    for part in ("train", "test", "val"):
        zoo(tmp_path / part, "a", "b")
    assert load(tmp_path).notes == (f"{tmp_path} also holds val, not used",)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_part_is_offered_where_there_is_no_test(tmp_path, name):
    for part in ("train", name):
        zoo(tmp_path / part, "a", "b")
    assert f"rename {name} to test to test on it, or name {tmp_path / 'train'}" in refusal(tmp_path)


def test_forms_of_one_name_in_train_and_test_are_one_class(tmp_path):
    zoo(tmp_path / "train", COMPOSED, "tea")
    zoo(tmp_path / "test", DECOMPOSED, "tea")
    raw = load(tmp_path)
    assert raw.class_names == (COMPOSED, "tea")
    np.testing.assert_array_equal(np.bincount(raw.y_test), [4, 4])
    assert raw.notes == (
        f"{COMPOSED}: train and test have the name in two Unicode forms; taken as one class",
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((COMPOSED, DECOMPOSED), "two Unicode forms ('cafe\\u0301' and 'caf\\xe9'); rename"),
        (("a", os.fsdecode(b"caf\xe9")), 'the class "caf\\xe9" has a name that is not UTF-8'),
        (("a", "\x1b[31mb"), 'the class "\\x1b[31mb" has a name with characters that control'),
        (("a", "b\u202ec"), "characters that control or are not seen; rename it"),
        (("a", " "), 'the class " " has an empty name; rename it'),
    ],
)
def test_names_of_folders_are_checked_before_anything_is_read(tmp_path, names, words):
    assert words in refusal(zoo(tmp_path, *names))


def test_the_name_of_the_dataset_is_checked_and_cut(tmp_path):
    for name in (os.fsdecode(b"d\xe9"), "d\x1b[31m"):
        assert "--dataset: the dataset" in refusal(zoo(tmp_path / name, "a", "b"))
    raw = load(zoo(tmp_path / ("é" * 120), "a", "b"))
    assert len(raw.name.encode()) <= 120


def test_images_may_be_called_anything(tmp_path):
    zoo(tmp_path, "a", "b")
    picture(tmp_path / "a" / os.fsdecode(b"\xff\x1b[31m.png"))
    assert len(load(tmp_path).class_names) == 2
    (tmp_path / "a" / os.fsdecode(b"\xff\x1b[31m.png")).write_bytes(b"")
    assert "is not an image" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "a"], "two classes are called 'a'"),
        (["a", "b\x00c"], "characters that control"),
        (["a", "b\u202e"], "characters that control"),
        (["a", ""], "an empty name"),
    ],
)
def test_names_in_npz_files_are_checked(tmp_path, names, words):
    images = np.zeros((4, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=[0, 1, 0, 1], class_names=names)
    assert words in refusal(tmp_path / "x.npz")


# What is shown


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_the_terminal_shows_names_as_text(name, terminal, capsys):
    console = Console(force_terminal=terminal, width=200, legacy_windows=False)
    report = Report(console)
    report.say(name)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    report.show(table)
    with report.progress(name, 1, unit="step") as tick:
        tick(1, {name: 1.0})
    report.warn(name)
    shown, warned = capsys.readouterr()
    assert "\x1b[31mred" not in shown + warned
    expected = name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    assert expected in shown
    assert warned == f"warning: {expected.replace(chr(92) + 'n', ' ')}\n"
    if name == "[bold]":
        assert shown.count("[bold]") >= 5


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_of_any_names_say_nothing(tmp_path, count, capfd):
    names = (*HOSTILE, "long " * 60, "q" * 300, "\udcff")
    labels = np.repeat(np.arange(len(names)), count)
    small = DISTILLED._replace(
        pixels=np.tile(DISTILLED.pixels[:1], (len(labels), 1, 1, 1)),
        labels=labels,
        class_names=names,
    )
    row = {
        "method": names[0],
        "mean": 0.5,
        "std": 0.1,
        "accuracies": [0.5],
        "confusion": np.eye(len(names)).tolist(),
    }
    result = {"rows": [row], "class_names": list(names), "dataset": names[5]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.save_grid(tmp_path / "a.png", small, title=names[2])
        pictures.save_confusions(tmp_path / "b.png", result, [names[3]])
        pictures.save_accuracies(tmp_path / "c.png", result, [names[1]])
        shown = svg.confusion(row, names, names[2]) + svg.accuracies([row], names[:1])
    assert "<script>" not in shown
    assert r"\x1b[31mred" in shown
    assert capfd.readouterr() == ("", "")


def test_pages_show_names_as_text():
    page = build._PAGES.from_string(
        "<p>{{ name }}</p>{{ svg | safe }}{% if 1 %}{{ [1] }}{% endif %}"
    )
    shown = page.render(name="<b>\x1b\u202e\udcff", svg="<svg>\n</svg>")
    assert shown == r"<p>&lt;b&gt;\x1b\u202e\xff</p>" + "<svg>\n</svg>[1]"


def test_fonts_that_are_there_help_out(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figure = Figure()
    text = figure.suptitle("猫")
    monkeypatch.setattr(drawings, "_FONTS", ("no such font", "STIXGeneral"))
    with pictures.drawing(figure):
        assert text.get_fontfamily()[-1] == "STIXGeneral"
        assert "no such font" not in text.get_fontfamily()


# Exports


NAMES = (
    "train",
    "test",
    "CON",
    "a/b",
    "A/b",
    ".dot",
    "dot.",
    COMPOSED,
    "x" * 300,
    "x" * 299 + "y",
    "猫",
    "<script>",
    "a|b",
    "nul.txt",
    "thumbs.db",
    "quote'\"`",
    "# *b* _c_ [d](e) $f$ ~g~ &amp; \\",
)


def named(folder, names):
    """A set with two images of each class, whose brightness tells which it is of."""
    count = len(names)
    labels = np.repeat(np.arange(count), 2).astype(np.int32)
    pixels = np.zeros((2 * count, 4, 4, 1), np.float32) + labels[:, None, None, None] / count
    transform = PerChannel(np.zeros(1, np.float32), np.ones(1, np.float32))
    write_distilled(
        set_path(folder, "last"),
        DistilledSet(
            images=pixels,
            pixels=pixels,
            labels=labels,
            alpha=0.1,
            class_names=names,
            transform=transform_arrays(transform),
            origin={"method": "ours", "settings": {"data": {"dataset": "zoo: <b>\n---\n- x"}}},
        ),
    )
    return ddpp_jax.load_distilled(folder)


@pytest.mark.parametrize("names", [NAMES, ("train", "test"), ("b", "a"), ("a", "A")])
def test_a_png_export_comes_back_with_its_names_and_their_order(tmp_path, names):
    small = named(tmp_path, names)
    export(small, tmp_path / "out", ["png", "card"], channels_first=False)
    found = read_given(tmp_path / "out" / "images", DataConfig(), normalised=False)
    assert found.class_names == names
    np.testing.assert_array_equal(np.sort(found.labels), small.labels)
    brightness = found.images[:, 0, 0, 0] / 255
    np.testing.assert_allclose(brightness, found.labels / len(names), atol=0.003)
    folders = [p.name for p in (tmp_path / "out" / "images").iterdir() if p.is_dir()]
    assert len({name.casefold() for name in folders}) == len(names)
    assert max(len(name.encode()) for name in folders) < 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said["classes"].pop("cat"), "names no class for the folder cat"),
        (lambda said: said.update(classes=["cat"]), "is damaged: .*; wanted low and high"),
        (lambda said: said.update(classes={"cat": 1}), "is damaged"),
        (lambda said: said["classes"].update(cat="newt"), "two classes are called 'newt'"),
        (lambda said: said.update(low=10**400), "is damaged"),
    ],
)
def test_a_damaged_list_of_names_is_refused(tmp_path, change, words):
    written(tmp_path)
    export(ddpp_jax.load_distilled(tmp_path), tmp_path / "out", ["png"], channels_first=False)
    path = tmp_path / "out" / "images" / "range.json"
    said = json.loads(path.read_text())
    del said["digest"]  # Without it, the file may be anybody's.
    change(said)
    path.write_text(json.dumps(said))
    with pytest.raises(InputError, match=words):
        read_given(tmp_path / "out" / "images", DataConfig(), normalised=False)


def test_the_card_of_deep_images_says_what_black_and_white_were(tmp_path):
    small = named(tmp_path, ("a", "b"))
    scale = {"kind": "16-bit", "low": 0.0, "high": 3299.0}
    text = write_card(small._replace(origin={"scale": scale}), tmp_path, (0.0, 1.0)).read_text()
    assert "16-bit, black is 0.0 and white\n3299.0" in text
    assert "In the real images" not in write_card(small, tmp_path, (0.0, 1.0)).read_text()


def test_a_card_holds_any_name_as_text(tmp_path):
    yaml = pytest.importorskip("yaml")
    odd = ("a\nb", "\x1b[0m", "\u2028", "\x85", "😀", "\udcff")
    small = named(tmp_path, (*NAMES, *(f"odd {number}" for number in range(len(odd)))))
    small = small._replace(class_names=(*NAMES, *odd))
    text = write_card(small, tmp_path, (0.0, 1.0)).read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    found = yaml.safe_load(head)
    assert found["pretty_name"] == "zoo: <b>\\n---\\n- x, distilled to 46 images"
    assert found["license"] == "unknown"
    assert "<script>" not in body
    assert "<b>" not in body
    line = next(line for line in body.splitlines() if line.startswith("Classes, in the order"))
    for part in (r"a\|b", r"\# \*b\* \_c\_ \[d\](e) \$f\$ \~g\~ &amp;amp; \\", "&lt;script&gt;"):
        assert part in line
    assert line.endswith("\\\\xff.")


def test_markdown_shows_the_names_of_a_card_unchanged(tmp_path):
    markdown = pytest.importorskip("markdown_it")
    small = named(tmp_path, NAMES)
    text = write_card(small, tmp_path, (0.0, 1.0)).read_text(encoding="utf-8")
    tokens = markdown.MarkdownIt("gfm-like", {"linkify": False}).parse(text.split("---\n", 2)[2])
    inline = [token for token in tokens if token.type == "inline"]
    line = next(t for t in inline if t.content.startswith("Classes, in the order"))
    assert {child.type for child in line.children} <= {"text", "text_special"}
    shown = "".join(child.content for child in line.children)
    assert shown.endswith(", ".join(NAMES) + ".")


@pytest.mark.parametrize("stage", ["distill", "teachers", "select"])
def test_a_hostile_folder_is_refused_by_the_commands_in_one_line(invoke, tmp_path, stage):  # noqa: F811
    zoo(tmp_path / "data", "a", "\x1b[31mb")
    status, shown, error = invoke(stage, "digits --dataset data")
    assert (status, shown) == (2, "")
    assert error.count("\n") == 1
    assert 'the class "\\x1b[31mb" has a name with characters that control' in error
    assert not (tmp_path / "runs").exists()
