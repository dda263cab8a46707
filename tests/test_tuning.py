"""Settings that are derived, and those that are found by trying."""

import contextlib
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from ddpp_jax.cli.search import Search
from ddpp_jax.cli.tune import _length
from ddpp_jax.configs import (
    METHODS,
    DistributionConfig,
    EvaluateConfig,
    TrajectoryConfig,
    job_of,
    setting,
    untuned,
)
from ddpp_jax.configs.distillation import Searched
from ddpp_jax.data import balanced, seen_by_teachers
from ddpp_jax.errors import InputError
from ddpp_jax.methods import HParams, Info, Method
from ddpp_jax.methods.matching import Variables
from ddpp_jax.methods.updates import State, update
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import Sharpness
from ddpp_jax.tuning import (
    PILOTS,
    Asked,
    Budget,
    Costs,
    Pieces,
    Pilot,
    epochs_as_one,
    first_alpha,
    held_out_for,
    race,
    range_test,
    seconds_of,
    settings_for,
    student_batch_for,
)
from ddpp_jax.tuning.teaching import SMOOTH, Rate, _chosen, _crossing, smoothness

# Which of Tables 1 and 4 have which depth; the digits' is this project's own.
DEPTHS = {8: 2, 16: 2, 28: 3, 32: 3, 64: 4, 112: 5, 128: 5}


@pytest.mark.parametrize(("size", "depth"), DEPTHS.items())
def test_depths_are_the_published_ones(size, depth):
    found = settings_for(size, 1, [500] * 10)
    assert found["depth"] == depth
    assert size >> found["depth"] >= 1


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_tiny_images_have_a_depth(size):
    assert size >> settings_for(size, 3, [50, 50])["depth"] >= 1


