"""`python -m ddpp_jax.audit` as a user runs it: real digits, few of them."""

import dataclasses
import json
import re
import shlex
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image
from processes import call_once, start
from test_commands import invoke  # noqa: F401
from test_readme import ROOT, examples

from ddpp_jax import audit
from ddpp_jax.cli.attacking import plan_attack
from ddpp_jax.cli.inquiry import KIND, _is_found
from ddpp_jax.configs import (
    AttackConfig,
    AttackJob,
    DataConfig,
    ModelConfig,
    Places,
    TeachConfig,
    setting,
)
from ddpp_jax.data import load_raw
from ddpp_jax.distill.frames import read_frame
from ddpp_jax.planning.problem import load
from ddpp_jax.progress import Report
from ddpp_jax.results import audits
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import read_tensors

SMALL = "--per-class 12 --width 4 --depth 1"
NETWORKS = "--networks 2 --eval-epochs 20 --real-rate 0.1"
ATTACK = f"digits --attack --method dm --ipc 2 --steps 10 {SMALL} {NETWORKS}"
LOSS = f"{ATTACK} --shadows 8 --attacks loss --worst 5"
TRAJECTORIES = (
    "--method ddpp --ipc 1 --steps 2 --teachers 1 --epochs 2 --max-start-epoch 1 "
    "--target-epochs 1 --student-steps 2"
)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory):
    """One whole attack, small: its folder and what it showed."""
    folder, done = call_once(
        tmp_path_factory, "attacked", "audit", *shlex.split(LOSS), "--out", "attack"
    )
    return folder, done.stdout


def save(path, raw, kept, **others):
    """Some of the training images as a dataset of their own."""
    test = {"x_test": raw.x_test, "y_test": raw.y_test}
    train = {"x_train": raw.x_train[kept], "y_train": raw.y_train[kept]}
    np.savez(path, **{**train, **test, **others}, class_names=raw.class_names)


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_an_attack_shows_its_tables_and_leaves_its_files(attacked):
    folder, shown = attacked
    for words in (
        "8 shadows of 60 members and 60 others: 8 distillations of 10 steps by DM, 2 of each of 10",
        "48 networks of width 4 in all, 2 on each of dm, random, real of each shadow",
        "Membership inference",
        "0.1 %: 60 in one target are too few, wanted 1,000, and those of all targets likewise",
        "Not tested:",
        "An attack that finds nothing bounds nothing",
    ):
        assert words in " ".join(shown.split())
    for word in ("private", "privacy"):
        assert word not in shown.lower()
    found = result_of(folder / "attack")
    assert [row["method"] for row in found["rows"]] == ["DM", "random real images", "all members"]
    assert [row["images"] for row in found["rows"]] == [20, 20, 60]
    assert [(row["sets"], row["networks"]) for row in found["rows"]] == [(8, 16)] * 3
    attack = found["attack"]
    assert (attack["shadows"], attack["audited"], attack["members"]) == (8, 120, 60)
    assert [case["method"] for case in attack["cases"]] == ["dm", "random", "real"]
    names = ("roc", "vulnerable", "pairs-0", "pairs-1")
    for name in names:
        with Image.open(folder / "attack" / f"{name}.png") as image:
            assert min(image.size) > 100
    page = (folder / "attack" / "report.html").read_text()
    for words in ('id="attack"', 'id="near"', "Not tested", "data:image/png", "members found"):
        assert words in page


