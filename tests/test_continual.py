"""Classes that arrive in steps: orders, memories, figures against plain loops; the command."""

import ast
import dataclasses
import itertools
import json
import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import call, call_once, start
from test_commands import invoke, untried  # noqa: F401
from test_resume import kill, wait_for

import ddpp_jax
from ddpp_jax import continual, evaluate
from ddpp_jax.cli.condensing import room_of
from ddpp_jax.cli.continual import flags_for
from ddpp_jax.configs import DataConfig, EvaluateConfig, ModelConfig
from ddpp_jax.data import (
    apply,
    fit_transform,
    load_raw,
    normalised,
    of_classes,
    random_per_class,
    raw_dataset,
)
from ddpp_jax.errors import InputError
from ddpp_jax.methods import RealImages, Room, pool_like
from ddpp_jax.methods.real import draw_places
from ddpp_jax.networks import make_model, make_network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet, read_distilled

ROOT = Path(ddpp_jax.__file__).parent
SCHEDULE = EvaluateConfig(networks=2, eval_epochs=3)
TINY = ModelConfig(width=4, depth=1)


def patterns(per_class=(9, 7, 8, 10, 7), tests=3):
    """Classes of 6x6 images, each bright in another row."""
    classes = len(per_class)
    generator = np.random.default_rng(3)

    def images(labels):
        found = generator.integers(0, 120, (len(labels), 6, 6, 1), dtype=np.uint8)
        found[np.arange(len(labels)), labels] += 120
        return found

    y_train = generator.permutation(np.repeat(np.arange(classes), per_class))
    y_test = np.repeat(np.arange(classes), tests)
    return {
        "x_train": images(y_train),
        "y_train": y_train,
        "x_test": images(y_test),
        "y_test": y_test,
    }


def whole():
    return raw_dataset(name="rows", class_names=tuple("abcde"), **patterns())


# Orders and steps


def test_orders_are_the_published_permutations():
    assert continual.class_order(0, 10) == (2, 8, 4, 9, 1, 6, 7, 3, 0, 5)
    for seed in range(5):
        generator = np.random.RandomState(seed)
        assert continual.class_order(seed, 100) == tuple(generator.permutation(100))


@given(st.integers(1, 40), st.data())
def test_steps_are_as_even_as_can_be(classes, data):
    steps = data.draw(st.integers(1, classes))
    order = continual.class_order(7, classes)
    parts = continual.split_evenly(order, steps)
    assert tuple(itertools.chain(*parts)) == order
    sizes = [len(part) for part in parts]
    assert len(sizes) == steps
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("steps", [0, 6])
def test_more_steps_than_classes_are_refused(steps):
    with pytest.raises(InputError, match=f"--class-steps is {steps} for 5 classes; wanted 1 to 5"):
        continual.split_evenly(range(5), steps)


def test_each_task_has_seen_all_before_it():
    tasks, seen = continual.arrivals(1, 7, 3), []
    for number, task in enumerate(tasks):
        seen += task.classes
        assert (task.order, task.number, task.seen) == (1, number, tuple(seen))
    assert [len(task.classes) for task in tasks] == [3, 2, 2]
    assert sorted(seen) == list(range(7))


def test_every_step_of_every_order_and_seed_draws_for_itself():
    tasks = [task for order in range(3) for task in continual.arrivals(order, 10, 5)]
    found = [continual.draw_seed(seed, task) for seed in range(2) for task in tasks]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**32 for seed in found)


# Some classes of a dataset


@pytest.mark.parametrize("classes", [(3,), (4, 0), (2, 1, 3)])
def test_some_classes_are_picked_image_by_image(classes):
    raw = dataclasses.replace(whole(), x_held=whole().x_train[:6], y_held=whole().y_train[:6])
    found = of_classes(raw, classes)
    for part in ("train", "test", "held"):
        images, labels = getattr(raw, f"x_{part}"), getattr(raw, f"y_{part}")
        kept = [
            (image, classes.index(label))
            for image, label in zip(images, labels, strict=True)
            if label in classes
        ]
        np.testing.assert_array_equal(getattr(found, f"x_{part}"), [image for image, _ in kept])
        assert getattr(found, f"y_{part}").tolist() == [label for _, label in kept]
        assert getattr(found, f"y_{part}").dtype == np.int32
    assert found.class_names == tuple("abcde"[label] for label in classes)


