"""Settings: their checks and their digest."""

import dataclasses

import pytest

from ddpp_jax.configs import (
    DIGITS,
    DataConfig,
    DistillConfig,
    DistillJob,
    EvaluateConfig,
    EvaluateJob,
    TeachConfig,
    TeachersJob,
    digest,
)
from ddpp_jax.errors import InputError


def test_operations_by_name():
    assert DataConfig(augment="none").operations == ()
    assert DataConfig(augment="crop,flip").operations == ("crop", "flip")
    assert len(DataConfig(augment="all").operations) == 6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TeachConfig(teacher_rate=0.0), "--teacher-rate"),
        (lambda: TeachConfig(teacher_batch=0), "--teacher-batch"),
        (lambda: DistillConfig(momentum=1.0), "--momentum"),
        (lambda: DistillConfig(alpha_rate=-1.0), "--alpha-rate"),
        (lambda: DistillConfig(student_batch=0), "--student-batch"),
        (lambda: EvaluateConfig(networks=0), "--networks"),
        (lambda: TeachersJob(seed=2**32), "--seed"),
        (lambda: EvaluateJob(seed=-1), "--seed"),
        (lambda: DataConfig(augment="crop,crop"), "twice"),
    ],
)
def test_values_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_last_target_must_be_trained():
    DistillJob(
        teaching=TeachConfig(epochs=4),
        distillation=DistillConfig(max_start_epoch=3, target_epochs=2),
    )
    with pytest.raises(InputError, match="reach epoch 5"):
        DistillJob(
            teaching=TeachConfig(epochs=4),
            distillation=DistillConfig(max_start_epoch=3, target_epochs=3),
        )


def test_digest_follows_every_value():
    config = DIGITS
    other = dataclasses.replace(config, seed=1)
    first, second = (digest(dataclasses.asdict(c)) for c in (config, other))
    assert first != second
    assert first == digest(dataclasses.asdict(dataclasses.replace(DIGITS, seed=0)))
