"""The images of a method, as the page shows them."""

from typing import Any

import numpy as np

from ddpp_jax.distill.frames import first_of_each
from ddpp_jax.report.read import Frame, Method
from ddpp_jax.report.sheets import Sheets, sheets


def method_values(method: Method) -> dict[str, Any]:
    """Its frames, its last images, and real ones of the same classes."""
    frames = list(method.frames)
    made = sheets(frames or [last_frame(method)])
    chosen = method.small is not None and "indices" in method.small.origin
    return {
        "name": method.name,
        "classes": shown_classes(method),
        "sheets": made,
        "real": None if method.real is None else sheets([method.real]),
        "frames": [frame.step for frame in frames],
        "first": f"step {frames[0].step:,}" if frames and frames[0].step else "at first",
        "distilled": not chosen,
        "notes": _notes(method, made),
    }


def last_frame(method: Method) -> Frame:
    """The images to show last: of the finished set, those that its frames have."""
    small = method.small
    if small is None:
        return method.frames[-1]
    step = int(small.origin.get("step", 0))
    if method.frames and method.frames[-1].step == step:
        return method.frames[-1]
    places = first_of_each(small.hard_labels)
    return Frame(step, small.looks[places], small.hard_labels[places])


def shown_classes(method: Method) -> list[str]:
    """The names of the classes that have a row of images."""
    labels = np.unique(last_frame(method).labels)
    names: tuple[str, ...] = () if method.small is None else method.small.class_names
    return [str(names[label] if label < len(names) else label) for label in labels]


def _notes(method: Method, made: Sheets) -> list[str]:
    notes = []
    if made.contrast_lowered:
        notes.append(
            "Training pushed many pixels beyond black and white, so the contrast of the distilled "
            "images is lowered here."
        )
    if method.small is not None and len(method.small.labels) > len(last_frame(method).labels):
        shown, count = len(last_frame(method).labels), len(method.small.labels)
        notes.append(f"{shown:,} of its {count:,} images are shown, the first of each class.")
    if method.small is not None and not method.frames and method.rows:
        notes.append("No frames were kept of how these images came about.")
    return notes
