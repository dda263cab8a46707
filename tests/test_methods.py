"""What every method owes, crossed with every method."""

import dataclasses
import functools
import gc
import json
import shlex
import time
import tracemalloc
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from processes import call, call_once, start
from test_resume import kill, wait_for

from ddpp_jax import distill
from ddpp_jax.configs import METHODS, RealConfig, setting
from ddpp_jax.core import augment
from ddpp_jax.distill import loop
from ddpp_jax.distill.frames import read_frame
from ddpp_jax.methods import (
    AlignmentLoops,
    GradientLoops,
    Inner,
    PixelHParams,
    RealImages,
    RealSource,
    UnrolledHParams,
    align_features,
    alignment,
    induce_points,
    match_distributions,
    match_gradients,
    pool_like,
    unroll_truncated,
)
from ddpp_jax.networks import Infinite
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import read_rows


def source(batch):
    """What methods that read real images read, so many of each class."""
    data = small.dataset()
    return RealSource(
        lambda seed, done: RealImages(data.x_train, data.y_train),
        pool_like((4, 4, 1), data.y_train),
        batch,
    )


def by_distribution():
    return match_distributions(
        small.network(),
        source(5),
        optimizer=optax.trace(0.5),
        augment_fn=lambda key, images: images,
    )


def by_gradients(augment_fn=None):
    return match_gradients(
        small.network(),
        source(5),
        optimizer=optax.trace(0.5),
        loops=GradientLoops(updates=2, epochs=2),
        augment_fn=augment_fn,
    )


def by_alignment():
    return align_features(
        small.network(),
        source(5),
        optimizer=optax.trace(0.5),
        loops=AlignmentLoops(queries=8, steps=6),
        augment_fn=partial(augment, operations=("crop",)),
    )


def by_kernel():
    return induce_points(Infinite(1), source(4), optimizer=optax.scale_by_adam(), ridge=1e-3)


def by_unrolling(*operations):
    return unroll_truncated(
        small.network(),
        source(4),
        optimizer=optax.scale_by_adam(),
        inner=Inner(
            3,
            6,
            "random",
            0.01,
            adam=True,
            batch=6,
            augment_fn=partial(augment, operations=operations),
        ),
    )


PIXELS = PixelHParams(0.1)
MAKE = {
    "ddpp": (small.method, small.hparams()),
    "mtt": (small.method, small.hparams()._replace(threshold=0.0)),
    "dc": (by_gradients, PIXELS),
    "dsa": (partial(by_gradients, partial(augment, operations=("crop",))), PIXELS),
    "dm": (by_distribution, PIXELS),
    "cafe": (by_alignment, PIXELS),
    "kip": (by_kernel, PIXELS),
    "bptt": (partial(by_unrolling, "crop"), UnrolledHParams(0.1)),
}
every = pytest.mark.parametrize("name", MAKE)


@functools.cache
def made(name):
    """A method that is made once, so that it is traced and compiled once."""
    return MAKE[name][0]()


def members(folder, name, *seeds):
    return [
        small.member(folder / str(seed), seed=seed, name=f"{name} {seed}")._replace(
            hparams=MAKE[name][1]
        )
        for seed in seeds
    ]


def run(folder, name, *seeds, **options):
    method = made(name)
    return small.run(folder, members(folder, name, *seeds or (0,)), method=method, **options)


def first_batch(method, seed=0):
    taken = method.feed(seed, 0).take(1, rows=1)
    return taken if method.shared else jax.tree.map(lambda rows: rows[0], taken)


def first_step(name, seed=0):
    method, hparams = made(name), MAKE[name][1]
    state = method.init(jax.random.key(seed), small.start(seed=seed))
    batch = first_batch(method, seed)
    return method, state, jax.jit(method.step)(jax.random.key(seed), state, batch, hparams)


def test_every_method_is_in_the_table():
    assert set(MAKE) == set(METHODS)


@every
def test_a_step_says_what_it_shows_and_changes_the_images(name):
    method, before, (after, info) = first_step(name)
    assert {metric.name for metric in method.metrics} <= set(info.metrics)
    assert "loss" in info.metrics
    images = [np.asarray(method.distilled(state).images) for state in (before, after)]
    assert np.any(images[0] != images[1])
    assert not info.skipped