def test_members_that_are_released_as_they_are_fail_the_audit(attacked):
    """The control: whatever else an audit says, it must see this."""
    folder, shown = attacked
    found = result_of(folder / "attack")["attack"]
    control = found["cases"][1]
    copies = control["copies"]
    assert copies["near_copies"] == copies["images"] == copies["nearer"] == 160
    assert copies["near_expected"] < 10
    assert max(copies["nearer_p"], copies["near_p"]) < 1e-6
    assert copies["ratios"] == [0.0] * 10
    (by_loss,) = control["attacks"]
    assert by_loss["origins"]["area"]["mean"] > 0.6
    assert by_loss["origins"]["area_p"] < 0.001
    assert control["origins_found"] == ["loss threshold"]
    assert found["control_found"]
    assert "The control, members released as they are, fails this audit as it must" in shown
    # Where either is not seen, the audit says that it is blind.
    missed = control | {"origins_found": []}, control | {"copies": copies | {"near_copies": 159}}
    for one in missed:
        assert not _is_found(one)
        words = audits.attack_words({**found, "cases": [one], "control_found": _is_found(one)})
        assert any("NOT found" in line and "says nothing" in line for line in words)


def test_what_shadows_keep_gives_the_figures_by_hand(attacked):
    """The area of the loss threshold on all members, from the files of the shadows alone."""
    folder, _ = attacked
    areas, members = [], []
    for place in sorted((folder / "attack" / "shadows").iterdir()):
        tensors, _ = read_tensors(place / "real.safetensors", kind=KIND)
        own, losses = tensors["origins"], np.log1p(np.exp(-tensors["confidences"])).mean(axis=0)
        wins = (losses[own][:, None] < losses[~own][None]).mean()
        ties = (losses[own][:, None] == losses[~own][None]).mean()
        areas.append(wins + ties / 2)
        members.append(own)
    np.testing.assert_array_equal(np.sum(members, axis=0), 4)
    found = result_of(folder / "attack")["attack"]["cases"][2]["attacks"][0]["area"]
    assert found["mean"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert found["error"] == pytest.approx(np.std(areas, ddof=1) / np.sqrt(8), rel=1e-3)


def test_a_killed_attack_goes_on_and_ends_with_the_same_figures(attacked, invoke, tmp_path):  # noqa: F811
    folder, _ = attacked
    process = start(tmp_path, "audit", *shlex.split(LOSS), "--out", "attack")
    shadows = tmp_path / "attack" / "shadows"
    deadline = time.monotonic() + 300
    while not (shadows / "001" / "random.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (tmp_path / "attack" / "result.json").exists()
    first = shadows / "000" / "dm.safetensors"
    written = first.stat().st_mtime_ns
    # What other shadows found is the same wherever it was found.
    for number in range(3, 8):
        own = f"{number:03d}"
        shutil.rmtree(shadows / own, ignore_errors=True)
        shutil.copytree(folder / "attack" / "shadows" / own, shadows / own)
    code, _, error = invoke("audit", f"{LOSS} --out attack")
    assert (code, error) == (0, "")
    assert first.stat().st_mtime_ns == written
    assert result_of(tmp_path / "attack") == result_of(folder / "attack")
    again = invoke("audit", f"{LOSS} --out attack")[1]
    assert "attack is complete; its results" in again
    damaged = shadows / "002" / "real.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    (tmp_path / "attack" / "result.json").unlink()
    code, _, error = invoke("audit", f"{LOSS} --out attack")
    assert code == 2
    assert error.count("\n") == 1
    assert "002/real.safetensors is damaged" in error
    assert "delete it, and the same command makes it again" in error


def check_shadow(invoke, tmp_path, shadow, members, flags):  # noqa: F811
    """A shadow's set is, to the bit, what `distill` makes of a dataset of its members alone."""
    save(tmp_path / "members.npz", load_raw(DataConfig(per_class=12)), members)
    made = read_distilled(shadow / "distilled.safetensors")
    common = "--width 4 --depth 1 --no-baselines --eval-every 0 --networks 1 --eval-epochs 2"
    run = f"digits --dataset members.npz {flags} {common} --seed {made.origin['seed']} --out alone"
    assert invoke("distill", run)[0] == 0
    alone = read_distilled(tmp_path / "alone" / "distilled.safetensors")
    for name in ("images", "pixels", "labels", "alpha"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(made, name))


def test_a_shadow_knows_no_other_images_than_its_members(attacked, invoke, tmp_path):  # noqa: F811
    folder, _ = attacked
    shadow = folder / "attack" / "shadows" / "001"
    members = np.flatnonzero(read_tensors(shadow / "real.safetensors", kind=KIND)[0]["origins"])
    check_shadow(invoke, tmp_path, shadow, members, "--method dm --ipc 2 --steps 10")
    # What the same run started from is found again, too.
    code, shown, _ = invoke("audit", "alone --dataset members.npz --no-features --out audit")
    assert code == 0
    said = " ".join(shown.split())
    assert "drawn anew by its seed" in said
    assert "as its frame of step 0 shows" in said
    (row,) = result_of(tmp_path / "audit")["copies"]
    first, _ = read_frame(tmp_path / "alone" / "history" / "000000.safetensors")
    last = read_distilled(tmp_path / "alone" / "distilled.safetensors").pixels
    far = np.sqrt(np.square(last - first).mean(axis=(1, 2, 3)))
    assert row["start"]["mean"] == pytest.approx(far.mean(), rel=0.01)
    assert row["start"]["images"] == 20
    code, shown, _ = invoke("audit", "alone --dataset members.npz --held-out 0.2 --dry-run")
    assert code == 0
    assert "not known, since its data were others" in " ".join(shown.split())


def test_shadows_with_teachers_have_teachers_of_their_own(invoke, tmp_path):  # noqa: F811
    base = setting("digits")
    job = AttackJob(
        data=dataclasses.replace(base.data, per_class=12),
        model=ModelConfig(width=4, depth=1),
        teaching=TeachConfig(teachers=1, epochs=2, teacher_rate=base.teaching.teacher_rate),
        method="ddpp",
        distillation=dataclasses.replace(
            base.distillation, steps=2, max_start_epoch=1, target_epochs=1, student_steps=2
        ),
        attack=AttackConfig(shadows=4, attacks="loss"),
    )
    places = Places(teachers_dir=tmp_path / "teachers", cache_dir=tmp_path / "cache")
    plan, _ = plan_attack(job, places, tmp_path / "attack")
    for number in (0, 1):  # The second takes the steps of the first, and its own teachers.
        shadow = plan.shadow(number)
        own = plan.makers.teaching_job(shadow.seed)
        dataset = load(own, shadow.problem, places, Report(None))
        plan.makers.released("ddpp", shadow, dataset, Report(None))
    assert len(list((tmp_path / "teachers").iterdir())) == 2
    check_shadow(invoke, tmp_path, shadow.folder, np.flatnonzero(plan.members[1]), TRAJECTORIES)


def test_the_page_is_written_anew_by_its_own_command(attacked, invoke, tmp_path):  # noqa: F811
    folder, _ = attacked
    shutil.copytree(folder / "attack", tmp_path / "attack")
    page = tmp_path / "attack" / "report.html"
    before = page.read_text().replace(str(folder), "")
    page.unlink()
    assert invoke("report", "attack")[0] == 0
    assert len(page.read_text()) == pytest.approx(len(before), rel=0.01)


def test_a_dry_run_tells_the_work_and_begins_none(invoke, tmp_path):  # noqa: F811
    code, shown, _ = invoke("audit", f"digits --attack {SMALL} {NETWORKS} {TRAJECTORIES} --dry-run")
    assert code == 0
    said = " ".join(shown.split())
    for words in (
        "16 shadows of 60 members and 60 others: 16 distillations of 2 steps by DDPP",
        "after 16 teachers of 2 epochs, 1 of each of 10 classes",
        "96 networks of width 4 in all",
        "teachers of 16 shadows: ",
        "16 distillations: ",
        "networks on 16 sets of real: ",
    ):
        assert words in said
    assert re.search(r"[\d.,]+ [KM]iB on disk", said)
    assert re.search(r"Time: about \d+ (s|min)", said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "no sets given; name run folders or files, or give --attack"),
        ("nowhere", "there is no"),
        ("nowhere nowhere", "named twice"),
        ("digits --attack --shadows 8", "too few to fit LiRA's distributions; wanted 16 or more"),
        ("digits --attack --shadows 17", "--shadows is 17; wanted an even number"),
        ("digits --attack --shadows 0", "--shadows is 0; wanted 4 or more"),
        ("digits --attack --worst 0", "--worst is 0"),
        ("digits --attack --attacks guess", "--attacks is 'guess'; wanted some of loss,lira"),
        ("digits --attack --method best", "--method is 'best'; wanted one of ddpp, mtt"),
        ("digits --attack --method dm --ipc 80", "fewer than --ipc 80; lower it"),
        ("digits --attack --method dm --which best-test", "is not audited"),
        ("digits --attack --method random --steps 5", "--steps"),
        ("digits --attack --imported 12345678", "have seen all images, members or not"),
        ("cats --attack", "there is no setting 'cats'"),
    ],
)
def test_bad_input_is_one_line(invoke, tmp_path, flags, words):  # noqa: F811
    code, shown, error = invoke("audit", flags)
    assert (code, shown) == (2, "")
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", ["--help", "--attack --help"])
def test_help_explains_every_flag(invoke, flags):  # noqa: F811
    code, shown, _ = invoke("audit", flags)
    assert code == 0
    assert "--seed" in shown
    assert shown.count("(default:") >= 6


