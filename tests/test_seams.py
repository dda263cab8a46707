"""Other parts in place of the paper's, as function arguments of a distillation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from ddpp_jax import prune_mask, random_mask, trajectory_loss
from ddpp_jax.storage import read_rows


def run(folder, **parts):
    found = small.run(folder, [small.member(folder)], method=small.method(**parts))
    return found["DDPP"].distilled.images, read_rows(folder / "metrics.jsonl")


def by_ratio(key, student, target, threshold):
    return prune_mask(student, target, threshold=threshold)


def test_the_papers_parts_as_arguments_change_nothing(tmp_path):
    plain, rows = run(tmp_path / "plain")
    given, same = run(tmp_path / "given", mask_fn=by_ratio, distance_fn=trajectory_loss)
    np.testing.assert_array_equal(plain, given)
    assert rows == same


def test_random_pruning_keeps_as_many_elsewhere(tmp_path):
    def at_random(key, student, target, threshold):
        mask = by_ratio(key, student, target, threshold)
        return random_mask(key, mask)

    _, rows = run(tmp_path / "ratio")
    _, other = run(tmp_path / "random", mask_fn=at_random)
    # The first students are the same, so as many of their parameters are kept.
    assert other[1]["kept_fraction"] == rows[1]["kept_fraction"] < 1
    assert other[1]["kept_by_layer"] != rows[1]["kept_by_layer"]
    assert other[1]["loss"] != rows[1]["loss"]


def test_random_masks_differ_from_step_to_step(tmp_path):
    masks = []

    def at_random(key, student, target, threshold):
        mask = random_mask(key, jnp.arange(student.size) % 2 == 0)
        jax.debug.callback(masks.append, mask)
        return mask

    run(tmp_path, mask_fn=at_random)
    jax.effects_barrier()
    assert len({np.asarray(mask).tobytes() for mask in masks}) == small.CONFIG.distillation.steps


def test_another_distance(tmp_path):
    def absolute(student, target, start, *, mask):
        kept = jnp.where(mask, 1, 0)
        return (kept * jnp.abs(student - target)).sum() / (kept * jnp.abs(start - target)).sum()

    _, rows = run(tmp_path / "squared")
    images, other = run(tmp_path / "absolute", distance_fn=absolute)
    assert other[1]["loss"] != pytest.approx(rows[1]["loss"], rel=1e-5)
    assert np.isfinite(images).all()


def test_another_inner_optimiser(tmp_path):
    plain, _ = run(tmp_path / "plain")
    sgd, _ = run(tmp_path / "sgd", optimizer_fn=optax.sgd)
    np.testing.assert_allclose(sgd, plain, rtol=1e-3, atol=1e-4)
    momentum, rows = run(tmp_path / "momentum", optimizer_fn=lambda rate: optax.sgd(rate, 0.9))
    assert not np.allclose(momentum, plain, rtol=1e-4, atol=1e-5)
    assert not any("skipped" in row for row in rows)


def test_a_mask_that_is_none_is_refused(tmp_path):
    for mask_fn in (lambda *xs: jnp.ones(xs[1].shape, int), lambda *_: jnp.ones(3, bool)):
        with pytest.raises(ValueError, match="wanted a boolean for each of"):
            run(tmp_path, mask_fn=mask_fn)


def test_what_was_replaced_is_told(tmp_path):
    assert small.method().parts == {}
    replaced = small.method(mask_fn=by_ratio, optimizer_fn=optax.sgd).parts
    assert replaced == {"mask_fn": "test_seams.by_ratio", "optimizer_fn": "optax._src.alias.sgd"}
