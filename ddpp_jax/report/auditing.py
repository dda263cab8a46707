"""The pictures of an audit: pairs that lie near each other, curves, the most vulnerable images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpp_jax.data import Dataset, unit
from ddpp_jax.errors import InputError
from ddpp_jax.report.drawings import COLOURS, as_words, draw_image, drawing
from ddpp_jax.report.read import Frame
from ddpp_jax.report.sheets import sheets
from ddpp_jax.report.svg import curve_svg
from ddpp_jax.results import audits
from ddpp_jax.storage import Replacement, read_tensors, write_tensors

KIND = "ddpp-jax audit images 1"
"""The key of the metadata of the files of images."""

EXAMPLES = "vulnerable"
"""The name of the file and the picture of the most vulnerable images."""

_MOST_PAIRS = 12
_LEAST_RATE = 1e-4  # Where axes begin.
_REMEDY = "delete the folder, and the same command makes it again"


class Pairs(NamedTuple):
    """Images of a set, each with the nearest image that was used and the nearest that was not.

    Attributes:
        distilled: of the set; 0 is black, 1 is white, and they may lie beyond.
        used: the nearest of the images that were used.
        unused: the nearest of the others.
        ratios: the first distance over the second, the smallest first.
    """

    distilled: Float[np.ndarray, "images height width channels"]
    used: Float[np.ndarray, "images height width channels"]
    unused: Float[np.ndarray, "images height width channels"]
    ratios: Float[np.ndarray, " images"]


def worst_pairs(several: Sequence[Pairs | None], most: int = _MOST_PAIRS) -> Pairs:
    """The pairs of several sets with the smallest ratios."""
    whole = [one for one in several if one is not None]
    every = Pairs(*(np.concatenate(arrays) for arrays in zip(*whole, strict=True)))
    order = np.argsort(every.ratios, kind="stable")[:most]
    return Pairs(*(array[order] for array in every))


def write_pairs(folder: Path, number: int, pairs: Pairs) -> None:
    """Keep pairs in the folder of an audit, as those of its set of this number."""
    write_tensors(_pairs_path(folder, number), pairs._asdict(), {}, kind=KIND)


def write_examples(folder: Path, raw: Dataset, worst: Mapping[str, Any]) -> None:
    """Keep the most vulnerable images in the folder of an audit.

    Args:
        folder: of the audit.
        raw: the audited images.
        worst: which they are, of a result.
    """
    indices = np.asarray(worst["indices"], np.int64)
    tensors = {
        "pixels": unit(raw.x_train[indices]),
        "labels": np.asarray(raw.y_train[indices], np.int32),
        "gaps": np.asarray(worst["gaps"], np.float32),
    }
    write_tensors(folder / f"{EXAMPLES}.safetensors", tensors, {}, kind=KIND)


def draw_audit(folder: Path, found: Mapping[str, Any]) -> None:
    """Draw the pictures of an audit that are not there yet.

    Args:
        folder: of the audit.
        found: its result.
    """
    for number, name in enumerate(_names(found)):
        path, source = folder / f"pairs-{number}.png", _pairs_path(folder, number)
        if source.exists() and not path.exists():
            _save_rows(path, _pair_rows(_read_pairs(source), found), f"{name}: the worst first")
    examples, path = folder / f"{EXAMPLES}.safetensors", folder / f"{EXAMPLES}.png"
    if examples.exists() and not path.exists():
        shown = _read(examples)
        title = f"{found['attack']['cases'][0]['title']}: the most vulnerable images, and how far "
        title += "apart confidences as a member and as none are, in deviations"
        _save_rows(path, {"image": shown["pixels"]}, title, captions=shown["gaps"])
    if "attack" in found and not (folder / "roc.png").exists():
        cases = found["attack"]["cases"]
        figure = Figure(figsize=(4.2 * len(cases), 4.2), layout="constrained")
        axes = figure.subplots(1, len(cases), squeeze=False)[0]
        for ax, case in zip(axes, cases, strict=True):
            draw_curves(ax, case)
            ax.set_title(as_words(f"networks trained on {case['title']}"), fontsize=9)
            ax.legend(fontsize=7, loc="lower right")
        _save(figure, folder / "roc.png")


def draw_curves(ax: Axes, case: Mapping[str, Any]) -> None:
    """Draw the share of members that attacks find over their false alarms, both as logarithms.

    Args:
        ax: where.
        case: of an attack's result.
    """
    for place, one in enumerate(case["attacks"]):
        curves = [(one["curve"], "-", one["attack"])]
        if "origins" in one:
            curves.append((one["origins"]["curve"], ":", f"{one['attack']}, origins alone"))
        for curve, dashes, label in curves:
            alarms, found = (np.asarray(curve[n]) for n in ("false", "true"))
            shown = alarms > 0
            colour = COLOURS[place % len(COLOURS)]
            ax.plot(alarms[shown], found[shown], dashes, color=colour, label=as_words(label))
    ends = (_LEAST_RATE, 1.0)
    ax.plot(ends, ends, "--", color="grey", linewidth=1, label="guesses")
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ax.set(xlabel="others taken for members", ylabel="members found")
    ax.grid(alpha=0.25)


def audit_values(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of an audit shows; nothing of what is none.

    Args:
        folder: of the audit.
        found: its result.
    """
    parts: list[dict[str, Any]] = []
    if "copies" in found:
        words = audits.copies_words(found["copies"])
        parts.append(_part("Copies", audits.copies_listing(found["copies"]), words, "copies"))
    figures = []
    if "attack" in found:
        attack = found["attack"]
        words = audits.attack_words(attack)
        listing = audits.attack_listing(attack)
        parts.append(_part("Membership inference", listing, words, "attack"))
        near = audits.near_listing(attack)
        parts.append(_part("Copies of members", near, [audits.UNTESTED_COPIES], "near"))
        for case in attack["cases"]:
            title = f"Networks trained on {case['title']}"
            figures.append((title, curve_svg(lambda ax, case=case: draw_curves(ax, case), title)))
    pictures = []
    for number, name in enumerate(_names(found)):
        source = _pairs_path(folder, number)
        if source.exists():
            rows = _pair_rows(_read_pairs(source), found)
            pictures.append(_strips(f"{name}: the nearest images, the worst first", rows))
    examples = folder / f"{EXAMPLES}.safetensors"
    if examples.exists():
        name = found["attack"]["cases"][0]["title"]
        shown = {"image": _read(examples)["pixels"]}
        pictures.append(_strips(f"{name}: the most vulnerable images, the worst first", shown))
    return {"parts": parts, "figures": figures, "pictures": pictures}


