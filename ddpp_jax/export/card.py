"""A dataset card as the Hugging Face Hub reads it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import ddpp_jax
from ddpp_jax.data import is_whitening
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Replacement
from ddpp_jax.text import file_names, printable

_MARKS = re.compile(r"[\\`*_\[\]|~$#]")
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"))


def write_card(small: DistilledSet, folder: Path, low_high: tuple[float, float]) -> Path:
    """Write `README.md` with the Hub's metadata; the images are expected in `images` beside it.

    Args:
        small: the set.
        folder: of the export, and of the repository on the Hub.
        low_high: what the 0 and the 255 of the PNG files stand for.
    """
    low, high = low_high
    count = len(small.labels)
    size = next((word for most, word in _SIZES if count < most), "100K<n<1M")
    settings = small.origin.get("settings", {})
    values = {
        "dataset": settings.get("data", {}).get("dataset", "a dataset"),
        "method": small.origin.get("method", "unknown"),
        "count": count,
        "size": size,
        "shape": "x".join(str(n) for n in small.images.shape[1:]),
        "class_names": small.class_names,
        "alpha": f"{small.alpha:.6g}",
        "low": low,
        "high": high,
        "plain": (low, high) == (0.0, 1.0),
        "version": ddpp_jax.__version__,
        "zca": "zca_matrix" in small.transform,
        "contrast": "contrast_matrix" in small.transform,
        "grey": small.images.shape[3] == 1,
        "chosen": "indices" in small.origin,
        "sorted": file_names(small.class_names) == sorted(file_names(small.class_names)),
        "renamed": list(small.class_names) != file_names(small.class_names),
        "scale": small.origin.get("scale"),
        "mean": [],
        "std": [],
    }
    if not is_whitening(small.transform):
        # Of pixels that are read as 0 to 1 from eight bits.
        values["mean"] = _numbers((small.transform["mean"] - low) / (high - low))
        values["std"] = _numbers(small.transform["std"] / (high - low))
    pages = Environment(
        loader=PackageLoader("ddpp_jax", "export"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["yaml"], pages.filters["words"] = _yaml, _words
    path = folder / "README.md"
    with Replacement(path) as temporary:
        temporary.write_text(pages.get_template("card.md.jinja").render(values), encoding="utf-8")
    return path


def _yaml(value: Any) -> str:
    """A value as a string of YAML, of which those of JSON are a part."""
    return json.dumps(printable(str(value)), ensure_ascii=False)


def _words(value: Any) -> str:
    """A value as Markdown shows it unchanged: one line, and neither marks nor HTML."""
    text = _MARKS.sub(r"\\\g<0>", printable(str(value)))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in np.ravel(values)]
