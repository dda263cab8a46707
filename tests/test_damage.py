"""Files of a finished run, damaged: what was written is read, or one line names the file."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from test_commands import QUICK, finished, invoke  # noqa: F401
from test_results import DISTILLED

from ddpp_jax import report as page
from ddpp_jax.configs import DIGITS, EvaluateConfig
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Evaluations, Procedure
from ddpp_jax.progress import read_metrics, read_progress
from ddpp_jax.report.read import read_run
from ddpp_jax.results import check_evaluation, read_result
from ddpp_jax.sets import write_distilled
from ddpp_jax.storage import read_rows, write_json, write_rows

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import fuzz_damage

DAMAGES = 400


@pytest.fixture
def copy(finished, tmp_path):  # noqa: F811
    """The finished run, to be damaged."""
    return Path(shutil.copytree(finished[0] / "run", tmp_path / "run"))


def flip(path, old, new):
    """Change some bytes of a file that are there."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def test_random_damage_is_never_read_as_something_else(finished, copy):  # noqa: F811
    folder = finished[0]
    name = re.search(r"runs/teachers/(\S+): ", finished[1].stdout)[1]
    store = folder / "runs" / "teachers" / name
    others = shutil.ignore_patterns("teacher-002*", "*tmp*")  # Another test may be adding them.
    shutil.copytree(store, copy.parent / "store", ignore=others)
    files = fuzz_damage.readers(copy, copy.parent / "store")
    names = {path.name for path in files}
    assert {"config.json", ".config.json", "result.json", "metrics.jsonl", "progress.jsonl"} < names
    assert {"distilled.safetensors", "000000.safetensors", "teacher-000.json"} < names
    found = fuzz_damage.try_damages(files, DAMAGES, seed=0)
    wrong = [entry for entry in found if entry[2].kind not in fuzz_damage.FINE]
    assert not wrong
    counts = Counter(entry[2].kind for entry in found)
    assert counts["refused"] > DAMAGES // 2
    assert counts["warned"] > 10


def test_the_fuzz_would_tell_of_values_that_are_read_as_others(copy):
    """Its own test: a reader that checks nothing is found out."""
    path = copy / "result.json"
    whole = json.loads(path.read_text())
    flip(path, b'"networks": 2', b'"networks": 3')
    heedless = fuzz_damage.outcome(path, lambda path, _: json.loads(path.read_text()), whole)
    assert heedless.kind == "silent"
    path.write_text("{")
    heedless = fuzz_damage.outcome(path, lambda path, _: json.loads(path.read_text()), whole)
    assert heedless.kind == "crashed"


COMMANDS = [
    ("report", "run", "result.json", b'"mean": 0.', b'"mean": 1.'),
    ("report", "run", "distilled.safetensors", b'"seed', b'"sead'),
    ("report", "run", "history/000000.safetensors", b'"pixels"', b'"pixeks"'),
    ("evaluate", "run --eval-epochs 2", "distilled.safetensors", b"[10,8,8,1]", b"[10,4,4,4]"),
    ("evaluate", "run/distilled.safetensors", "distilled.safetensors", b"set 5", b"set 6"),
    ("evaluate", "run/distilled.safetensors", "distilled.safetensors", b"ddpp-jax", b"dcpp-jax"),
    ("export", "run", "distilled.safetensors", b'"alpha"', b'"alphb"'),
    ("distill", f"{' '.join(QUICK)} --out run", "result.json", b'"std": 0', b'"std": 1'),
]


@pytest.mark.parametrize(("stage", "flags", "name", "old", "new"), COMMANDS)
def test_commands_refuse_what_is_damaged_by_name(copy, invoke, stage, flags, name, old, new):  # noqa: F811
    flip(copy / name, old, new)
    before = (copy / name).read_bytes()
    code, _, error = invoke(stage, flags)
    assert code == 2, error
    assert error.count("\n") == 1
    assert f"run/{name} is damaged" in error
    assert (copy / name).read_bytes() == before


def test_a_flipped_bit_of_the_settings_loses_no_run(copy, invoke):  # noqa: F811
    whole = (copy / "config.json").read_bytes()
    flip(copy / "config.json", b'"alpha": 0.04', b'"alpha": 0.05')
    code, shown, error = invoke("report", "run")
    assert (code, shown) == (0, "run/report.html\n")
    assert error == ("warning: run/config.json is damaged; run/.config.json is read in its place\n")
    assert read_run(copy).identity["config"]["distillation"]["alpha"] == 0.04
    # What was given is compared with the copy: another job cannot take the folder.
    other = " ".join(QUICK) + " --out run --alpha 0.05"
    code, _, error = invoke("distill", other)
    assert code == 2
    assert "holds something else (config.distillation.alpha was 0.04, is 0.05)" in error
    code, shown, error = invoke("distill", f"{' '.join(QUICK)} --out run")
    assert code == 0, error
    assert "run is complete" in shown
    assert error == "warning: run/config.json is damaged; it is restored from run/.config.json\n"
    assert (copy / "config.json").read_bytes() == whole


