"""What distillations start from, by what teachers say of real images."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import small

from ddpp_jax import teachers
from ddpp_jax.cli.methods import Sources
from ddpp_jax.cli.starts import starter
from ddpp_jax.errors import InputError
from ddpp_jax.planning.problem import Problem
from ddpp_jax.progress import Report
from ddpp_jax.storage import TeacherStore

EPOCHS = 3  # After which teachers are wrong about some images.
SETTINGS = small.distillation(start_images="correct", ipc=1)
JOB = dataclasses.replace(
    small.CONFIG,
    distillation=SETTINGS,
    teaching=dataclasses.replace(small.CONFIG.teaching, epochs=EPOCHS, teachers=3),
)


def sources(store):
    problem = Problem(raw=small.dataset(), network=small.network(), store=store, manifest={})
    return Sources(dict.fromkeys(range(12), problem), small.dataset())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    found = TeacherStore(tmp_path_factory.mktemp("store"))
    teachers.run(JOB, small.dataset(), small.network(), found, Report(None))
    return found


def right(store):
    """How many teachers put each training image into its class, image by image."""
    network, data, votes = small.network(), small.dataset(), []
    images = jnp.asarray(data.x_train)
    for number in range(3):
        vector = store.read(number, [EPOCHS], num_params=network.num_params)[0]
        logits = network.apply_fn(network.unflatten(jnp.asarray(vector)), images)
        votes.append(np.asarray(logits).argmax(axis=1) == data.y_train)
    return np.sum(votes, axis=0)


def votes_for(start, votes):
    """The votes for the images of a start, which are real ones of their classes."""
    data, found = small.dataset(), []
    for image, label in zip(start.images, start.labels, strict=True):
        (place,) = np.flatnonzero((data.x_train == image).all(axis=(1, 2, 3)))
        assert data.y_train[place] == label
        found.append(votes[place])
    return found


def test_images_are_drawn_from_those_that_most_teachers_put_right(store):
    own, votes = sources(store), right(store)
    start_fn = starter(JOB, own, small.dataset())
    assert (votes < 2).any(), "otherwise any image would do"
    seeds = range(12)
    drawn = [votes_for(start_fn(SETTINGS, seed), votes) for seed in seeds]
    assert np.min(drawn) >= 2
    plain = small.distillation(ipc=1)
    plain_fn = starter(dataclasses.replace(JOB, distillation=plain), own, small.dataset())
    assert np.min([votes_for(plain_fn(plain, seed), votes) for seed in seeds]) < 2
    np.testing.assert_array_equal(plain_fn(plain, 0).images, small.start(plain).images)


def test_too_few_such_images_are_refused(tmp_path):
    store, network = TeacherStore(tmp_path), small.network()
    for number in range(3):
        flat = np.zeros((EPOCHS + 1, network.num_params), np.float32)  # Always the first class.
        store.write(number, flat, {"accuracy": 0.3})
    start_fn = starter(JOB, sources(store), small.dataset())
    with pytest.raises(InputError, match=r"put 0 training images of class columns right.*--epochs"):
        start_fn(SETTINGS, 0)
