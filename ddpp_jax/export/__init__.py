"""A distilled set taken elsewhere: into Python, or into the files that other tools read."""

from ddpp_jax.export.card import write_card
from ddpp_jax.export.formats import FORMATS, LIGHT, Export, export, pixel_range

__all__ = [
    "FORMATS",
    "LIGHT",
    "Export",
    "export",
    "pixel_range",
    "write_card",
]