def test_some_classes_are_told_apart_by_their_fingerprint():
    raw = whole()
    prints = {of_classes(raw, classes).fingerprint for classes in [(0, 1), (1, 0), (0, 2)]}
    assert len(prints | {raw.fingerprint}) == 4
    seen = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    assert of_classes(seen, (0, 1)).fingerprint == of_classes(raw, (0, 1)).fingerprint
    some = of_classes(seen, (1, 4))
    np.testing.assert_array_equal(
        some.x_test, apply(seen.transform, raw.x_test)[np.isin(raw.y_test, (1, 4))]
    )


@pytest.mark.parametrize("classes", [(), (5,), (-1, 0), (2, 2)])
def test_classes_that_are_none_are_refused(classes):
    with pytest.raises(InputError, match="wanted some of 0 to 4, each once"):
        of_classes(whole(), classes)


def test_pools_of_one_size_hold_the_images_of_any_classes():
    raw = normalised(whole(), fit_transform(whole(), zca=False, cache_dir=None))
    room = room_of(raw, 2)
    assert room == Room(19, 10)
    shapes = set()
    for classes in itertools.permutations(range(5), 2):
        some = of_classes(raw, classes)
        pool = RealImages(some.x_train, some.y_train, room).take(1, rows=1)
        like = pool_like((6, 6, 1), some.y_train, room)
        assert [leaf.shape for leaf in pool] == [leaf.shape for leaf in like]
        shapes.add(tuple(leaf.shape for leaf in pool))
        places = np.asarray(draw_places(jax.random.key(1), pool, 7))
        for label in range(2):
            assert len(set(places[label])) == 7
            assert set(some.y_train[places[label]]) == {label}
        np.testing.assert_array_equal(pool.images[: len(some.x_train)], some.x_train)
    assert len(shapes) == 1


# The memory


def small_set(count, classes, seed=0, alpha=0.1, soft=False):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    if soft:
        rows = generator.uniform(0.1, 0.2, (count, classes)) + np.eye(classes)[labels]
        labels = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    images = generator.normal(size=(count, 6, 6, 1)).astype(np.float32)
    return DistilledSet(images, labels, alpha, pixels=images + 1)


@pytest.mark.parametrize("soft", [(False, False), (True, True), (False, True)])
def test_the_memory_is_all_sets_with_the_labels_of_the_whole_data(soft):
    tasks = continual.arrivals(2, 5, 2)
    names, sizes, rates = tuple("abcde"), (6, 2), (0.1, 0.5)
    sets = [
        small_set(size, len(task.classes), task.number, rate, own)
        for size, task, rate, own in zip(sizes, tasks, rates, soft, strict=True)
    ]
    memory = continual.joined(
        [
            continual.labelled_as_whole(small, task, names)
            for small, task in zip(sets, tasks, strict=True)
        ]
    )
    images, labels = [], []
    for small, task in zip(sets, tasks, strict=True):
        for image, label in zip(small.images, small.labels, strict=True):
            images.append(image)
            row = np.zeros(5)
            if np.ndim(label) == 0:
                row[task.classes[label]] = 1
            else:
                for place, share in enumerate(label):
                    row[task.classes[place]] = share
            labels.append(row if any(soft) else row.argmax())
    np.testing.assert_array_equal(memory.images, images)
    np.testing.assert_array_equal(memory.pixels, np.asarray(images, np.float32) + 1)
    np.testing.assert_allclose(memory.labels, labels)
    assert memory.labels.dtype == (np.float32 if any(soft) else np.int32)
    assert memory.alpha == pytest.approx((6 * 0.1 + 2 * 0.5) / 8)
    assert memory.class_names == names


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 1, 2]), "labels are 0 to 2; wanted 0 to 1"),
        (np.array([0, 1]), "3 images have 2 labels; wanted one for each"),
        (np.full((3, 5), 0.2, np.float32), "labels are of 5 classes; wanted 2"),
    ],
)
def test_labels_beyond_the_step_are_refused(labels, words):
    task = continual.arrivals(0, 5, 3)[0]
    small = small_set(3, 2)._replace(labels=labels)
    with pytest.raises(InputError, match=f"step 1 of order 0: {words}"):
        continual.labelled_as_whole(small, task, tuple("abcde"))