def test_a_damaged_row_costs_that_row_and_one_line(copy, invoke):  # noqa: F811
    flip(copy / "metrics.jsonl", b'{"step": 50,', b'{"step": 51,')
    lines = (copy / "progress.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "progress.jsonl").write_bytes(b"".join([lines[0], b"\xff\xfe\n", *lines[2:]]))
    code, shown, error = invoke("report", "run")
    assert (code, shown) == (0, "run/report.html\n")
    assert error.splitlines() == [
        "warning: run/metrics.jsonl: line 51 is damaged (its checksum is not that of what it "
        "holds); 1 row is missing; what is shown lacks what they held",
        "warning: run/progress.jsonl: line 2 is damaged ('utf-8' codec can't decode byte 0xff in "
        "position 0: invalid start byte); 1 row is missing; what is shown lacks what they held",
    ]
    code, shown, error = invoke("report", "--follow run")
    assert code == 0
    assert "finished after" in shown
    assert error.count("\n") == 1


def test_a_report_of_a_log_without_its_end_says_so(copy):
    lines = (copy / "progress.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "progress.jsonl").write_bytes(b"".join(lines[:-3]))
    told: list[str] = []
    page.write_report(copy, warn_fn=told.append)
    assert told == [
        f"{copy / 'progress.jsonl'} ends before its run did; the report lacks the time after"
    ]


def test_files_that_are_no_files_are_one_line(copy, invoke):  # noqa: F811
    for name in ("result.json", "metrics.jsonl", "progress.jsonl", "distilled.safetensors"):
        path = copy / name
        whole = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        code, _, error = invoke("report", "run")
        assert code == 2
        assert f"run/{name} is a named pipe; wanted a plain file" in error
        assert error.count("\n") == 1
        path.unlink()
        path.write_bytes(whole)


def test_settings_of_a_set_that_no_memory_holds_are_refused(copy, invoke):  # noqa: F811
    settings = {n: v for n, v in asdict(DIGITS).items() if n in ("data", "model", "evaluation")}
    del settings["data"]["data_dir"]
    settings["model"]["width"] = 10**9
    small = DISTILLED._replace(origin={"settings": settings})
    write_distilled(copy / "distilled.safetensors", small)
    code, shown, error = invoke("evaluate", "run")
    assert (code, shown) == (2, "")
    assert error.count("\n") == 1
    assert "--width" in error


def rows(count=4):
    kept = {"kernel": 0.5, "bias": None}
    numbers = {"loss": 0.9, "kept_fraction": 0.5, "alpha": 0.1, "kept_by_layer": kept}
    steps = [{"step": n, **numbers, "teacher": 1, "start_epoch": 0} for n in range(1, count)]
    return [{"step": 0, "accuracy": 0.1}, *steps]


BAD_ROWS = [
    {"step": "2"},
    {"step": 1.5},
    {"step": -1},
    {"step": 1},
    {"loss": "low"},
    {"loss": None},
    {"alpha": None},
    {"teacher": -1},
    {"start_epoch": 2**60},
    {"kept_by_layer": [0.5]},
    {"kept_by_layer": {"kernel": 0.5}},
    {"kept_by_layer": {"kernel": "0.5", "bias": 0.5}},
    {"accuracy": "high"},
    {"skipped": "yes"},
]


@pytest.mark.parametrize("change", BAD_ROWS)
def test_rows_of_metrics_that_make_no_sense_are_left_out(tmp_path, change):
    """Although their checksum is right."""
    path, told = tmp_path / "metrics.jsonl", list[str]()
    good = rows()
    write_rows(path, good)
    assert read_metrics(path, steps=3, warn_fn=told.append) == good
    assert not told
    write_rows(path, [*good[:2], good[2] | change, good[3]])
    found = read_metrics(path, steps=3, warn_fn=told.append)
    assert found == [*good[:2], good[3]]
    (line,) = told
    assert line.startswith(f"{path}: line 3 is damaged (")
    assert line.count("1 row is missing") == 1


def test_rows_are_counted_against_the_steps(tmp_path):
    path, told, good = tmp_path / "metrics.jsonl", list[str](), rows()
    for kept, missing in ((good[:3], 1), ([], 4), ([good[0], good[3]], 2)):
        write_rows(path, kept)
        assert read_metrics(path, steps=3, warn_fn=told.append) == kept
        assert f"{missing} row" in told.pop()
    # Of a run that is not finished the end is not known.
    write_rows(path, good[:3])
    assert read_metrics(path, warn_fn=told.append) == good[:3]
    write_rows(path, good)
    assert read_metrics(path, steps=2, warn_fn=told.append) == good[:3]
    write_rows(path, [good[0], good[2], good[1], good[2], good[3]])
    assert not told
    assert read_metrics(path, warn_fn=told.append) == [good[0], good[2], good[3]]
    assert "line 3 is damaged (its step does not follow that of" in told[0]
    assert "and so is 1 more; 1 row is missing" in told[0]


def test_rows_of_progress_that_make_no_sense_are_left_out(copy):
    path, told = copy / "progress.jsonl", list[str]()
    good = read_rows(path)
    places = {row["event"]: place for place, row in enumerate(good)}
    changes = [
        ("start", {"command": 3}),
        ("start", {"event": "begin"}),
        ("start", {"event": ["start"]}),
        ("stage", {"total": "many"}),
        ("stage", {"done": -1}),
        ("tick", {"values": {"loss": "low"}}),
        ("end", {"seconds": 1e300}),
        ("end", {"memory_mib": 2**60}),
        ("finish", {"seconds": None}),
        ("end", {"row": 1}),
    ]
    for event, change in changes:
        place = places[event]
        write_rows(path, [*good[:place], good[place] | change, *good[place + 1 :]])
        assert read_progress(path, warn_fn=told.append) == good[:place] + good[place + 1 :]
        assert f"line {place + 1} is damaged" in told.pop()
    # What is shown of a stage whose beginning is lost lacks that alone.
    write_rows(path, [row for row in good if row["event"] != "stage"])
    assert "0 of" not in page.write_report(copy, warn_fn=told.append).read_text()
    assert "rows are missing" in told.pop()


def test_results_that_make_no_sense_are_refused(copy):
    """Although their digest is right."""
    path = copy / "result.json"
    whole = read_result(path)
    ours = whole["rows"][2]
    changes = [
        {"rows": {}},
        {"rows": [3]},
        {"class_names": "0123"},
        {"seed": "0"},
        {"versions": {"jax": 3}},
        {"data": {}},
        {"distillation": {"ours": {"alpha": "low"}}},
        {"sweep": "threshold"},
        *(
            {"rows": [ours | change]}
            for change in (
                {"mean": "high"},
                {"mean": 1.5},
                {"networks": 3},
                {"accuracies": []},
                {"confusion": [[1]]},
                {"confusion": [[0.5]] * 10},
                {"per_class": [0.5]},
                {"which": "best"},
                {"step": None},
                {"seed": 0.5},
            )
        ),
        *({"rows": [{n: ours[n] for n in ours if n != gone}]} for gone in ("step", "confusion")),
    ]
    for change in changes:
        write_json(path, whole | change)
        with pytest.raises(InputError, match=r"result.json is damaged: .*; delete it, and the"):
            read_result(path)
    with pytest.raises(InputError, match=r"result.json is damaged: it has no list over_seeds"):
        check_evaluation(path, whole)


def test_kept_evaluations_that_make_no_sense_are_refused(tmp_path):
    procedure = Procedure(EvaluateConfig(networks=2), (), 2)
    path = tmp_path / "evaluations.json"
    evaluation = {"accuracies": [0.5, 0.25], "confusion": [[1, 0], [1, 2]], "diverged": 0}

    def kept(values=None):
        if values is not None:
            write_json(path, values)
        return Evaluations(procedure, tmp_path)._kept(path)

    assert kept({"a": {"test": evaluation}})["a"]["test"]["accuracies"] == [0.5, 0.25]
    for values in (
        {"a": 3},
        {"a": {"test": []}},
        {"a": {"test": evaluation | {"accuracies": [0.5]}}},
        {"a": {"test": evaluation | {"confusion": [[1]]}}},
        {"a": {"test": evaluation | {"confusion": [[1, 0], [1]]}}},
        {"a": {"test": evaluation | {"diverged": None}}},
        {"b": {"test": {"accuracies": "all"}}},
    ):
        with pytest.raises(InputError, match=r"evaluations.json is damaged: .*; delete it"):
            kept(values)
    path.write_text('{"a": {"test": {}}}')
    with pytest.raises(InputError, match=r"evaluations.json is damaged, edited or of an earlier"):
        kept()
