"""What speaks against a distilled set, and what to try."""

import pytest

from ddpp_jax.results import Evidence, doubt

SETTINGS = {
    "method": "ddpp",
    "alpha": 0.02,
    "teacher_rate": 0.1,
    "pixel_rate": 10.0,
    "steps": 100,
    "alpha_rate": 1e-4,
    "target_epochs": 2,
    "max_start_epoch": 4,
}


def row(mean, std=0.01, method="DDPP"):
    return {"method": method, "mean": mean, "std": std}


def evidence(losses=(1.0, 0.3), alphas=(0.02, 0.02), change=0.5, teachers=(2.0, 1.0), **settings):
    rows = [
        {"step": n + 1, "loss": loss, "alpha": alpha, "kept_fraction": 0.98}
        for n, (loss, alpha) in enumerate(zip(losses, alphas, strict=True))
    ]
    return Evidence(rows, change, teachers, SETTINGS | settings)


def test_a_good_set_is_not_doubted():
    assert doubt(row(0.7), row(0.5, 0.05), evidence()) is None
    assert doubt(row(0.7), None, evidence()) is None


@pytest.mark.parametrize("mean", [0.3, 0.5, 0.54])
def test_a_set_within_the_spread_of_random_images_is_doubted(mean):
    said = doubt(row(mean), row(0.5, 0.05), evidence())
    assert f"{100 * mean:.1f} % is not above random real images (50.0 %)" in said
    assert "--steps 400" in said
    assert "\n" not in said


def test_a_loss_near_one_is_doubted_whatever_the_accuracy():
    said = doubt(row(0.9), row(0.5), evidence(losses=(1.0, 0.99)))
    assert "0.99" in said
    assert "--target-epochs 1" in said
    assert "--teacher-rate 0.033" in doubt(
        row(0.9), row(0.5), evidence(losses=(1.0, 0.99), target_epochs=1)
    )


def test_teachers_that_do_not_learn_are_named_first():
    still = evidence(teachers=(2.3, 2.3))
    said = doubt(row(0.1), row(0.5), still)
    assert "rate is likely too high" in said
    assert "--teacher-rate 0.02" in said
    assert "--teacher-rate 0.02" in doubt(
        row(0.1), row(0.5), still._replace(smoothness_fn=lambda: 0.1)
    )


def test_teachers_that_go_straight_and_nowhere_are_too_slow():
    slow = evidence(teachers=(2.3, 2.3))._replace(smoothness_fn=lambda: 0.99)
    said = doubt(row(0.1), row(0.5), slow)
    assert "on a straight path, so their rate is likely too low" in said
    assert "--teacher-rate 0.5," in said


def test_one_epoch_says_nothing_of_the_teachers_rate():
    assert "--steps 400" in doubt(row(0.1), row(0.5), evidence(teachers=(1.2,)))


def test_teachers_that_turn_from_epoch_to_epoch_are_named():
    rough = evidence()._replace(smoothness_fn=lambda: 0.25)
    said = doubt(row(0.1), row(0.5), rough)
    assert "mean cosine of 0.25" in said
    assert said.endswith(
        "try --method ddpp --teacher-rate 0.02, or a run with --auto, in a new folder"
    )
    smooth = evidence()._replace(smoothness_fn=lambda: 0.72)
    assert "--steps 400" in doubt(row(0.1), row(0.5), smooth)
    # A rate that was found is the lowest at which teachers learn: a lower one would be no remedy.
    found = rough._replace(found={"teacher_rate"})
    assert "--steps 400, or a run with a larger --budget," in doubt(row(0.1), row(0.5), found)
    # One that was given by hand may be, whatever else was found.
    assert "--teacher-rate 0.02" in doubt(
        row(0.1), row(0.5), rough._replace(found={"pixel_rate", "alpha"})
    )


def test_the_paths_of_teachers_are_read_for_doubted_sets_alone():
    def unread():
        raise AssertionError

    assert doubt(row(0.7), row(0.5), evidence()._replace(smoothness_fn=unread)) is None


def test_losses_that_are_not_finite_are_named_first():
    found = evidence(losses=(1.0, None, None), alphas=(0.02,) * 3, alpha=0.02)
    said = doubt(row(0.1), row(0.5), found)
    assert "The loss or gradient of 2 of 3 steps was not finite" in said
    assert "--pixel-rate 1 --alpha 0.002" in said