@pytest.mark.parametrize("soft", [False, True])
def test_of_a_given_set_the_images_of_a_steps_classes_are_taken(soft):
    task = continual.Task(0, 0, (3, 1), (3, 1))
    small = small_set(10, 5, soft=soft)._replace(class_names=tuple("abcde"))
    found = continual.taken(small, task)
    places = [i for i, label in enumerate(small.hard_labels) if label in (3, 1)]
    np.testing.assert_array_equal(found.images, small.images[places])
    np.testing.assert_array_equal(found.pixels, small.pixels[places])
    own = [(3, 1).index(small.hard_labels[i]) for i in places]
    assert found.hard_labels.tolist() == own
    if soft:
        rows = [[small.labels[i][3], small.labels[i][1]] for i in places]
        np.testing.assert_allclose(found.labels, [np.divide(r, sum(r)) for r in rows], rtol=1e-6)
    assert found.class_names == ("d", "b")
    lacking = small._replace(labels=np.zeros(10, np.int64))
    with pytest.raises(InputError, match="no image of e, which arrive in step 1"):
        continual.taken(lacking, continual.Task(0, 0, (4,), (4,)))


# The protocol


def test_a_method_sees_the_classes_of_its_step_alone_and_tests_are_of_those_seen():
    raw = whole()
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    asked, own_labels = [], raw.y_train

    def condense(task, own):
        assert own.class_names == tuple("abcde"[label] for label in task.classes)
        there = [
            image for image, y in zip(dataset.x_train, own_labels, strict=True) if y in task.classes
        ]
        np.testing.assert_array_equal(own.x_train, there)
        images, labels = random_per_class(jax.random.key(task.number), own, 2)
        return DistilledSet(images, labels, 0.1)

    def judge(task, memory, seen):
        asked.append(task.seen)
        assert memory.labels.tolist() == [label for label in task.seen for _ in range(2)]
        x_test, y_test = seen
        there = [i for i, y in enumerate(raw.y_test) if y in task.seen]
        np.testing.assert_array_equal(x_test, dataset.x_test[there])
        np.testing.assert_array_equal(y_test, raw.y_test[there])
        return evaluate.Evaluation(np.array([0.5]), np.zeros((5, 5), np.int64))

    tasks = continual.arrivals(4, 5, 3)
    learned = list(continual.run(tasks, dataset, condense, judge))
    assert asked == [task.seen for task in tasks]
    assert [len(one.memory.labels) for one in learned] == [4, 8, 10]


def test_learning_is_the_evaluation_of_the_memory(monkeypatch):
    raw = whole()
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))

    def condense(task, own):
        return DistilledSet(*random_per_class(jax.random.key(task.number), own, 2), 0.1)

    network = make_network(
        make_model("convnet", TINY, classes=5, image_size=6, channels=1), (6, 6, 1)
    )
    made = []

    def make(model, shape, **how):  # One that is compiled already.
        made.append((model, shape, how))
        return network

    monkeypatch.setattr(continual.protocol, "make_network", make)
    settings = {"config": SCHEDULE, "model": TINY, "operations": ("flip",)}
    learned = list(continual.learn(dataset, condense, steps=2, order=1, seed=3, **settings))
    assert [(model.classes, shape) for model, shape, _ in made] == [(5, (6, 6, 1))]
    last = learned[-1]
    found = evaluate.run(
        continual.evaluation_key(3, last.task),
        evaluate.Procedure(SCHEDULE, ("flip",), 5),
        network,
        last.memory,
        {"test": (dataset.x_test, dataset.y_test)},
        Report(None),
    )["test"]
    np.testing.assert_array_equal(last.evaluation.accuracies, found.accuracies)
    np.testing.assert_array_equal(last.evaluation.confusion, found.confusion)


