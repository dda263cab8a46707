"""Work, memory and bytes over devices: the model by hand, and beside compiled programs."""

import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from test_commands import invoke, untried  # noqa: F401

from ddpp_jax.configs import setting
from ddpp_jax.distill import loop
from ddpp_jax.evaluate import networks
from ddpp_jax.planning import machines, scaling, workload
from ddpp_jax.planning.scaling import Cut, Kind, Kinds, Layout, Rates
from ddpp_jax.planning.work import Costs, Stage

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from bench import devices, hlo, plans  # noqa: E402

NOTHING = Kinds(Kind(), Kind(), Kind())
JOB = Kinds(
    Kind(members=10, at_a_time=3, state=100, once=1000, held=7, standing=50, written=200),
    Kind(members=2, state=10, fed=40, calls=0.5, held=5, read=3),
    Kind(members=5, state=20, common=8, calls=4, held=2),
)
STAGES = [Stage("teachers", epochs=60), Stage("distil", steps=40, evaluations=3)]
COSTS = Costs(epoch=2.0, step=5.0, evaluation=10.0)


def test_on_one_device_work_is_the_plain_sum_and_nothing_is_sent():
    for stage, total in zip(STAGES, (120.0, 230.0), strict=True):
        found = scaling.need(stage, COSTS, JOB, Layout(1))
        assert found.total == found.busiest == total
        assert found.sent == found.network == 0
        assert scaling.busy(found, 1) == scaling.speedup(found) == 1
        assert scaling.seconds(found, Rates(work=2.0), Layout(1)) == total / 2


@pytest.mark.parametrize(
    ("count", "devices", "most"), [(8, 4, 2), (10, 4, 3), (5, 8, 1), (200, 64, 4), (2, 2, 1)]
)
def test_the_busiest_device_has_the_members_that_fill_it(count, devices, most):
    """As many as a plain deal of the members, one after another, gives to the first device."""
    dealt = [len(range(first, count, devices)) for first in range(devices)]
    assert scaling.most_on_one(count, devices) == max(dealt) == most
    assert scaling.part(Kind(members=count), devices) == most / count


@pytest.mark.parametrize(
    ("kind", "devices", "part"),
    [
        (Kind(), 8, 1.0),
        (Kind(cuts=(Cut(8),)), 1, 1.0),
        (Kind(cuts=(Cut(8),)), 2, 0.5),
        (Kind(cuts=(Cut(8),)), 8, 0.125),
        (Kind(cuts=(Cut(8),)), 3, 1.0),  # Each device does all of them.
        (Kind(cuts=(Cut(8),)), 16, 0.125),  # Two devices do the same.
        (Kind(cuts=(Cut(8),), shared=0.75), 4, 0.25 + 0.75 / 4),
        (Kind(cuts=(Cut(10, fills=True),)), 8, 0.2),  # Two of ten classes, some of them copies.
        (Kind(cuts=(Cut(256, least=16),)), 8, 0.125),
        (Kind(cuts=(Cut(64, least=16),)), 8, 0.25),
        (Kind(cuts=(Cut(500, least=16),)), 8, 0.25),  # 4 divides both 500 and 8.
        (Kind(cuts=(Cut(2), Cut(256, least=16))), 8, 0.125),
        (Kind(members=2, cuts=(Cut(8),)), 8, 0.5 / 4),  # Four devices share each member.
        (Kind(members=3, cuts=(Cut(8),)), 8, 1 / 3 / 2),
        (Kind(members=9, cuts=(Cut(8),)), 8, 2 / 9),
    ],
)
def test_devices_beyond_the_members_share_what_is_cut(kind, devices, part):
    assert scaling.part(kind, devices) == pytest.approx(part)
    need = scaling.need(
        Stage("distil", steps=7), COSTS, NOTHING._replace(step=kind), Layout(devices)
    )
    assert need.busiest == pytest.approx(7 * 5.0 * part)
    assert need.total == 7 * 5.0