def test_steps_that_were_skipped_for_their_gradient_count_too():
    rows = [{"step": n, "loss": 0.9, "skipped": True} for n in (1, 2)]
    found = Evidence(rows, 0.5, (), {"method": "dm", "pixel_rate": 1.0, "steps": 2})
    said = doubt(row(0.5), row(0.5), found)
    assert "of 2 of 2 steps was not finite, so the pixel rate" in said
    assert "--alpha" not in said


def test_nothing_is_said_of_the_rate_of_imported_teachers():
    found = evidence(teachers=(2.3, 2.3), imported="mine")._replace(smoothness_fn=lambda: 0.1)
    said = doubt(row(0.1), row(0.5), found)
    assert said.endswith("try --method ddpp --steps 400 in a new folder")


def test_teachers_that_are_worse_than_random_images_are_named():
    weak = evidence()._replace(teachers=0.2)
    assert "reach 20.0 %" in doubt(row(0.1), row(0.5), weak)
    assert "--teacher-rate 0.5" in doubt(row(0.1), row(0.5), weak)
    assert "--steps" in doubt(row(0.1), row(0.5), weak._replace(teachers=0.9))
    assert "--balance" in doubt(row(0.1), row(0.5), weak)
    even = evidence(balance=True)._replace(teachers=0.2)
    assert "--balance" not in doubt(row(0.1), row(0.5), even)


def test_an_alpha_that_falls_at_once_is_named():
    said = doubt(row(0.1), row(0.5), evidence((1.0, *(0.5,) * 9), (0.1, *(0.001,) * 9)))
    assert "--alpha 0.05 --alpha-rate 1e-05" in said
    fell = evidence((1.0, *(0.99,) * 9), (0.1, *(0.001,) * 9))._replace(usual_alpha=0.1)
    assert "--alpha 0.05 --alpha-rate 1e-05" in doubt(row(0.1), row(0.5), fell)


def test_an_alpha_that_rises_without_end_is_named():
    found = evidence((1.0, 0.5), (0.01, 1.0))
    said = doubt(row(0.1), row(0.5), found)
    assert "Alpha rose from 0.01 to 1" in said
    assert "--alpha 0.03 --alpha-rate 1e-05" in said


def test_an_alpha_at_which_students_hardly_move_is_named_before_the_pixels():
    low = evidence((1.0, 1.0), (1e-5, 1e-5), change=0.01)._replace(usual_alpha=0.04)
    said = doubt(row(0.1), row(0.5), low)
    assert "Students hardly move at an alpha of 1e-05" in said
    assert "--alpha 0.04," in said
    usual = low._replace(usual_alpha=1e-4)
    assert "--pixel-rate 100" in doubt(row(0.1), row(0.5), usual)


def test_steps_that_were_passed_over_are_named():
    rows = [{"step": n, "loss": 0.9, "passed_over": n > 1} for n in (1, 2, 3)]
    found = Evidence(rows, 0.01, (), SETTINGS | {"skip_above": 0.5})
    said = doubt(row(0.1), row(0.5), found)
    assert "2 of 3 steps changed nothing, since their loss was above 0.5" in said
    assert "--skip-above none" in said


def test_targets_are_no_nearer_than_some_twenty_steps():
    far = evidence(losses=(1.0, 0.99), target_epochs=14)._replace(epochs_as_one=7)
    assert "--target-epochs 7," in doubt(row(0.9), row(0.5), far)
    assert "--teacher-rate 0.033" in doubt(row(0.9), row(0.5), far._replace(epochs_as_one=14))


def test_pixels_that_hardly_move_or_fly_are_named():
    assert "--pixel-rate 100" in doubt(row(0.1), row(0.5), evidence(change=0.01))
    said = doubt(row(0.1), row(0.5), evidence(change=500.0))
    assert "Pixels moved by 5e+02 deviations" in said
    assert "--pixel-rate 1," in said


def test_a_method_without_teachers_or_a_relative_loss():
    rows = [{"step": 1, "loss": 50.0}, {"step": 2, "loss": 40.0}]
    found = Evidence(rows, 0.5, (), {"method": "dm", "pixel_rate": 1.0, "steps": 100})
    assert doubt(row(0.7), row(0.5), found) is None
    assert "--steps 400" in doubt(row(0.5), row(0.5), found)