@every
def test_a_step_reads_what_it_says(name):
    method = made(name)
    taken = method.feed(0, 0).take(2, rows=3)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), taken)
    axis = () if method.shared else (3,)
    wanted = jax.tree.map(lambda leaf: ((*axis, *leaf.shape), leaf.dtype), method.batch)
    assert shapes == wanted


@every
def test_what_a_step_reads_does_not_depend_on_where_one_goes_on(name):
    method = made(name)
    whole, rest = method.feed(3, 0).take(6, rows=6), method.feed(3, 2).take(4, rows=4)
    first = 0 if method.shared else 2
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[first:], b), whole, rest)


@every
def test_every_leaf_of_a_state_keeps_its_dtype(name):
    _, before, (after, _) = first_step(name)
    assert jax.tree.map(lambda leaf: leaf.dtype, before) == jax.tree.map(
        lambda leaf: leaf.dtype, after
    )


@every
def test_what_is_not_finite_changes_nothing(name):
    method, hparams = made(name), MAKE[name][1]
    start = small.start()
    state = method.init(jax.random.key(0), start._replace(images=start.images * np.float32(1e30)))
    batch = jax.tree.map(
        lambda leaf: leaf * jnp.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        first_batch(method),
    )
    after, info = jax.jit(method.step)(jax.random.key(0), state, batch, hparams)
    assert bool(info.skipped)
    jax.tree.map(np.testing.assert_array_equal, after, state)


@every
def test_same_seed_same_bits_another_seed_others(name, tmp_path):
    first, again = (run(tmp_path / n, name)[f"{name} 0"].distilled for n in "ab")
    np.testing.assert_array_equal(first.images, again.images)
    other = run(tmp_path / "c", name, 1)[f"{name} 1"].distilled
    assert np.any(first.images != other.images)


@every
def test_side_by_side_every_member_has_the_bits_that_it_has_alone(name, tmp_path):
    both = run(tmp_path / "both", name, 0, 1)
    for seed in (0, 1):
        alone = run(tmp_path / f"alone-{seed}", name, seed)
        for title, outcome in alone.items():
            np.testing.assert_array_equal(outcome.distilled.images, both[title].distilled.images)
            files = [tmp_path / n / str(seed) / "metrics.jsonl" for n in ("both", f"alone-{seed}")]
            assert files[0].read_bytes() == files[1].read_bytes()


@every
def test_stopped_at_any_checkpoint_it_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    whole = run(tmp_path / "whole", name)[f"{name} 0"].distilled
    save = loop.Checkpoints.save
    for stop_at in (2, 4):
        folder = tmp_path / str(stop_at)

        def stop(checkpoints, step, states, at=stop_at):
            save(checkpoints, step, states)
            if step == at:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(loop.Checkpoints, "save", stop)
            with pytest.raises(KeyboardInterrupt):
                run(folder, name)
        resumed = run(folder, name)[f"{name} 0"].distilled
        np.testing.assert_array_equal(whole.images, resumed.images)
        assert not (folder / "checkpoints").exists()


@every
def test_slow_steps_are_kept_by_the_clock(name, tmp_path, monkeypatch):
    """Long before the fiftieth, and one goes on from there with the same bits."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "_SECONDS_PER_CALL", 0.0)
    whole, saved = run(tmp_path / "whole", name)[f"{name} 0"].distilled, []
    save = loop.Checkpoints.save

    def stop(checkpoints, step, states):
        save(checkpoints, step, states)
        saved.append(step)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop.Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", name)
    assert saved == [1, 2, 3]
    resumed = run(tmp_path / "stopped", name)[f"{name} 0"].distilled
    np.testing.assert_array_equal(whole.images, resumed.images)


@every
def test_float32_is_near_float64(name, monkeypatch):
    """A step's gradient as the library computes it, beside one in double precision."""
    monkeypatch.setattr(alignment, "_MOST_UPDATES", 1)  # What follows depends on accuracies.
    plain = partial(augment, operations=())
    monkeypatch.setitem(MAKE, "dsa", (partial(by_gradients, plain), PIXELS))
    monkeypatch.setitem(MAKE, "bptt", (by_unrolling, MAKE["bptt"][1]))
    for trajectory in ("ddpp", "mtt"):
        unaugmented = partial(small.method, operations=())
        monkeypatch.setitem(MAKE, trajectory, (unaugmented, MAKE[trajectory][1]))
    found = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype is np.float64):
            method, hparams = MAKE[name][0](), MAKE[name][1]
            begun = method.init(jax.random.key(0), small.start())

            def as_wide(leaf, dtype=dtype):
                wide = np.issubdtype(leaf.dtype, np.floating)
                return jnp.asarray(leaf, dtype) if wide else leaf

            state, batch = (jax.tree.map(as_wide, x) for x in (begun, first_batch(method)))
            after, _ = jax.jit(method.step)(jax.random.key(1), state, batch, hparams)
            images = [np.asarray(method.distilled(x).images) for x in (state, after)]
            assert images[1].dtype == dtype
            found.append(images[1] - images[0])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=2e-3 * np.abs(found[1]).max())


