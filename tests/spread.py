"""What steps of distillation come to on the devices of this process; as a script, in a file.

`python spread.py OUT` keeps the numbers of all cases in double precision, with how each program is
spread, so that those of several devices can be held against those of one. `python spread.py OUT
ADDRESS NUMBER` is one of two processes that make steps together.
"""

import functools
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import small

from ddpp_jax import cluster
from ddpp_jax.core import augment
from ddpp_jax.distill.program import begin, feeds_of, stepper
from ddpp_jax.methods import Inner, OnDevice, Pair, Parts, match_trajectories
from ddpp_jax.methods.draws import draw
from ddpp_jax.methods.features import gradient_of
from ddpp_jax.methods.gradient import class_distance
from ddpp_jax.methods.kernel import centred_labels, fit, predict
from ddpp_jax.methods.matching import Variables, cut_of, objective
from ddpp_jax.methods.real import Pool, over_classes, same_for_all
from ddpp_jax.methods.truncated import evaluated
from ddpp_jax.methods.windows import begin_window, through_window
from ddpp_jax.networks import ConvNet, Infinite, make_network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import map_over, mean_over, on_all

CLASSES = 3
AUGMENT = partial(augment, operations=("flip",))


@functools.cache
def key():
    """Made when it is asked for, since processes find one another before JAX makes anything."""
    return jax.random.key(7)


def doubled(tree):
    """In double precision, keys and whole numbers apart."""
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def images(count, place):
    return jax.random.normal(jax.random.fold_in(key(), place), (count, 4, 4, 1), jnp.float64)


def pair(network):
    """A start and a target, as those of a teacher."""
    start, change = (
        jax.random.normal(jax.random.fold_in(key(), n), (network.num_params,), jnp.float64)
        for n in (1, 2)
    )
    numbers = (jnp.int32(0), jnp.int32(0))
    return Pair(0.3 * start, 0.3 * start + 0.1 * change, *numbers)


def trajectory(batch=72):
    """The gradient of trajectory matching in pixels and alpha, all images in a minibatch.

    Of eight devices two have each of its shares, and take that in microbatches.
    """
    network = small.network()._replace(at_once=4)
    draws = draw(key(), images=batch, steps=2)
    labels = jnp.arange(batch) % CLASSES

    def gradients(images, alpha, pair):
        return jax.value_and_grad(objective, has_aux=True)(
            Variables(images, alpha),
            labels,
            pair,
            draws,
            0.1,
            network=network,
            mask_key=key(),
            parts=Parts(augment_fn=AUGMENT),
        )

    return gradients, (images(batch, 3), jnp.float64(0.05), pair(network))


def pool(each=8):
    places = jnp.arange(CLASSES * each).reshape(CLASSES, each)
    return Pool(images(CLASSES * each, 4), places, jnp.full(CLASSES, each))


def by_class():
    """The loss of each class by DC and the gradient in the pixels, with one network for all."""
    network = small.network()

    def found(images, pool, params):
        def loss_fn(label, key, real, own):
            real, own = (same_for_all(AUGMENT, key, x) for x in (real, own))
            return class_distance(params, label, real, own, network=network)

        return over_classes(loss_fn, key(), pool, images, batch=5)

    return found, (images(CLASSES * 2, 5), pool(), doubled(network.init_fn(key())))


def cafe():
    network = small.network()

    def found(images, pool, params):
        return gradient_of(key(), params, images, pool, network, batch=5, augment_fn=AUGMENT)

    return found, (images(CLASSES * 2, 5), pool(), doubled(network.init_fn(key())))


def kip():
    """The loss by eleven real images and four distilled ones, and its gradient."""
    network, labels = Infinite(1), centred_labels(jnp.arange(4) % CLASSES, CLASSES)

    def loss_fn(images, real):
        fitted = fit(network, images, labels, ridge=1e-3, map_fn=map_over)
        return jnp.square(predict(network, fitted, real, map_fn=map_over)).sum()

    return jax.value_and_grad(loss_fn), (images(4, 6), images(11, 8))