@pytest.mark.parametrize(("train", "batch"), [(30, 16), (1299, 64), (5400, 256), (60_000, 256)])
def test_an_epoch_has_about_twenty_steps(train, batch):
    found = settings_for(32, 1, [train // 3] * 3)["teacher_batch"]
    assert found == batch
    assert train < 20 * 16 or train / found >= 20


@pytest.mark.parametrize(
    ("train", "batch", "epochs"), [(48, 16, 7), (10, 16, 20), (320, 16, 1), (60_000, 256, 1)]
)
def test_epochs_of_few_images_are_taken_together(train, batch, epochs):
    assert epochs_as_one(train, batch) == epochs


def test_uneven_classes_are_balanced():
    assert not settings_for(32, 1, [100, 300])["balance"]
    assert settings_for(32, 1, [100, 301])["balance"]
    data = small.dataset()
    keep = np.flatnonzero((data.y_train != 1) | (np.arange(len(data.y_train)) % 5 == 0))
    uneven = dataclasses.replace(data, x_train=data.x_train[keep], y_train=data.y_train[keep])
    even = balanced(uneven)
    counts = np.bincount(uneven.y_train)
    np.testing.assert_array_equal(np.bincount(even.y_train), counts.max())
    assert seen_by_teachers(uneven, balance=True) == len(even.y_train)
    for image, label in zip(even.x_train, even.y_train, strict=True):
        assert (uneven.x_train[uneven.y_train == label] == image).all(axis=(1, 2, 3)).any()


def test_a_rate_that_learns_nothing_is_not_taken():
    smooth = Rate(0.001, (), 0.4, SMOOTH + 0.1)
    tried = (smooth, Rate(0.003, (), 0.5, SMOOTH - 0.1), Rate(0.01, (), 0.52, SMOOTH - 0.3))
    # 0.468 lies 0.68 of the way, in the logarithm, from the first to the second.
    assert _chosen(tried) == pytest.approx(0.0021)
    assert _crossing(tried) < 0.0021
    assert _chosen((smooth._replace(accuracy=0.5), *tried[1:])) == _crossing(tried)


@pytest.mark.parametrize(
    ("quick", "sweep", "fixed", "every", "said"),
    [
        # An evaluation is 25 / 3 s; 510 s hold two of the last sets, three draws, four on the way.
        (1.0, False, (), 108, ["steps", "eval_epochs"]),
        (30.0, False, (), 0, ["steps", "eval_epochs", "eval_every"]),
        (30.0, False, ("eval_every",), 100, ["steps", "eval_epochs"]),
        (30.0, True, (), 100, ["steps", "eval_epochs"]),
        (30.0, False, ("steps", "eval_epochs"), 0, ["eval_every"]),
    ],
)
def test_the_length_of_a_run_and_what_is_said_of_it(quick, sweep, fixed, every, said):
    search = Search(asked=untuned(), fixed=frozenset(fixed), seconds=240.0, members=2, sweep=sweep)
    quickly = EvaluateConfig(networks=3, eval_epochs=200)
    job, found = _length(search, untuned(), Budget(720), Costs(600.0, 1.0, quick), quickly, 100)
    assert job.distillation.eval_every == every
    assert [one["name"] for one in found] == said


@pytest.mark.parametrize(
    ("accuracies", "rate"),
    [
        ((0.0, 0.0, 0.0), 0.001),
        ((0.5, 0.5, 0.5), 0.001),
        # 0.45 lies 0.83 of the way from 0.2 to 0.5; a higher rate may teach less.
        ((0.2, 0.5, 0.3), 0.0025),
        ((0.1, 0.2, 0.5), 0.0082),
    ],
)
def test_the_lowest_rate_that_learns_enough(accuracies, rate):
    rough = [Rate(r, (), a, -1.0) for r, a in zip((0.001, 0.003, 0.01), accuracies, strict=True)]
    assert _chosen(tuple(rough)) == pytest.approx(rate)
    assert _chosen((Rate(0.05, (), 0.3, SMOOTH), *rough[3:])) == 0.05


def test_whitening_is_for_small_colour_images():
    assert settings_for(32, 3, [500] * 10)["zca"]
    assert not settings_for(32, 1, [500] * 10)["zca"]
    assert not settings_for(64, 3, [500] * 10)["zca"]


@pytest.mark.parametrize(
    ("images", "classes"), [(10, 10), (100, 10), (1000, 100), (60, 3), (58, 2)]
)
def test_student_batches_divide_the_set(images, classes):
    batch = student_batch_for(images, classes)
    assert batch is None if images <= 50 else images % batch == 0


@pytest.mark.parametrize(
    ("train", "share"), [(60, 0.25), (1442, 0.25), (4000, 0.125), (60_000, 0.1)]
)
def test_some_five_hundred_images_are_kept_apart(train, share):
    assert held_out_for(train) == share


def test_the_first_alpha_scales_with_the_way_to_the_target():
    one = first_alpha(0.02, 40, 20)
    assert one == pytest.approx(0.02)
    assert first_alpha(0.02, 80, 20) == pytest.approx(2 * one)
    assert first_alpha(0.02, 40, 40) == pytest.approx(one / 2)


def test_searched_values_are_spread_by_their_logarithms():
    assert Searched("rate", 0.03, 0.3, 3).values() == (0.03, 0.095, 0.3)
    assert Searched("epoch", 2, 16, 3, whole=True).values() == (2, 6, 16)
    assert Searched("epoch", 2, 16, 3, whole=True).values(5) == (2, 3, 5)
    assert Searched("epoch", 2, 16, 3, whole=True).values(1) == (1,)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_wants_found(name):
    settings = untuned(name).distillation
    assert settings.SEARCHED
    for one in settings.SEARCHED:
        assert one.low < one.high
        dataclasses.replace(settings, **{one.name: one.values()[0]})


@pytest.mark.parametrize("job", [setting("digits"), setting("digits", "dm"), untuned("mtt")])
def test_settings_come_back_from_plain_values(job):
    assert job_of(dataclasses.asdict(job)) == job


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"data": {"colour": 3}}, "no 'colour'"),
        ({"method": "guess"}, "--method"),
        ({"method": ["ddpp"]}, "method"),
        ({"data": "digits"}, "wanted an object"),
        ({"data": {"augment": 3}}, "augment 3"),
        ({"data": {"zca": "no"}}, "zca 'no'"),
        ({"distillation": {"steps": 10.5}}, "steps 10.5"),
        ({"distillation": {"ipc": True}}, "ipc True"),
        ({"distillation": {"optimizer": "foo"}}, "optimizer 'foo'"),
        ({"distillation": {"real_batch": 3}}, "no 'real_batch'"),
        ({"evaluation": {"which": "x"}}, "which 'x'"),
        ({"seed": 1.5}, "seed 1.5"),
        ({"model": {"width": 0}}, "--width"),
    ],
)
def test_strange_settings_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        job_of(values)


