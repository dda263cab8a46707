"""Pictures: true colours, every class labelled, every quantity drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_results import DISTILLED

from ddpp_jax.report import plots


def test_pixels_within_black_and_white_are_shown_as_they_are():
    pixels = np.random.default_rng(0).uniform(size=DISTILLED.pixels.shape).astype(np.float32)
    pixels[0, 0, 0] = 1.5
    shown = plots.shown_pixels(DISTILLED._replace(pixels=pixels))
    np.testing.assert_array_equal(shown, np.minimum(pixels, 1))


def test_pixels_far_beyond_are_shown_with_less_contrast():
    pixels = 0.5 + 10 * np.random.default_rng(0).normal(size=DISTILLED.pixels.shape)
    shown = plots.shown_pixels(DISTILLED._replace(pixels=pixels.astype(np.float32)))
    assert ((shown == 0) | (shown == 1)).mean() < 0.05
    assert np.all(np.diff(shown.ravel()[np.argsort(pixels.ravel())]) >= 0)
    assert shown.std() == pytest.approx(1 / (2 * 2.326), abs=0.01)  # 98 % of a normal law.


@pytest.mark.parametrize("channels", [1, 3])
def test_image_is_drawn_as_it_is(channels):
    image = np.random.default_rng(0).uniform(size=(4, 4, channels))
    figure = Figure(figsize=(1, 1), dpi=80)
    ax = figure.add_axes((0, 0, 1, 1))
    plots.draw_image(ax, image)
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.canvas.draw()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[10::20, 10::20, :3] / 255
    np.testing.assert_allclose(drawn, np.broadcast_to(image, (4, 4, 3)), atol=0.01)


@pytest.mark.parametrize("ipc", [1, 2, 12])
def test_grid_of_any_size(tmp_path, ipc):
    repeated = DISTILLED._replace(
        pixels=np.tile(DISTILLED.pixels[:1], (2 * ipc, 1, 1, 1)), labels=np.repeat([0, 1], ipc)
    )
    plots.save_grid(tmp_path / "grid.png", repeated, title="title")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.format == "PNG"


def test_curves_of_several_methods(tmp_path):
    rows = [{"step": s, "loss": 1 / (s + 1), "kept_fraction": 0.9, "alpha": 0.1} for s in range(60)]
    rows[0]["accuracy"] = 0.2
    figure = Figure()
    ax = figure.subplots()
    plots.draw_curve(ax, rows, "loss", label="ours", window=25)
    assert len(ax.lines) == 2
    smooth = ax.lines[1].get_ydata()
    np.testing.assert_allclose(smooth[24], np.mean(1 / np.arange(1, 26)))
    np.testing.assert_allclose(smooth[59], np.mean(1 / np.arange(36, 61)))
    assert smooth[0] == 1
    plots.save_curves(tmp_path / "curves.png", {"ours": rows, "MTT": rows[:1]}, title="title")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
