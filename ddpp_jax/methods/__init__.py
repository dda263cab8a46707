"""Methods of distillation."""

from ddpp_jax.methods.draws import Draws, Start, draw, draw_start

__all__ = ["Draws", "Start", "draw", "draw_start"]
