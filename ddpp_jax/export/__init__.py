"""A distilled set taken elsewhere: into Python, or into the files that other tools read."""

from ddpp_jax.export.card import write_card
from ddpp_jax.export.formats import FORMATS, LIGHT, Export, export, pixel_range
from ddpp_jax.export.loading import DistilledSet, load_distilled

__all__ = [
    "FORMATS",
    "LIGHT",
    "DistilledSet",
    "Export",
    "export",
    "load_distilled",
    "pixel_range",
    "write_card",
]