def test_whole_numbers_are_numbers():
    assert job_of({"distillation": {"pixel_rate": 3}}).distillation.pixel_rate == 3.0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0m", "-3m", "ten minutes", "1d"])
def test_strange_budgets_are_refused(text):
    with pytest.raises(InputError, match="--budget"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("pilots", "count"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (9, 3), (12, 3)]
)
@pytest.mark.parametrize("step", [1e-4, 0.05, 3.0])
def test_rungs_halve_the_pilots_and_double_the_steps(pilots, count, step):
    rungs = Budget(720.0).rungs(pilots, step)
    lengths = np.diff([0, *rungs])
    assert all(b == 2 * a for a, b in itertools.pairwise(lengths))
    assert len(rungs) == count


def test_what_takes_longer_is_done_less():
    budget = Budget(720)
    few, many = budget.teachers_and_epochs(10.0), budget.teachers_and_epochs(0.1)
    assert few < many
    slow, fast = (budget.length(Costs(600.0, step, 1.0), Asked(), members=2) for step in (3.0, 0.7))
    assert slow < fast


def test_a_run_is_as_long_as_the_time_allows():
    """Of 600 s 510 are planned; two sets, each evaluated three times in 5 s, leave 480."""
    length = Budget(720).length
    costs = Costs(600.0, 1.0, 5.0)
    assert length(costs, Asked(), members=2) == (240, 120)
    assert length(costs, Asked(), members=2, draws=3) == (232, 116)
    assert length(costs, Asked(every=0), members=2) == (250, 0)
    # 490 s, and 2 s of steps with a tenth of 10 s of evaluations.
    assert length(costs, Asked(every=10), members=2) == (163 // 2 * 2, 10)
    assert length(costs, Asked(steps=7), members=2) == (7, 3)
    assert length(Costs(0.0, 1.0, 5.0), Asked(), members=2) == (60, 30)
    assert length(Costs(600.0, 0.01, 5.0), Asked(), members=2) == (1000, 500)


def test_the_steps_of_the_best_pilot_reach_the_run():
    search = Search(asked=untuned(), fixed=frozenset(), seconds=240.0, members=2)
    quickly, costs = EvaluateConfig(networks=3, eval_epochs=200), Costs(600.0, 10.0, 1.0)
    steps = [
        _length(search, untuned(), Budget(720), costs, quickly, shown)[0].distillation.steps
        for shown in (7, 100, 300)
    ]
    assert steps == [60, 100, 300]


def test_a_run_makes_as_many_steps_as_its_best_pilot_had():
    length = Budget(720).length
    assert length(Costs(0.0, 1.0, 5.0), Asked(least=475), members=2) == (476, 238)
    assert length(Costs(0.0, 1.0, 46.0), Asked(least=70), members=2) == (70, 0)
    assert length(Costs(600.0, 1.0, 5.0), Asked(least=70), members=2) == (240, 120)
    assert length(Costs(0.0, 1.0, 5.0), Asked(steps=7, least=70), members=2) == (7, 3)


def test_evaluations_that_take_long_are_made_at_the_end_alone():
    """Two more of two sets are 184 s where one is 46, and a quarter of 720 is 180."""
    length = Budget(720).length
    assert length(Costs(600.0, 1.0, 44.0), Asked(), members=2)[1] > 0
    assert length(Costs(600.0, 1.0, 46.0), Asked(), members=2) == (208, 0)
    assert length(Costs(600.0, 1.0, 46.0), Asked(needed=True), members=2)[1] > 0
    assert length(Costs(600.0, 1.0, 46.0), Asked(every=100), members=2)[1] == 100
    # Of a run that steps by hand, or the least of them, make long, they are less than a quarter.
    assert length(Costs(600.0, 1.0, 46.0), Asked(steps=5000), members=2) == (5000, 2500)
    assert length(Costs(600.0, 10.0, 46.0), Asked(), members=2) == (60, 30)


def test_smoothness_is_the_cosine_of_neighbouring_changes():
    straight = np.tile(np.array([1.0, 2.0]), (3, 2, 1))
    assert smoothness(straight) == pytest.approx(1)
    assert smoothness(straight * np.array([1, -1, 1])[:, None, None]) == pytest.approx(-1)
    assert smoothness(np.array([[[1.0, 0]], [[0, 1.0]]])) == pytest.approx(0)
    assert smoothness(straight * np.nan) == -1


def test_the_rate_is_where_smoothness_is_crossed():
    tried = (Rate(0.01, (), 0.0, SMOOTH + 0.1), Rate(0.1, (), 0.0, SMOOTH - 0.1))
    assert _crossing(tried) == pytest.approx(0.032)
    assert _crossing(tried[:1]) == 0.01
    assert _crossing(tried[1:]) == 0.1
    assert _crossing((Rate(0.05 / 10**0.5, (), 0.0, SMOOTH - 0.1),)) == 0.016


def rates_of_small(sharpness=None):
    data = small.dataset()
    data = dataclasses.replace(data, x_held=data.x_test, y_held=data.y_test)
    return range_test(
        jax.random.key(0),
        small.network(),
        data,
        batch_size=8,
        operations=(),
        report=Report(None),
        sharpness=sharpness,
    )


def test_rates_are_tried_by_the_steps_that_teachers_make():
    plain, flat = rates_of_small(), rates_of_small(Sharpness(0.5, 0.0, adaptive=False))
    assert flat.tried[0].losses != plain.tried[0].losses


def test_the_range_test_finds_a_smooth_rate():
    found = rates_of_small()
    rates = [one.rate for one in found.tried]
    smooth = [one.smoothness >= SMOOTH for one in found.tried]
    assert smooth == sorted(smooth, reverse=True)
    assert rates[0] <= found.rate <= rates[-1]
    assert found.seconds > 0


def falling(rate):
    """A method whose images approach 1, by this part of the way in each step."""

    def step(key, state, batch, hparams):
        images, alpha = state
        images = images + hparams.pixel_rate * (1 - images)
        return (images, alpha), Info({"loss": jnp.square(1 - images).mean()}, jnp.bool_(False))

    class Nothing:
        waited = 0.0

        def take(self, count, *, rows):
            return jnp.zeros(rows)

        def check(self):
            pass

        def close(self):
            pass

    return Method(
        init=lambda key, start: (jnp.asarray(start.images), jnp.asarray(start.alpha)),
        step=step,
        feed=lambda seed, done: Nothing(),
        distilled=lambda state: DistilledSet(state[0], jnp.zeros(1, int), state[1]),
        batch=jax.ShapeDtypeStruct((), jnp.float32),
    )


def pilots_of(rates, epochs=(2, 4)):
    base = TrajectoryConfig(optimizer="adam")
    return [
        Pilot(
            {"max_start_epoch": epoch, "pixel_rate": rate},
            dataclasses.replace(base, max_start_epoch=epoch, pixel_rate=rate),
        )
        for epoch in epochs
        for rate in rates
    ]


def pieces_of(score_fn):
    return Pieces(
        lambda settings: (falling(settings.pixel_rate), HParams(0.0, settings.pixel_rate, 0.0)),
        lambda settings: DistilledSet(np.zeros((1, 2, 2, 1), np.float32), np.zeros(1, int), 0.1),
        score_fn,
        0,
        10_000,
    )


def score(small_set):
    return float(np.asarray(small_set.images).mean())


def test_the_best_pilot_wins_and_the_worse_half_leaves(tmp_path):
    pilots = pilots_of((0.01, 0.02, 0.05))
    found = race(pilots, pieces_of(score), lambda step: [4, 12, 28], tmp_path, Report(None))
    assert found.best["values"]["pixel_rate"] == 0.05
    assert [trial["steps"] for trial in found.trials] == 6 * [4] + 3 * [12] + 2 * [28]
    for trial in found.trials:
        wanted = 1 - (1 - trial["values"]["pixel_rate"]) ** trial["steps"]
        assert trial["accuracy"] == pytest.approx(wanted, rel=1e-4)
    assert not list(tmp_path.glob("pilots-*/*"))


def test_the_progress_of_a_race_ends_where_it_was_to_end(tmp_path, monkeypatch):
    ticks, report = [], Report(None)

    @contextlib.contextmanager
    def progress(name, total, *, unit):
        yield lambda done, values: ticks.append((done, total))

    monkeypatch.setattr(report, "progress", progress)
    pilots = pilots_of((0.01, 0.02, 0.05))
    race(pilots, pieces_of(score), lambda step: [4, 12, 28], tmp_path, report)
    done, totals = zip(*ticks, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]} == {6 * 4 + 3 * 8 + 2 * 16}


