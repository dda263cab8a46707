"""Pages of runs: what they say, and that a browser shows them without errors."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from processes import call, command
from test_commands import QUICK, finished, invoke  # noqa: F401

from ddpp_jax import report as page
from ddpp_jax.distill.frames import FORMAT
from ddpp_jax.errors import InputError
from ddpp_jax.sets import read_distilled, write_distilled
from ddpp_jax.storage import read_rows, write_json, write_rows, write_tensors

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SECTIONS = ("accuracy", "images", "curves", "maps", "classes", "cost", "repeat")


class Parsed(HTMLParser):
    """Elements by their id, all attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(finished):  # noqa: F811
    return finished[0] / "run" / "report.html"


def test_the_page_of_a_run_says_all_of_it(finished, report):  # noqa: F811
    folder, done = finished
    text = report.read_text()
    parsed = Parsed(text)
    for section in SECTIONS:
        assert section in parsed.ids
    assert len(set(parsed.ids)) == len(parsed.ids)
    # Nothing is fetched: links lead into the page or are data.
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    words = " ".join(" ".join(parsed.words).split())
    result = json.loads((folder / "run" / "result.json").read_text())
    for row in result["rows"]:
        assert row["method"] in words
        assert f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" in words
    assert "python -m ddpp_jax.distill --augment crop --width 8" in words
    assert "Conv3x3_0/kernel" in words
    assert "digits: 1,442 training and 355 test images, 8x8x1 pixels, 10 classes." in words
    assert "distillation.threshold 0.1" in words
    assert "open its report.html" in done.stdout
    for stage in ("teachers", "distil", "evaluate random real images"):
        assert stage in words


def test_frames_show_how_the_images_came_about(finished, report):  # noqa: F811
    folder, _ = finished
    text = report.read_text()
    found = re.findall(r'data-steps="(.*?)" data-sheet="(.*?)"', text)
    assert len(found) == 2  # DDPP and MTT.
    steps = json.loads(found[0][0])
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 120)
    pictures = re.findall(rf"\.{found[0][1]}-\d+ {{ background-image: url\((data:[^)]*)\)", text)
    assert len(pictures) == len(steps)
    assert len(set(pictures)) > 5
    kept = sorted(path.stem for path in (folder / "run" / "history").glob("*.safetensors"))
    assert kept == [f"{step:06d}" for step in steps] + ["real"]


def test_a_page_is_built_again_from_the_files_alone(finished, report, tmp_path):  # noqa: F811
    folder, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder / "run", copy)
    (copy / "report.html").unlink()
    done = call(tmp_path, "report", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["run/report.html"]
    again, first = ((place / "report.html").read_text() for place in (copy, folder / "run"))
    assert again == first


def test_a_run_that_is_not_finished_has_a_page(finished, tmp_path):  # noqa: F811
    folder, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder / "run", copy)
    for name in ("result.json", "distilled.safetensors"):
        (copy / name).unlink()
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:51]))
    text = page.write_report(copy).read_text()
    assert "This run is not finished. DDPP (threshold 0.1): 50 steps are done." in text
    assert "MTT (no pruning): 120 steps are done." in text


def test_a_page_is_small_however_many_classes_there_are(tmp_path):
    """Each picture is in it once, not with every class."""
    count, history = 100, tmp_path / "history"
    history.mkdir()
    noise = np.random.default_rng(0).uniform(size=(count, 16, 16, 3)).astype(np.float16)
    tensors = {"pixels": noise, "labels": np.arange(count, dtype=np.int32)}
    for step in ("000000", "000005", "000010", "real"):
        write_tensors(history / f"{step}.safetensors", tensors, {"name": step}, kind=FORMAT)
    write_json(tmp_path / "config.json", {"config": {"data": {"dataset": "many"}}})
    write_rows(tmp_path / "metrics.jsonl", [{"step": 0}])
    text = page.write_report(tmp_path).read_text()
    assert len(text) < 4 * (1.4 * noise.size + 50_000)


def test_names_are_shown_as_they_are(finished, tmp_path):  # noqa: F811
    """Nothing in a name is a formula, a hidden label or a tag."""
    folder, _ = finished
    copy = tmp_path / "_old$_$"
    shutil.copytree(folder / "run", copy)
    result = json.loads((copy / "result.json").read_text())
    result["class_names"][3] = "$_$ <b>"
    result["rows"][0]["method"] = r"my$\set$"
    write_json(copy / "result.json", result)
    other = tmp_path / "other"
    shutil.copytree(folder / "run", other)
    text = page.write_report(copy).read_text()
    assert "$_$ &lt;b&gt;" in text
    assert "$_$ <b>" not in text
    text = page.write_comparison(tmp_path / "comparison.html", [copy, other]).read_text()
    assert "_old$_$: DDPP (threshold 0.1)" in text


def become(run, change):
    """Make a run folder that of other settings; its frames and metrics are left out."""
    for name in ("config.json", ".config.json", "result.json"):
        values = json.loads((run / name).read_text())
        change(values["config"])
        for row in values.get("rows", ()):
            row |= {"seed": values["config"]["seed"]} if "seed" in row else {}
        write_json(run / name, values)
    for path in run.rglob("distilled*.safetensors"):
        shutil.move(path, path.with_suffix(".kept"))
        apart = run.parent / "apart.safetensors"
        shutil.copy(path.with_suffix(".kept"), apart)
        small = read_distilled(apart)
        change(small.origin["settings"])
        write_distilled(path, small)
        path.with_suffix(".kept").unlink()
        apart.unlink()
    for part in (run, run / "mtt"):
        shutil.rmtree(part / "history")
        (part / "metrics.jsonl").unlink()