def test_the_example_of_the_room(monkeypatch, capsys):
    text = (ROOT / "continual" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    small = {"config": SCHEDULE, "model": TINY, "operations": ("flip",)}
    monkeypatch.setattr(continual, "learn", partial(continual.learn, **small))
    exec(compile(code, "README.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["2", "4", "6", "8", "10"]
    assert all(0 <= float(line.split()[1]) <= 1 for line in shown)


# The figures


def test_figures_are_those_of_plain_loops():
    generator = np.random.default_rng(0)
    found = {name: generator.uniform(size=(3, 4, 2)) for name in ("a", "b", "c")}
    summary = continual.summarise(found)
    for name, every in found.items():
        own = summary["methods"][name]
        for step in range(4):
            means = [(every[o, step, 0] + every[o, step, 1]) / 2 for o in range(3)]
            mean = sum(means) / 3
            deviation = (sum((m - mean) ** 2 for m in means) / 2) ** 0.5
            figure = own["steps"][step]
            assert figure["mean"] == pytest.approx(mean)
            assert figure["over_orders"] == pytest.approx(deviation)
            assert figure["error"] == pytest.approx(deviation / 3**0.5)
            assert figure["std"] == pytest.approx(every[:, step].std())
        averages = [np.mean([every[o, s].mean() for s in range(4)]) for o in range(3)]
        assert own["average"]["mean"] == pytest.approx(np.mean(averages))
        assert own["average"]["over_orders"] == pytest.approx(np.std(averages, ddof=1))
    pairs = {(one["method"], one["less"], one["quantity"]): one for one in summary["comparisons"]}
    assert len(pairs) == 6
    for (name, less, quantity), one in pairs.items():
        figures = [
            (every.mean(axis=(1, 2)) if "average" in quantity else every[:, 3].mean(axis=1))
            for every in (found[name], found[less])
        ]
        differences = figures[0] - figures[1]
        assert one["mean"] == pytest.approx(differences.mean())
        assert one["error"] == pytest.approx(differences.std(ddof=1) / 3**0.5)
        assert one["seeds"] == 3


def test_of_a_single_order_no_spread_over_orders_is_told():
    summary = continual.summarise({"a": np.full((1, 2, 3), 0.5), "b": np.full((1, 2, 3), 0.6)})
    assert summary["comparisons"] == []
    assert summary["methods"]["a"]["steps"][0]["over_orders"] is None
    assert summary["methods"]["a"]["average"]["over_networks"] == 0
    json.dumps(summary, allow_nan=False)


# The command

FLAGS = shlex.split(
    "--dataset rows.npz --augment flip --methods random,herding,dm,ddpp --class-steps 2 --orders 2 "
    "--width 4 --depth 1 --teachers 1 --epochs 3 --student-steps 2 --max-start-epoch 1 --steps 6 "
    "--networks 2 --eval-epochs 8 --ipc 2 --out run"
)
TITLES = ("random real images", "herding", "DM", "DDPP (threshold 0.1)")


def write_rows(folder, *per_class):
    names = list("abcdefgh"[: len(per_class)])
    np.savez(folder / "rows.npz", **patterns(per_class), class_names=names)


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, 8, 8, 8, 8)
    flags = [str(folder / "rows.npz") if word == "rows.npz" else word for word in FLAGS]
    return *call_once(tmp_path_factory, "continual", "continual", *flags), flags


def test_the_run_shows_its_table_and_leaves_its_files(learned):
    folder, done, _ = learned
    run = folder / "run"
    result = json.loads((run / "result.json").read_text())
    found = result["continual"]
    assert found["seen"] == [2, 4]
    assert found["orders"] == [
        [list(task.classes) for task in continual.arrivals(order, 4, 2)] for order in range(2)
    ]
    assert tuple(found["methods"]) == TITLES
    for title, row in zip(TITLES, result["rows"], strict=True):
        assert title in done.stdout
        every = np.asarray(found["methods"][title]["accuracies"])
        assert every.shape == (2, 2, 2)
        assert found["images"][title] == [[4, 8]] * 2
        assert (row["method"], row["images"], row["networks"]) == (title, 8, 4)
        assert row["mean"] == pytest.approx(every[:, 1].mean())
    again = continual.summarise(
        {name: np.asarray(own["accuracies"]) for name, own in found["methods"].items()}
    )
    assert again == {name: found[name] for name in again}
    assert len(found["comparisons"]) == 12
    table = done.stdout.split("Accuracy over the classes seen, %")[1]
    for place, line in ((0, "2"), (1, "4"), (None, "average")):
        curves = found["methods"].values()
        own = [one["average"] if place is None else one["steps"][place] for one in curves]
        words = [f"{100 * one['mean']:.1f} ± {100 * one['over_orders']:.1f}" for one in own]
        (shown,) = re.findall(rf"│ +{line} │(.*)│", table)
        assert [word.strip() for word in shown.split("│")] == words
    assert "points (standard error, 2 orders; 95 % interval" in done.stdout
    assert "classes that are yet to arrive too, as published" in done.stdout
    assert (run / "continual.png").stat().st_size > 1000


def test_each_step_is_a_set_of_its_own_classes_alone(learned):
    folder, _, flags = learned
    raw = load_raw(DataConfig(dataset=flags[1]))
    transform = fit_transform(raw, zca=False, cache_dir=None)
    for name in ("random", "herding", "dm", "ddpp"):
        for task in continual.arrivals(1, 4, 2):
            small = read_distilled(
                folder / "run" / f"{name}-order1-step{task.number + 1}" / "distilled.safetensors"
            )
            assert small.class_names == tuple("abcde"[label] for label in task.classes)
            assert np.bincount(small.labels).tolist() == [2] * len(task.classes)
            # Normalised by numbers of all classes.
            np.testing.assert_array_equal(small.transform["mean"], transform.mean)
            if name in ("random", "herding"):
                for image, label in zip(small.pixels, small.labels, strict=True):
                    same = (raw.x_train / np.float32(255) == image).all(axis=(1, 2, 3))
                    assert task.classes[label] in raw.y_train[same]


def judged(raw, task, images, labels, rate):
    """What the networks of a step make of the test images, trained on a memory."""
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    there = np.isin(raw.y_test, task.seen)
    network = make_network(
        make_model("convnet", TINY, classes=4, image_size=6, channels=1), (6, 6, 1)
    )
    return evaluate.run(
        continual.evaluation_key(0, task),
        evaluate.Procedure(EvaluateConfig(networks=2, eval_epochs=8), ("flip",), 4),
        network,
        DistilledSet(np.asarray(images), np.asarray(labels, np.int32), rate),
        {"test": (dataset.x_test[there], raw.y_test[there])},
        Report(None),
    )["test"].accuracies


def test_what_the_table_says_is_the_evaluation_of_the_joined_sets(learned):
    folder, _, flags = learned
    raw = load_raw(DataConfig(dataset=flags[1]))
    found = json.loads((folder / "run" / "result.json").read_text())["continual"]
    tasks, images, labels, rates = continual.arrivals(1, 4, 2), [], [], []
    for task in tasks:
        part = folder / "run" / f"dm-order1-step{task.number + 1}"
        small = read_distilled(part / "distilled.safetensors")
        rates.append(small.alpha)
        for image, label in zip(small.images, small.labels, strict=True):
            images.append(image)
            labels.append(task.classes[label])
    accuracies = judged(raw, tasks[1], images, labels, float(np.mean(rates)))
    np.testing.assert_allclose(found["methods"]["DM"]["accuracies"][1][1], accuracies)


def test_the_page_shows_curves_orders_and_images(learned):
    folder, _, _ = learned
    text = (folder / "run" / "report.html").read_text()
    assert "4 classes" in text
    for words in (*TITLES, "Accuracy over the classes seen", "step 2", "class_steps", "a of DM"):
        assert words in text
    for place in ("accuracy", "differences", "images", "orders", "cost", "repeat"):
        assert f'id="{place}"' in text
    result = json.loads((folder / "run" / "result.json").read_text())["continual"]
    figure = result["methods"]["DM"]["average"]
    assert f"{100 * figure['mean']:.1f} ± {100 * figure['over_orders']:.1f}" in text
    assert text.count("<svg") == 1


def test_the_same_command_again_computes_nothing_and_lost_pictures_are_drawn(learned):
    folder, done, flags = learned
    picture = folder / "run" / "continual.png"
    drawn = picture.read_bytes()
    picture.unlink()
    before = {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*") if p.is_file()}
    again = call(folder, "continual", *flags)
    assert again.returncode == 0, again.stderr
    assert "run is complete; its results:" in again.stdout
    assert done.stdout.split("Accuracy over")[1] == again.stdout.split("Accuracy over")[1]
    assert picture.read_bytes() == drawn
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_killed_and_started_again_it_ends_with_the_same_bits(learned, tmp_path):
    folder, _, flags = learned
    process = start(tmp_path, "continual", *flags)
    wait_for(tmp_path / "run" / "ddpp-order0-step2" / "metrics.jsonl", process)
    assert kill(process)
    assert not (tmp_path / "run" / "result.json").exists()
    done = call(tmp_path, "continual", *flags)
    assert done.returncode == 0, done.stderr
    sets = [sorted((place / "run").rglob("distilled.safetensors")) for place in (folder, tmp_path)]
    assert len(sets[0]) == 16
    for ours, theirs in zip(*sets, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
    results = [
        json.loads((place / "run" / "result.json").read_text()) for place in (folder, tmp_path)
    ]
    assert results[0]["continual"] == results[1]["continual"]
    names = [
        sorted(str(p.relative_to(place)) for p in (place / "run").rglob("*"))
        for place in (folder, tmp_path)
    ]
    assert names[0] == names[1]


def test_a_lost_set_of_a_step_is_made_again_and_another_command_is_refused(
    learned,
    tmp_path,
    invoke,  # noqa: F811
):
    folder, _, flags = learned
    shutil.copytree(folder / "run", tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*/distilled.safetensors")}
    (tmp_path / "run" / "random-order0-step1" / "distilled.safetensors").unlink()
    (tmp_path / "run" / "result.json").unlink()
    code, _, error = invoke("continual", shlex.join([*flags, "--steps", "7"]))
    assert code == 2
    assert "methods.dm.steps was 6, is 7" in error
    code, _, error = invoke("continual", shlex.join(flags))
    assert code == 0, error
    assert before == {p: p.read_bytes() for p in before}
    theirs = json.loads((folder / "run" / "result.json").read_text())
    ours = json.loads((tmp_path / "run" / "result.json").read_text())
    assert ours["continual"] == theirs["continual"]


def test_given_sets_are_compared_by_the_images_of_each_steps_classes(
    learned,
    tmp_path,
    invoke,  # noqa: F811
    untried,  # noqa: F811
):
    _, _, flags = learned
    common = f"--dataset {flags[1]} --augment flip --width 4 --depth 1 --networks 2 --eval-epochs 8"
    code, _, error = invoke("select", f"{common} --method random --ipc 3 --out chosen")
    assert code == 0, error
    command = f"{common} --sets chosen --class-steps 2 --orders 2 --out run"
    code, shown, error = invoke("continual", f"{command} --dry-run")
    assert code == 0, error
    assert "0 small sets are to be made" in shown
    code, shown, error = invoke("continual", command)
    assert code == 0, error
    assert "those of each in sets that are given kept, 2 orders" in shown
    found = json.loads((tmp_path / "run" / "result.json").read_text())["continual"]
    assert found["images"] == {"chosen": [[6, 12], [6, 12]]}
    small, first = read_distilled(tmp_path / "chosen" / "distilled.safetensors"), []
    task = continual.arrivals(1, 4, 2)[0]
    for place, label in enumerate(small.labels):
        if label in task.classes:
            first.append(place)
    raw = load_raw(DataConfig(dataset=flags[1]))
    accuracies = judged(raw, task, small.images[first], small.labels[first], small.alpha)
    np.testing.assert_allclose(found["methods"]["chosen"]["accuracies"][1][0], accuracies)


def test_dry_run_says_how_much_and_starts_nothing(invoke, tmp_path, untried):  # noqa: F811
    write_rows(tmp_path, 9, 7, 8, 10, 7)
    code, shown, error = invoke("continual", shlex.join([*FLAGS, "--dry-run"]))
    assert (code, error) == (0, "")
    for words in (
        "Classes arrive in 2 steps (3+2), in 2 orders; 2 images of each are kept by random real",
        "16 small sets are to be made: random real images 4, herding 4, DM 4, DDPP (threshold 0.1)",
        "16 memories are to be trained on by 2 networks each: 32 trainings of 9 epochs; 4 teachers",
        "free: enough",
        # 4 teachers x 3 epochs x 1 s, 4 steps x 6 x 0.4 s; memories of 3/5 and of all, 3 s.
        "  teachers: 12 s\n",
        "  distil DM: 10 s\n",
        "  evaluate herding: 10 s\n",
    ):
        assert words in shown
    assert [p.name for p in tmp_path.iterdir()] == ["rows.npz"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--methods random,dx", "--methods names 'dx'; wanted some of random, herding"),
        ("--methods dm,dm", "--methods dm,dm names one twice"),
        ("--methods none", "nothing to compare; give --methods"),
        ("--method dm", "--method is of distill and select; give --methods"),
        ("--methods random --class-steps 11", "--class-steps is 11 for 10 classes; wanted 1 to 10"),
        ("--methods random --class-steps 0", "--class-steps is 0; wanted 1 or more"),
        ("--methods random --orders 0", "--orders is 0; wanted 1 or more"),
        ("--methods random --rate 0", "--rate is 0; wanted a number above 0"),
        ("--methods random,ddpp --class-steps 10", "steps of one class, of which ddpp learns"),
        ("--methods dsa --class-steps 7", "steps of one class, of which dsa learns nothing"),
        ("--methods random --ipc 500", "fewer than --ipc 500"),
        ("--methods dm --which best-test", "--which is best-test"),
        (
            "--methods dm --threshold 0.2",
            "for dm: Unrecognized options: --threshold (of ddpp, mtt)",
        ),
        ("--methods ddpp --student-batch 3", "--student-batch 3 does not divide the 2 distilled"),
        ("--methods mtt,ddpp --threshold none", "is compared twice with these settings"),
        (
            "--methods herding --imported 5d1f03ab",
            "--imported 5d1f03ab are teachers of all classes",
        ),
        ("--sets nothing.npz", "there is no file nothing.npz"),
        ("cifar10", "there is no setting 'cifar10'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(invoke, tmp_path, flags, words):  # noqa: F811
    code, _, error = invoke("continual", flags)
    assert code == 2
    assert words.lower() in error.lower()
    assert error.startswith("python -m ddpp_jax.continual: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_flags_go_to_the_methods_that_have_them():
    flags = shlex.split(
        "digits --steps 5 --threshold 0.2 --learn-labels --no-front --siamese=all --width 8"
    )
    methods = ("dm", "ddpp", "kip")
    assert flags_for("dm", methods, flags) == shlex.split(
        "digits --steps 5 --siamese=all --width 8"
    )
    assert flags_for("ddpp", methods, flags) == shlex.split(
        "digits --steps 5 --threshold 0.2 --learn-labels --width 8"
    )
    assert flags_for("kip", methods, flags) == shlex.split(
        "digits --steps 5 --learn-labels --no-front --width 8"
    )
    # One that none of them has is left for each to refuse.
    assert "--horizon" in flags_for("dm", methods, ["--horizon", "3"])


def test_help_explains_the_flags(invoke):  # noqa: F811
    code, shown, _ = invoke("continual", "--help")
    assert code == 0
    for word in ("--class-steps", "--orders", "--methods", "--sets", "--rate", "cifar10-ipc1"):
        assert word in shown


# The room


ALLOWED = "_types errors text core configs storage networks data progress training sets evaluate"


def test_the_room_knows_no_method():
    """Methods, teachers and choices meet it in `cli` alone."""
    allowed = {*ALLOWED.split(), "results", "continual"}
    for path in (ROOT / "continual").glob("*.py"):
        if path.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.startswith("ddpp_jax"):
                assert module.split(".")[1] in allowed, f"{path.name} imports {module}"