def test_what_a_stage_takes_by_hand():
    teaching, distillation = (scaling.need(stage, COSTS, JOB, Layout(4)) for stage in STAGES)
    assert (teaching.total, teaching.busiest) == (120, pytest.approx(36))  # 3 of 10 teachers.
    # Six epochs; 3 teachers go to each of 3 other devices and come back; so do the images, once.
    assert teaching.sent == 3 * (1000 + 6 * 3 * 2 * 100)
    assert teaching.memory == 50 + 3 * 7
    assert teaching.written == 10 * 200
    assert distillation.busiest == pytest.approx(40 * 5 / 2 + 3 * 10 * 2 / 5)
    # 20 steps of each in 10 calls: two devices have each distillation, and what comes back is
    # that of the second. 3 evaluations of 2 networks a device.
    assert distillation.sent == 10 * (3 * (10 + 40) + 10) + 3 * 3 * (8 + 2 * 4 * 2 * 20)
    assert distillation.read == 40 * 3
    assert distillation.memory == 5
    # 120 units of work and 30 in use of 4 devices.
    assert scaling.busy(teaching, 4) == pytest.approx(120 / (4 * 36))


def test_several_processes_send_through_the_network_and_each_reads():
    layout = Layout(4, processes=2)
    teaching, distillation = (scaling.need(stage, COSTS, JOB, layout) for stage in STAGES)
    assert teaching.sent == distillation.sent == 0
    assert (
        teaching.network == 6 * 12 * 100
    )  # All processes are told of 12 teachers, two of them copies.
    assert distillation.network == 10 * 2 * 10 + 3 * 4 * 8 * 20
    assert distillation.read == 2 * 40 * 3
    assert teaching.written == 10 * 200
    single = NOTHING._replace(step=Kind(cuts=(Cut(4, summed=30),), state=10, fed=40))
    alone = scaling.need(Stage("distil", steps=7), COSTS, single, layout)
    assert alone.network == 2 * 7 * 30
    one = scaling.need(Stage("distil", steps=7), COSTS, single, Layout(4))
    assert (one.sent, one.network) == (3 * 7 * (10 + 40 + 2 * 30), 0)


def test_seconds_are_those_of_work_and_wires_or_of_the_disk():
    found = scaling.Need("distil", 100.0, 50.0, sent=30, network=40, read=8, written=6, memory=0)
    rates = Rates(work=10, link=3, network=4, disk=2)
    assert scaling.seconds(found, rates, Layout(8, 2)) == 5 + 10 + 40 / 2 / 4 + 3
    assert scaling.seconds(found._replace(read=100), rates, Layout(8, 2)) == 50 + 3
    assert scaling.seconds(found, Rates(), Layout(8, 2)) == 50


def test_no_more_teachers_are_at_work_than_go_at_a_time():
    teachers = Kind(members=200, at_a_time=10, held=7, standing=50, written=3)
    assert [scaling.memory(teachers, count) for count in (1, 8, 64)] == [120, 120, 78]
    assert [scaling.host_memory(teachers, count) for count in (1, 8, 64)] == [30, 240, 600]


def test_costs_of_several_devices_at_hand_are_those_of_one():
    assert scaling.on_one_device(COSTS, JOB, 1) == COSTS
    found = scaling.on_one_device(COSTS, JOB, 4)
    assert found == pytest.approx((2 / 0.3, 5 / 0.5, 10 / 0.4))


def test_calls_are_cut_as_the_stages_cut_them():
    assert workload.EPOCHS_A_CALL == networks._EPOCHS_A_CALL
    assert workload.SECONDS_A_CALL == networks._SECONDS_A_CALL == loop._SECONDS_PER_CALL
    assert [workload.units_a_call(pace, 25) for pace in (0, 0.01, 0.5, 3.0)] == [25, 25, 4, 1]
    kinds = machines.paced(
        lambda paces: JOB._replace(step=JOB.step._replace(calls=paces.step)), COSTS, 4
    )
    assert kinds.step.calls == 5.0  # Of two distillations at 5 s, each on a device of its own.


def test_sizes_of_a_job_are_those_of_its_arrays():
    net, shapes = small.network(), workload.shapes_of(small.dataset())
    assert shapes == workload.Shapes(40, 20, 3, (4, 4, 1))
    size = 4 * net.num_params
    kind = workload.teaching_kind(small.CONFIG.teaching, net, shapes, 2)
    assert (kind.state, kind.once, kind.written) == (size, 40 * 4 * 16 + 40 * 4, 4 * size)
    settings = small.CONFIG.distillation
    kind = workload.step_kind(
        settings, net, shapes, small.method(), workload.Trajectories(1000.0), members=2
    )
    images = 6 * 16 * 4
    # Pixels and their velocity, alpha and its, labels.
    assert kind.state == 2 * images + 2 * 4 + 6 * 4
    assert kind.fed == 25 * (2 * size + 2 * 4)
    assert (kind.read, kind.read_once, kind.standing) == (0, 1000, 1000)
    segments, minibatch = kind.cuts
    assert (segments.pieces, segments.summed) == (1, images)
    assert (minibatch.pieces, minibatch.least) == (6, 16)
    assert minibatch.summed == settings.student_steps * (2 * size + images / 2)
    streamed = workload.step_kind(
        settings, net, shapes, small.method(), workload.Trajectories(1000.0, stream=True)
    )
    assert (streamed.read, streamed.read_once, streamed.standing) == (2 * size + 2 * 4, 0, 0)