@pytest.mark.parametrize(("images", "epoch"), [(20, 4), (10_000, 2)])
def test_of_pilots_that_are_equal_within_the_error_the_gaining_one_is_taken(
    tmp_path, images, epoch
):
    """The accuracy falls with the start epoch, by less than 20 images can tell."""
    pieces = pieces_of(lambda small_set: 0.5 - float(np.asarray(small_set.alpha)))
    pieces = pieces._replace(
        images=images,
        start_fn=lambda settings: DistilledSet(
            np.zeros((1, 2, 2, 1), np.float32), np.zeros(1, int), 0.02 * settings.max_start_epoch
        ),
    )
    found = race(pilots_of((0.01,)), pieces, lambda step: [2], tmp_path, Report(None))
    assert found.best["values"]["max_start_epoch"] == epoch


def test_a_race_that_was_interrupted_goes_on_to_the_same_end(tmp_path):
    pilots, rungs = pilots_of((0.01, 0.02, 0.05)), lambda step: [4, 12, 28]
    whole = race(pilots, pieces_of(score), rungs, tmp_path / "whole", Report(None))
    calls = []

    def stopping(small_set):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return score(small_set)

    place = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        race(pilots, pieces_of(stopping), rungs, place, Report(None))
    assert (place / PILOTS).exists()
    again = race(pilots, pieces_of(score), rungs, place, Report(None))
    assert again.trials == whole.trials
    assert again.best == whole.best


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_adam_does_not_depend_on_the_scale_of_the_loss(scale):
    adam = optax.scale_by_adam(b1=0.5)
    images = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))
    variables = Variables(images, jnp.float32(0.02))
    state = State(variables, jnp.zeros(1, int), adam.init(variables))
    gradient = Variables(scale * images, jnp.float32(scale * 5.0))
    hparams = HParams(0.1, 0.1, 0.03)
    after, _ = update(state, gradient, hparams, optimizer=adam, relative_alpha=True)
    moved = after.variables.images - images
    np.testing.assert_allclose(np.abs(moved), 0.1, rtol=1e-2)
    assert after.variables.alpha == pytest.approx(0.02 * np.exp(-0.03), rel=1e-3)


def test_settings_of_each_method_are_its_own():
    assert isinstance(untuned("dm").distillation, DistributionConfig)
    assert untuned("mtt").distillation.threshold is None