def test_seeds_are_compared_only_where_all_else_is_equal(finished, tmp_path):  # noqa: F811
    folder, _ = finished
    runs = [tmp_path / "0", tmp_path / "1"]
    for seed, run in enumerate(runs):
        shutil.copytree(folder / "run", run)
        become(run, lambda config, seed=seed: config.update(seed=seed))
    path = tmp_path / "comparison.html"
    assert "2 seeds" in page.write_comparison(path, runs).read_text()
    for part in (runs[1], runs[1] / "mtt"):
        (part / "history").mkdir()
        (part / "metrics.jsonl").write_text("")
    become(runs[1], lambda config: config["distillation"].update(pixel_rate=77.0))
    assert "2 seeds" not in page.write_comparison(path, runs).read_text()


def test_settings_that_are_those_of_no_run_are_refused(tmp_path):
    for identity in ({}, {"config": {}}, {"config": []}, {"config": {"data": {"dataset": 3}}}):
        write_json(tmp_path / "config.json", identity)
        with pytest.raises(InputError, match=r"config.json is not that of a run"):
            page.write_report(tmp_path)


def test_a_page_older_than_the_results_is_built_again(finished, tmp_path):  # noqa: F811
    copy = tmp_path / "run"
    shutil.copytree(finished[0] / "run", copy)
    (copy / "report.html").write_text("old")
    os.utime(copy / "report.html", (1, 1))
    assert page.write_report(copy, only_stale=True).read_text() != "old"
    (copy / "report.html").write_text("new")
    assert page.write_report(copy, only_stale=True).read_text() == "new"


def test_several_runs_beside_one_another(finished, tmp_path):  # noqa: F811
    folder, _ = finished
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(folder / "run", one)
    shutil.copytree(folder / "run", two)
    become(two, lambda config: config["distillation"].update(pixel_rate=77.0))
    done = call(tmp_path, "report", "one", "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["one/report.html", "two/report.html", "comparison.html"]
    text = (tmp_path / "comparison.html").read_text()
    words = " ".join(" ".join(Parsed(text).words).split())
    assert "distillation.pixel_rate 10.0 77.0" in words
    assert "distillation.steps" not in words  # Equal in both.
    assert "one: DDPP (threshold 0.1)" in words
    # Once more it may be replaced, but not what is another's.
    assert call(tmp_path, "report", "one", "two").returncode == 0
    (tmp_path / "mine.html").write_text("mine")
    done = call(tmp_path, "report", "one", "two", "--out", "mine.html")
    assert done.returncode == 2
    assert "mine.html is there and is no comparison" in done.stderr
    assert (tmp_path / "mine.html").read_text() == "mine"


BAD = [
    ("", "name one or more run folders"),
    ("nowhere", "nowhere is no run folder; it has no config.json"),
    ("a --follow a", "name one or more run folders, or one after --follow"),
    ("a a", "a run is named twice"),
    ("a --out b.html", "--out is for the comparison of several runs"),
    ("--follow nowhere", "there is no folder nowhere"),
    ("--follow .", "no process works in ., and it has no progress.jsonl"),
]


@pytest.mark.parametrize(("flags", "words"), BAD)
def test_bad_pages_are_one_line(invoke, flags, words):  # noqa: F811
    status, shown, error = invoke("report", flags)
    assert (status, shown) == (2, "")
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_run_is_followed_from_another_process(tmp_path):
    arguments, options = command(tmp_path, "distill", *QUICK, "--out", "run")
    worker = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, **options)
    try:
        while not (tmp_path / "run" / "progress.jsonl").exists():
            assert worker.poll() is None
        done = call(tmp_path, "report", "--follow", "run")
    finally:
        assert worker.wait(timeout=300) == 0
    assert done.returncode == 0, done.stderr
    for words in (
        "python -m ddpp_jax.distill",
        "teachers: 8/8 epochs",
        "120/120 steps",
        "finished",
    ):
        assert words in done.stdout
    # What is over is told once more, and the process ends.
    again = call(tmp_path, "report", "--follow", "run")
    assert again.stdout.count("finished after") == 1
    assert again.stdout.count("120/120 steps") == 1
    assert "steps/s" not in again.stdout  # What is long past has no pace.
    events = [row["event"] for row in read_rows(tmp_path / "run" / "progress.jsonl")]
    assert (events[0], events[-1]) == ("start", "finish")


def browse(path, *flags):
    """The page as the browser has it once its scripts have run, and what it complained of."""
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            *flags,
            path.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, complaints


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_the_page_without_errors(report, tmp_path, width):
    document, complaints = browse(report, "--dump-dom", f"--window-size={width},900")
    assert complaints == []
    assert '<html lang="en" class="live">' in document
    assert ">step 120</output>" in document  # The script wrote it.
    picture = tmp_path / "page.png"
    _, complaints = browse(report, f"--screenshot={picture}", f"--window-size={width},900")
    assert complaints == []
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"), float)
    assert pixels.shape == (900, width)
    assert pixels.std() > 10  # It is not blank.


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_would_tell_of_an_error(report, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace("show();\n}", "show();\n  nonsense();\n}"))
    _, complaints = browse(broken, "--dump-dom")
    assert any("nonsense is not defined" in line for line in complaints)