def test_loops_count_as_often_as_they_turn():
    def body(carry, _):
        return jnp.tanh(carry @ jnp.ones((16, 16))), None

    def program(x):
        return jax.lax.scan(body, x, None, length=7)[0]

    compiled = jax.jit(program).lower(jnp.ones((8, 16))).compile()
    text, once = compiled.as_text(), 2 * 8 * 16 * 16
    assert hlo.count(text).flops == 7 * once
    assert hlo.count(text, loops=False).flops == once
    assert once <= compiled.cost_analysis()["flops"] < 1.5 * once  # XLA's, with the rest of a turn.


def test_convolutions_branches_and_collectives_are_counted():
    text = """\
HloModule made, is_scheduled=true

%left (p.0: f32[4,8]) -> f32[4,4] {
  %p.0 = f32[4,8]{1,0} parameter(0)
  %w.0 = f32[8,4]{1,0} constant({...})
  ROOT %dot.0 = f32[4,4]{1,0} dot(%p.0, %w.0), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%right (p.1: f32[4,8]) -> f32[4,4] {
  %p.1 = f32[4,8]{1,0} parameter(0)
  ROOT %zero = f32[4,4]{1,0} broadcast(%p.1), dimensions={}
}

ENTRY %main (x: f32[2,9,9,3], k: f32[3,3,3,5], w: f32[4,8], n: s32[]) -> f32[4,4] {
  %x = f32[2,9,9,3]{3,2,1,0} parameter(0)
  %k = f32[3,3,3,5]{3,2,1,0} parameter(1)
  %w = f32[4,8]{1,0} parameter(2)
  %n = s32[] parameter(3)
  %conv = f32[2,9,9,5]{3,2,1,0} convolution(%x, %k), window={size=3x3}, dim_labels=b01f_01io->b01f
  %sum = (f32[4,8]{1,0}, s32[]) all-reduce(%w, %n), replica_groups={}, to_apply=%right
  ROOT %if = f32[4,4]{1,0} conditional(%n, %w, %w), branch_computations={%left, %right}
}
"""
    found = hlo.count(text)
    assert found.flops == 2 * 2 * 9 * 9 * 5 * 27 + 2 * 4 * 4 * 8
    assert found.sent == {"all-reduce": 4 * 32 + 4}


@pytest.fixture(scope="module")
def measured():
    """What compiled programs do on one and on four virtual devices, for a few cases."""
    cases = [case for case in devices.CASES if case.members in (5, 10) or case.segments > 1]
    found = [devices.measure(cases, count) for count in (1, 4)]
    return {
        case.kind: plans.beside(case, dict(zip((1, 4), pair, strict=True)))
        for case, pair in zip(cases, zip(*found, strict=True), strict=True)
    }


@pytest.mark.parametrize(
    ("kind", "part"), [("teachers", 3 / 10), ("steps", 1 / 4), ("networks", 2 / 5)]
)
def test_the_model_is_what_compiled_programs_do(measured, kind, part):
    one, four = measured[kind]
    assert one["devices"] == 1
    assert four["devices"] == 4
    assert four["part"] == pytest.approx(part, rel=0.01)
    assert four["part_by_model"] == pytest.approx(four["part"], rel=0.01)
    assert four["sent_by_model"] == pytest.approx(four["sent"], rel=0.01)
    assert one["sent"] == one["sent_by_model"] == 0
    # The model has every pass over the network, the program leaves out what nobody reads.
    assert one["flops_by_model"] == pytest.approx(one["flops"], rel=0.25)
    assert bool(four["handed"]) == (kind == "steps")