def bptt():
    network = small.network()
    network = network._replace(init_fn=lambda own: doubled(small.network().init_fn(own)))
    inner = Inner(2, 4, "random", 0.01, adam=True, batch=128, augment_fn=AUGMENT)
    labels, draws = jnp.arange(128) % CLASSES, draw(key(), images=128, steps=4)

    def loss_fn(images, real):
        window = begin_window(key(), images, labels, draws, network=network, inner=inner)
        params = through_window(images, labels, window, draws, network=network, inner=inner)
        return evaluated(network, params, real, labels)

    return jax.value_and_grad(loss_fn, has_aux=True), (images(128, 3), images(128, 9))


def over_batch():
    """A network that normalises over the batch."""
    model = ConvNet(CLASSES, width=4, depth=1, image_size=4, channels=1, norm="batch")
    return make_network(model, (4, 4, 1))


CASES = {
    "mtt": trajectory,
    "dc": by_class,
    "cafe": cafe,
    "kip": kip,
    "bptt": bptt,
}


def shares():
    """How many devices share a minibatch of so many images."""

    def count(network, batch, busy=()):
        found = []

        def look(xs):
            def within(_):
                found.append(cut_of(network, batch).shares)
                return jnp.float32(0)

            return mean_over(within, xs) if busy else within(xs)

        jax.eval_shape(on_all(look), jnp.zeros(busy or (1,)))
        return found[-1]

    return {
        "outside": cut_of(small.network(), 128).shares,
        **{str(size): count(small.network(), size) for size in (128, 72, 500, 33, 24)},
        "over batch": count(over_batch(), 128),
        "in one of 8 segments": count(small.network(), 128, (8,)),
        "in one of 4 segments": count(small.network(), 128, (4,)),
        "in one of 3 segments": count(small.network(), 128, (3,)),
    }


def keep(folder):
    """What all cases come to, in files."""
    told: dict[str, Any] = {"shares": shares()}
    with jax.enable_x64(True):
        for name, case in CASES.items():
            fn, given = case()
            program = jax.jit(on_all(fn)).trace(*given)
            turns = [int(n) for n in re.findall(r"length=(\d+)", str(program.jaxpr))]
            compiled = program.lower().compile()
            flops = cast(dict[str, float], compiled.cost_analysis())["flops"]
            leaves, again = (jax.tree.leaves(jax.device_get(compiled(*given))) for _ in "ab")
            same = all(map(np.array_equal, leaves, again))
            told[name] = {"flops": flops, "turns": turns, "same": same}
            np.savez(folder / f"{name}.npz", *leaves)
    (folder / "told.json").write_text(json.dumps(told))


@functools.cache
def method_of_steps():
    """A method, its settings, and the seeds that it has read for."""
    read, network = [], small.network()

    def pairs_fn(seed, plan):
        read.append(seed)
        rolled = jnp.roll(small.trajectories(network), seed, axis=1)
        return OnDevice(rolled, plan)

    settings = small.distillation(student_batch=64)
    schedule = small.schedule(settings)
    method = match_trajectories(network, pairs_fn, schedule, optimizer=optax.trace(0.5))
    return method, settings, read


def steps_of(folder, *seeds):
    """The images after two steps of some distillations, and the seeds that were read for here."""
    method, settings, read = method_of_steps()
    read.clear()
    labels = np.arange(64, dtype=np.int32) % CLASSES
    noise = np.random.default_rng(3).normal(size=(64, 4, 4, 1)).astype(np.float32)
    start = DistilledSet(noise, labels, 0.05)
    members = [small.member(folder, settings, seed)._replace(start=start) for seed in seeds]
    states = jax.tree.map(lambda *x: jnp.stack(x), *(begin(method, one) for one in members))
    batches = [feed.take(2, rows=2) for feed in feeds_of(method, members, 0)]
    states, _ = stepper(method)(members, states, 0, 2, batches)
    return {"images": states.variables.images, "read": read}


SEEDS = [(5,), (0, 1)]


def keep_steps(folder, name):
    """What steps of one distillation and of several come to, in files."""
    members = [small.member(folder, seed=seed) for seed in range(5)]
    method, _, read = method_of_steps()
    feeds_of(method, members, 0)
    np.savez(folder / f"{name}-5.npz", read=read)
    for seeds in SEEDS:
        np.savez(folder / f"{name}-{len(seeds)}.npz", **steps_of(folder, *seeds))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        cluster.join(sys.argv[2], 2, int(sys.argv[3]))
        keep_steps(Path(sys.argv[1]), sys.argv[3])
    else:
        keep(Path(sys.argv[1]))