def _part(title: str, listing: audits.Listing, words: Sequence[str], mark: str) -> dict[str, Any]:
    return {
        "id": mark,
        "title": title,
        "columns": listing.columns,
        "rows": listing.rows,
        "words": list(words),
    }


def _strips(title: str, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Rows of images as the page shows them."""
    pixels = np.concatenate([np.asarray(images, np.float32) for images in rows.values()])
    labels = np.repeat(np.arange(len(rows)), [len(images) for images in rows.values()])
    return {"title": title, "names": list(rows), "sheets": sheets([Frame(0, pixels, labels)])}


def _names(found: Mapping[str, Any]) -> list[str]:
    """What each set is called whose pairs are kept."""
    if "attack" in found:
        return [str(case["title"]) for case in found["attack"]["cases"]]
    return [str(row["method"]) for row in found.get("copies", [])]


def _pair_rows(pairs: Pairs, found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    kinds = ("member", "other image") if "attack" in found else ("training image", "test image")
    images = (pairs.used, pairs.unused)
    near = {f"nearest {kind}": shown for kind, shown in zip(kinds, images, strict=True)}
    return {"of the set": pairs.distilled} | near


def _pairs_path(folder: Path, number: int) -> Path:
    return folder / f"pairs-{number}.safetensors"


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_tensors(path, kind=KIND)[0]
    except InputError as error:
        raise InputError(f"{error}; {_REMEDY}") from error


def _read_pairs(path: Path) -> Pairs:
    tensors = _read(path)
    return Pairs(*(tensors[name] for name in Pairs._fields))


def _save_rows(
    path: Path,
    rows: Mapping[str, np.ndarray],
    title: str,
    *,
    captions: Float[np.ndarray, " images"] | None = None,
) -> None:
    """Draw rows of images, each with its name."""
    count = max(len(images) for images in rows.values())
    figure = Figure(figsize=(0.8 * count + 1.6, 0.95 * len(rows) + 0.7), layout="constrained")
    figure.suptitle(as_words(title), fontsize=10)
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, np.clip(images, 0, 1), strict=True):
            draw_image(ax, image)
        line[0].set_ylabel(as_words(name), fontsize=8, rotation=0, ha="right", va="center")
    if captions is not None:
        for ax, value in zip(axes[0], captions, strict=True):
            ax.set_title(f"{value:.1f}", fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with Replacement(path) as temporary, drawing(figure):
        figure.savefig(temporary, dpi=150)