def test_jobs_are_planned_from_shapes():
    """CIFAR-10 at 50 images per class, as its settings have it."""
    job, shapes = plans.jobs()["CIFAR-10, IPC 50"]
    assert job == setting("cifar10-ipc50")
    rates = Rates(work=1e13, link=1e12, network=1e12, disk=1e9)
    one, eight = (plans.plan(job, shapes, count, rates, 80e9) for count in (1, 8))
    assert one["seconds"][0] / eight["seconds"][0] == pytest.approx(8, rel=0.05)
    # Of minibatches of 500 images four devices have equal parts.
    assert one["seconds"][1] / eight["seconds"][1] == pytest.approx(4, rel=0.05)
    assert one["seconds"][2] / eight["seconds"][2] == pytest.approx(5, rel=0.05)
    assert one["written"] == eight["written"] == 200 * 51 * 4 * 320_010
    assert one["sent"] == one["network"] == eight["network"] == 0
    assert "a distillation is divided among 4 devices" in eight["limits"]
    spread = plans.plan(job, shapes, 8, rates, 80e9, segments=8)
    assert spread["seconds"][1] == pytest.approx(one["seconds"][1], rel=0.1)  # Of 8 times the work.


@pytest.mark.usefixtures("untried")
def test_a_dry_run_says_what_devices_would_do(invoke):  # noqa: F811
    code, shown, error = invoke("distill", "digits --dry-run --devices 8")
    assert (code, error) == (0, "")
    words = " ".join(shown.split())
    for line in (
        # Of 200 epochs of 1 s, 2,000 steps of 5 times 0.4 s and 17 evaluations of 3 s: of ten
        # teachers a device has two, two distillations are on two devices, five networks on five.
        f"On 8 devices like this one: about {(40 + 2000 + 17 * 0.6) / 60:.0f} min, where one takes "
        f"{(200 + 4000 + 51) / 60:.0f} min",
        "nothing was run on them",
        "teachers: 40 s, 5 times as fast, 62% of the devices at work (of 10 teachers a device has "
        "2 at most)",
        "(a distillation is not divided; of 5 networks a device has 1 at most)",
        "Disk: 8.8 MiB written; read 5.0 MiB by one process, 40.2 MiB by 8",
        "GiB over the network, with a process for each",
    ):
        assert line in words
    _, shown, _ = invoke("distill", "digits --no-baselines --dry-run --devices 8 --segments 8")
    assert "a distillation is" not in " ".join(shown.split())
    _, shown, _ = invoke("distill", "digits --no-baselines --dry-run --devices 8")
    assert "a distillation is not divided" in " ".join(shown.split())
    _, shown, _ = invoke("distill", "digits --ipc 10 --dry-run --devices 16")
    assert "a distillation is divided among 4 devices" in " ".join(shown.split())


@pytest.mark.usefixtures("untried")
def test_the_other_commands_say_it_too(invoke, tmp_path):  # noqa: F811
    _, shown, _ = invoke("teachers", "digits --dry-run --devices 5")
    assert "On 5 devices like this one: about 40 s, where one takes 3 min" in " ".join(
        shown.split()
    )
    assert "100% of the devices at work" in shown
    images = np.linspace(0, 1, 10 * 64).reshape(10, 8, 8, 1)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(10), lr=0.1)
    code, shown, error = invoke("evaluate", "set.npz --dry-run --devices 2")
    assert (code, error) == (0, "")
    assert "of 5 networks a device has 3 at most" in " ".join(shown.split())
    assert {path.name for path in tmp_path.iterdir()} == {"set.npz"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("distill --devices 8", "--devices 8 says what a job would take, and starts none"),
        ("distill --methods dm,dsa --devices 8", "give --dry-run beside it"),
        ("teachers --devices 8", "give --dry-run beside it"),
        ("evaluate set.npz --devices 8", "give --dry-run beside it"),
        ("distill --dry-run --devices 0", "--devices is 0; wanted 1 or more"),
        ("distill --dry-run --devices 1000000", "--devices is 1000000; wanted 1 to 100000"),
        ("distill digits --auto --dry-run --devices 8", "--devices needs settings"),
        (
            "teachers --import theirs --dry-run --devices 8",
            "--devices is for training, and --import trains none",
        ),
    ],
)
def test_devices_that_nothing_follows_from_are_refused(invoke, flags, said):  # noqa: F811
    stage, _, rest = flags.partition(" ")
    code, _, error = invoke(stage, rest)
    assert code == 2
    assert said in error
    assert error.count("\n") == 1


def test_nothing_is_planned_where_nothing_can_be_tried(invoke, untried, monkeypatch):  # noqa: F811
    monkeypatch.setattr("ddpp_jax.planning.trial.step_seconds", lambda *_, **__: math.nan)
    _, shown, _ = invoke("distill", "digits --dry-run --devices 8")
    assert "Time: unknown" in shown
    assert "On 8 devices: unknown too" in shown