def test_copies_of_real_images_are_told_and_shown(invoke, tmp_path):  # noqa: F811
    chosen = f"digits --method random --ipc 4 {SMALL} --out chosen"
    assert invoke("select", chosen)[0] == 0
    code, shown, error = invoke("audit", "chosen --epochs 2 --out audit")
    assert (code, error) == (0, "")
    said = " ".join(shown.split())
    assert "chosen: 40 images; real images, by its file" in said
    assert "fails: its images lie nearer to training images than chance has it" in said
    assert "no training image is nearer for 40 of 40" in said
    assert "Not tested: copies that are shifted" in said
    (row,) = result_of(tmp_path / "audit")["copies"]
    for kind in ("pixels", "features"):
        near = row[kind]
        assert near["near_copies"] == near["nearer"] == 40
        assert near["ratios"] == pytest.approx([0.0] * 10, abs=1e-4)
    assert row["start"]["mean"] < 1e-7
    with Image.open(tmp_path / "audit" / "pairs-0.png") as image:
        assert min(image.size) > 100
    assert 'id="copies"' in (tmp_path / "audit" / "report.html").read_text()
    again = invoke("audit", "chosen --epochs 2 --out audit")[1]
    assert "audit is complete; its results" in again
    other = invoke("audit", "chosen --epochs 2 --no-features --out audit")
    assert other[0] == 2
    assert "config.features was True, is False" in other[2]
    raw = load_raw(DataConfig())
    save(tmp_path / "other.npz", raw, np.arange(900), x_test=raw.x_test[1:], y_test=raw.y_test[1:])
    elsewhere = invoke("audit", "chosen --dataset other.npz --no-features --out other")
    assert elsewhere[0] == 2
    assert "was made with other test images" in elsewhere[2]


def test_the_example_of_the_readme():
    (code,) = examples(ROOT / "ddpp_jax" / "audit" / "README.md")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    generator = np.random.default_rng(0)
    images, labels = generator.normal(size=(80, 4, 4, 1)), np.arange(80) % 2
    names = {
        "images": images,
        "labels": labels,
        "ask": lambda own: generator.normal(size=80) + 3 * own,
        "distilled": images[:6],
        "x_test": generator.normal(size=(40, 4, 4, 1)),
        "y_test": np.arange(40) % 2,
    }
    exec(compile(code, "README.md", "exec"), names)
    assert names["power"].area.mean > 0.9
    assert names["near"].near.all()
    assert isinstance(names["near"], audit.Copies)
