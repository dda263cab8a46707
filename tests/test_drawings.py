"""Pictures: true colours, every class labelled, every quantity drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_results import DISTILLED

from ddpp_jax.report import drawings, pictures


def test_pixels_within_black_and_white_are_shown_as_they_are():
    pixels = np.random.default_rng(0).uniform(size=DISTILLED.pixels.shape).astype(np.float32)
    pixels[0, 0, 0] = 1.5
    shown = pictures.shown_pixels(DISTILLED._replace(pixels=pixels))
    np.testing.assert_array_equal(shown, np.minimum(pixels, 1))


def test_pixels_far_beyond_are_shown_with_less_contrast():
    pixels = 0.5 + 10 * np.random.default_rng(0).normal(size=DISTILLED.pixels.shape)
    shown = pictures.shown_pixels(DISTILLED._replace(pixels=pixels.astype(np.float32)))
    assert ((shown == 0) | (shown == 1)).mean() < 0.05
    assert np.all(np.diff(shown.ravel()[np.argsort(pixels.ravel())]) >= 0)
    assert shown.std() == pytest.approx(1 / (2 * 2.326), abs=0.01)  # 98 % of a normal law.


@pytest.mark.parametrize("channels", [1, 3])
def test_image_is_drawn_as_it_is(channels):
    image = np.random.default_rng(0).uniform(size=(4, 4, channels))
    figure = Figure(figsize=(1, 1), dpi=80)
    ax = figure.add_axes((0, 0, 1, 1))
    drawings.draw_image(ax, image)
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
    pictures.save_grid(tmp_path / "grid.png", repeated, title="title")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.format == "PNG"


def rows_of(count, **more):
    first = {"step": 0, "shows": {"loss": "matching loss", "kept": "share kept"}, "accuracy": 0.2}
    steps = [{"step": s, "loss": 1 / s, "kept": 0.9, **more} for s in range(1, count + 1)]
    return [first, *steps]


def test_what_can_be_drawn_is_what_the_rows_show():
    rows = rows_of(5, by_layer={"kernel": 0.5}, skipped=True, other=3.0)
    shown = drawings.quantities_of([rows, []])
    assert list(shown) == ["loss", "kept", "accuracy"]
    assert shown["loss"] == "matching loss"
    assert drawings.maps_of(rows) == {"by_layer": "by_layer"}


def test_many_steps_are_drawn_as_means_and_extremes():
    ax = Figure().subplots()
    assert drawings.draw_curve(ax, rows_of(1000), "loss", label="DDPP")
    (line,) = ax.lines
    steps = np.arange(1, 1001)
    np.testing.assert_allclose(line.get_ydata(), (1 / steps).reshape(250, 4).mean(axis=1))
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1 / 1000, 1.0)
    assert not drawings.draw_curve(ax, rows_of(10), "nothing", label="DDPP")


def test_a_map_has_the_means_by_name():
    rows = [
        {"step": s, "start_epoch": s % 2, "kept": {"a": s / 10, "b": None if s < 3 else 1.0}}
        for s in range(1, 5)
    ]
    mapped = drawings.Mapped([{"step": 0}, *rows], "kept")
    over_steps, ends = mapped.over_steps()
    np.testing.assert_allclose(over_steps, [[0.1, 0.2, 0.3, 0.4], [np.nan, np.nan, 1, 1]])
    assert ends == (0.5, 4.5)
    by_epoch, _ = mapped.over("start_epoch")
    np.testing.assert_allclose(by_epoch, [[0.3, 0.2], [1, 1]])
    assert mapped.extremes() == [("a", pytest.approx(0.25), 0.1, 0.4), ("b", 1.0, 1.0, 1.0)]


def test_curves_of_several_methods(tmp_path):
    runs = {"DDPP": rows_of(60), "MTT": rows_of(0)}
    pictures.save_curves(tmp_path / "curves.png", runs, title="title")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_sweep_shows_accuracy_and_metrics(tmp_path):
    rows = [
        {"value": v, "mean": 0.4, "std": 0.1, "means": {"loss": v / 10, "kept": 1.0}}
        for v in (1, 2)
    ]
    labels = {"loss": "matching loss", "kept": "share kept"}
    pictures.save_sweep(tmp_path / "s.png", rows, name="alpha", quantities=labels, title="title")
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_what_two_methods_call_otherwise_is_drawn_apart():
    """A loss is not another method's loss; the accuracy of networks is the same thing for all."""

    def run(label):
        return [{"step": 0, "shows": {"loss": label}}, {"step": 1, "loss": 0.5, "accuracy": 0.3}]

    found = drawings.curves_of([run("matching loss"), run("regression"), run("matching loss")])
    by_label = {label: (name, places) for name, label, places in found}
    assert by_label["matching loss"] == ("loss", [0, 2])
    assert by_label["regression"] == ("loss", [1])
    assert [places for name, _, places in found if name == "accuracy"] == [[0, 1, 2]]