@every
def test_by_vmap_steps_are_the_same_to_rounding(name):
    """As members go on a GPU."""
    method, hparams = made(name), MAKE[name][1]
    keys = jax.random.split(jax.random.key(0), 2)
    states = [method.init(key, small.start(seed=seed)) for seed, key in enumerate(keys)]
    batch = first_batch(method)
    alone = [
        jax.jit(method.step)(k, s, batch, hparams)[0] for k, s in zip(keys, states, strict=True)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    step = jax.jit(jax.vmap(method.step, in_axes=(0, 0, None, None)))
    together, _ = step(keys, stacked, batch, hparams)
    for place, one in enumerate(alone):
        found = jax.tree.map(lambda leaf, place=place: leaf[place], together)
        np.testing.assert_allclose(
            method.distilled(found).images, method.distilled(one).images, rtol=1e-3, atol=1e-3
        )


@every
def test_memory_and_one_step_can_be_told_beforehand(name, tmp_path):
    method, (member,) = made(name), members(tmp_path, name, 0)
    assert distill.memory(method, member) > 1000
    assert distill.steps_per_call(method) >= 1


@every
def test_memory_does_not_grow_with_the_steps(name, tmp_path):
    """Nothing is left on the device, and by Python a few kilobytes a step at most, of metrics."""
    run(tmp_path / "compiled", name)
    gc.collect()
    arrays, peaks = len(jax.live_arrays()), []
    for steps in (60, 160):
        settings = dataclasses.replace(small.CONFIG.distillation, steps=steps, eval_every=0)
        gc.collect()
        tracemalloc.start()
        run(tmp_path / str(steps), name, settings=settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        gc.collect()
        assert len(jax.live_arrays()) == arrays
    assert peaks[1] - peaks[0] < 100 * 5_000


@every
def test_every_setting_has_this_method(name):
    job = setting("cifar10-ipc10", name)
    assert (job.method, job.distillation.ipc) == (name, 10)
    assert isinstance(job.distillation, METHODS[name])
    assert (job.distillation.last_epoch is None) == isinstance(job.distillation, RealConfig)


FLAGS = (
    "--width 8 --depth 1 --augment crop --steps 150 --networks 2 --eval-epochs 20 --random-draws 1 "
    "--eval-every 50 --teachers 1 --epochs 4"
)
MORE = {
    "ddpp": "--student-steps 4 --max-start-epoch 2",
    "mtt": "--student-steps 4 --max-start-epoch 2",
    "dc": "--real-batch 20",
    "dsa": "--real-batch 20 --updates 2",
    "dm": "--real-batch 20",
    "cafe": "--real-batch 20 --steps 12 --eval-every 6 --settled 1 --moved 0",
    "kip": "--real-batch 2 --steps 60 --eval-every 30",
    "bptt": "--real-batch 20 --window 3 --horizon 6 --steps 60 --eval-every 30",
}


FEW = "--steps 4 --eval-every 0 --eval-epochs 2 --no-baselines"


def setting_steps(name):
    """The steps of a run with `flags`."""
    words = flags(name, "run")
    return int(words[len(words) - 1 - words[::-1].index("--steps") + 1])


def flags(name, out):
    return shlex.split(f"--method {name} {FLAGS} {MORE[name]} --out {out}")


@every
def test_the_command_is_killed_and_ends_with_the_same_bits(name, tmp_path, tmp_path_factory):
    whole, _ = call_once(tmp_path_factory, f"method-{name}", "distill", *flags(name, "run"))
    process = start(tmp_path, "distill", *flags(name, "run"))
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    time.sleep(0.3)
    assert kill(process)
    done = call(tmp_path, "distill", *flags(name, "run"))
    assert done.returncode == 0, done.stderr
    ours, theirs = (place / "run" for place in (tmp_path, whole))
    assert (ours / "distilled.safetensors").read_bytes() == (
        theirs / "distilled.safetensors"
    ).read_bytes()
    assert read_rows(ours / "metrics.jsonl") == read_rows(theirs / "metrics.jsonl")


@every
def test_the_run_says_its_method_and_is_shown(name, tmp_path_factory):
    folder, done = call_once(tmp_path_factory, f"method-{name}", "distill", *flags(name, "run"))
    config = json.loads((folder / "run" / "config.json").read_text())["config"]
    assert config["method"] == name
    title = read_distilled(folder / "run" / "distilled.safetensors").origin["method"]
    assert title in done.stdout
    page = (folder / "run" / "report.html").read_text()
    assert title in page
    for metric in made(name).metrics:
        if metric.name == "loss":
            assert metric.label[1:] in page
    again = call(folder, "evaluate", "run", "--eval-epochs", "5", "--out", "again")
    assert again.returncode == 0, again.stderr


@every
def test_the_run_leaves_pictures_frames_and_exports(name, tmp_path_factory, tmp_path):
    folder, _ = call_once(tmp_path_factory, f"method-{name}", "distill", *flags(name, "run"))
    place = folder / "run"
    for picture in ("distilled.png", "curves.png"):
        assert (place / picture).stat().st_size > 10_000
    steps = setting_steps(name)
    frames = {path.stem for path in (place / "history").iterdir()}
    assert {"000000", f"{steps:06d}", "real"} <= frames
    _, *rows = read_rows(place / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    for metric in made(name).metrics:
        values = [row.get(metric.name, False) for row in rows]  # Truth values stand where true.
        values = [list(one.values()) if isinstance(one, dict) else one for one in values]
        assert np.isfinite(values).all()
    assert all("loss" in row for row in rows)
    done = call(tmp_path, "export", str(place), "--formats", "npz", "--out", "exported")
    assert done.returncode == 0, done.stderr
    (exported,) = (tmp_path / "exported").rglob("*.npz")
    with np.load(exported) as arrays:
        assert len(arrays["labels"]) == 10


@every
def test_a_sweep_over_its_rate_and_what_that_takes(name, tmp_path):
    arguments = [*flags(name, "swept"), *shlex.split(FEW), "--sweep", "pixel-rate=0.01,1"]
    dry = call(tmp_path, "distill", *arguments, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "Memory" in dry.stdout
    assert "distil" in dry.stdout[dry.stdout.index("Time:") :]
    assert not (tmp_path / "swept").exists()
    done = call(tmp_path, "distill", *arguments)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "swept" / "result.json").read_text())["rows"]
    assert {row["value"] for row in rows} == {"0.01", "1"}
    sets = [
        read_distilled(tmp_path / "swept" / f"pixel-rate-{rate}" / "distilled.safetensors")
        for rate in ("0.01", "1")
    ]
    assert np.any(sets[0].images != sets[1].images)


def test_two_methods_are_shown_beside_one_another(tmp_path_factory, tmp_path):
    runs = []
    for name in ("ddpp", "dm"):
        folder, _ = call_once(tmp_path_factory, f"method-{name}", "distill", *flags(name, "run"))
        runs.append(str(folder / "run"))
    done = call(tmp_path, "report", *runs, "--out", "both.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "both.html").read_text()
    for words in ("DDPP (threshold 0.1)", "DM", "quared distance of the class means"):
        assert words in page
    assert "atching loss (equation 8)" in page


def test_several_methods_are_one_table_and_one_page(tmp_path):
    arguments = shlex.split(f"{FLAGS} --methods dm,dsa --steps 4 --eval-every 2 --out both")
    done = call(tmp_path, "distill", *arguments)
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.rindex("trained on") :]
    assert [table.count(name) for name in ("random real images", "DM", "DSA")] == [1, 1, 1]
    second = done.stdout[done.stdout.index("DSA from real images") :]
    assert "evaluate random real images" in done.stdout.removesuffix(second)
    assert "evaluate random real images" not in second
    page = (tmp_path / "both" / "comparison.html").read_text()
    assert all(words in page for words in ("DM", "DSA", "random real images"))
    rows = {
        name: json.loads((tmp_path / "both" / name / "result.json").read_text())["rows"]
        for name in ("dm", "dsa")
    }
    assert {name: [row["method"] for row in found] for name, found in rows.items()} == {
        "dm": ["random real images", "DM"],
        "dsa": ["random real images", "DSA"],
    }
    starts = [
        read_frame(tmp_path / "both" / name / "history" / "000000.safetensors")[0]
        for name in ("dm", "dsa")
    ]
    np.testing.assert_array_equal(*starts)
    again = call(tmp_path, "distill", *arguments)
    assert again.stdout.count("is complete; its results") == 2
    # A run is the same whether it is made beside others or alone.
    alone = shlex.split(f"{FLAGS} --method dsa --steps 4 --eval-every 2 --out both/dsa")
    assert "is complete; its results" in call(tmp_path, "distill", *alone).stdout


def test_a_method_that_cannot_be_run_leaves_the_others(tmp_path):
    """The second folder is somebody else's, and that is found out before the first begins."""
    (tmp_path / "both" / "dsa").mkdir(parents=True)
    (tmp_path / "both" / "dsa" / "thesis.txt").write_text("years of work")
    arguments = shlex.split(f"{FLAGS} --methods dm,dsa --steps 4 --eval-every 2 --out both")
    done = call(tmp_path, "distill", *arguments)
    assert done.returncode == 2
    assert not (tmp_path / "both" / "dm").exists()
    assert (tmp_path / "both" / "dsa" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--methods dm,dn", "--methods names 'dn'; wanted one of"),
        ("--methods dm,dm", "names one twice"),
        ("--methods dm,dsa --method dc", "--method and --methods are both given"),
        ("--methods dm,dsa --updates 3", "for dm: Unrecognized options: --updates (of dc, dsa)"),
        ("--methods dm,dsa --sweep seed=0,1", "--sweep takes a single method"),
        ("--methods", "--methods names ''"),
        ("--method dc --siamese all", "--method dc augments nothing; --method dsa is"),
        ("--method dsa --siamese none", "--method dsa augments by nothing"),
        ("--method dsa --augment none", "--method dsa augments by nothing"),
        ("--method cafe --siamese flip,flip", "each once, or all, none or augment"),
        ("--method kip --image-size 112 --depth 5", "give a lower --depth, or --image-size 32"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(arguments, words, tmp_path):
    done = call(tmp_path, "distill", *shlex.split(arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_learned_labels_go_through_every_stage(tmp_path):
    """Probabilities in the set, its page, its exports and its evaluation."""
    arguments = shlex.split(f"{FLAGS} --method kip --learn-labels --real-batch 2 --steps 4")
    done = call(tmp_path, "distill", *arguments, "--eval-every", "2", "--out", "run")
    assert done.returncode == 0, done.stderr
    small = read_distilled(tmp_path / "run" / "distilled.safetensors")
    assert small.labels.shape == (10, 10)
    np.testing.assert_allclose(small.labels.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(small.hard_labels, np.arange(10))
    assert "KIP (labels learned) by its kernel" in (tmp_path / "run" / "report.html").read_text()
    done = call(tmp_path, "export", "run", "--out", "exported")
    assert done.returncode == 0, done.stderr
    assert "png is left out: the labels of this set are probabilities" in done.stderr + done.stdout
    with np.load(tmp_path / "exported" / "distilled.npz") as file:
        np.testing.assert_array_equal(file["labels"], small.labels)
    done = call(
        tmp_path, "evaluate", "exported/distilled.npz", "--eval-epochs", "5", "--width", "8"
    )
    assert done.returncode == 0, done.stderr
    done = call(tmp_path, "export", "run", "--formats", "png", "--out", "pictures")
    assert done.returncode == 2
    assert "png and mtt have no place; give others by --formats" in done.stderr
