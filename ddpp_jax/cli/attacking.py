"""Membership inference against sets that are made from halves of the training images."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool

from ddpp_jax import audit, teachers
from ddpp_jax.cli.folders import Place, results_in
from ddpp_jax.cli.inquiry import Attacked, attacked_rows, examine
from ddpp_jax.cli.shadows import Makers, Shadow, restricted_problem, shadow_seed
from ddpp_jax.cli.transforms import shown_as
from ddpp_jax.configs import AttackJob, DistillConfig, EvaluateConfig, Places, digest
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, apply, restricted, whole
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Procedure
from ddpp_jax.networks import Network
from ddpp_jax.planning import trial
from ddpp_jax.planning.identities import identity_of, say_settings
from ddpp_jax.planning.limits import require_data, require_evaluation
from ddpp_jax.planning.problem import evaluation_key, load, network_for, result, show
from ddpp_jax.planning.sources import data_in_memory, describe_data
from ddpp_jax.progress import Report
from ddpp_jax.report import auditing
from ddpp_jax.results import audits
from ddpp_jax.storage import Checkpoints, digest_of, gib, require_space, write_json

CONTROL, ALL = "random", "real"
"""What every attack is made on beside the method: a set that holds members, and all of them."""


class Plan(NamedTuple):
    """An attack that is asked for.

    Attributes:
        job: what is asked for.
        places: where things are kept.
        raw: the images that are audited, as they came, all of them training images.
        members: those of each shadow.
        network: that is trained on what is released.
        makers: of the sets.
        methods: what is attacked: the job's method first.
        folder: of the results.
        identity: what the folder is claimed for.
        left_out: training images that are not audited, so that halves are equal.
    """

    job: AttackJob[Any]
    places: Places
    raw: Dataset
    members: Bool[np.ndarray, "shadows images"]
    network: Network
    makers: Makers
    methods: Sequence[str]
    folder: Path
    identity: dict[str, Any]
    left_out: int

    def shadow(self, number: int) -> Shadow:
        """One of the shadows."""
        seed = shadow_seed(self.job.seed, number)
        teaching = self.makers.teaching_job(seed)
        kept = np.flatnonzero(self.members[number])
        problem = restricted_problem(teaching, self.places, self.raw, kept, self.network)
        return Shadow(seed, problem, self.folder / "shadows" / f"{number:03d}")

    def procedure(self, method: str) -> Procedure:
        """How networks are trained on what a method releases: all with as many SGD steps."""
        config = self.job.evaluation
        small = self.job.distillation.ipc * self.raw.classes
        if method == ALL:
            config = as_many_steps(config, small, int(self.members[0].sum()))
        return Procedure(config, self.job.data.operations, self.raw.classes)

    def images(self, method: str) -> int:
        """How many images a method releases."""
        small = self.job.distillation.ipc * self.raw.classes
        return int(self.members[0].sum()) if method == ALL else small

    def of(self, number: int) -> str:
        """A digest of what a shadow is of."""
        return digest_of(self.identity | {"shadow": number})


def plan_attack(job: AttackJob[Any], places: Places, out: Path | None) -> tuple[Plan, bool]:
    """The attack that a job asks for, and whether its folder is named by what it holds.

    Nothing is computed or written yet.
    """
    every = data_in_memory(job.data, places, "an attack")
    key = jax.random.key(job.seed)
    kept = audit.audited_images(named_key(key, "audited images"), every.y_train)
    raw = restricted(every, kept)
    if len(np.unique(raw.y_train)) < raw.classes:
        raise InputError(f"{every.name} has a class with a single image, which cannot be halved")
    members = audit.split_members(named_key(key, "members"), raw.y_train, job.attack.shadows)
    identity = identity_of(job, every)
    own = Path("runs") / f"attack-{raw.name}-{job.method}-{digest(identity)}"
    methods = list(dict.fromkeys([job.method, CONTROL, ALL]))
    plan = Plan(
        job=job,
        places=places,
        raw=raw,
        members=members,
        network=network_for(job, raw),
        makers=Makers(job, places),
        methods=methods,
        folder=out or own,
        identity=identity,
        left_out=len(every.y_train) - len(kept),
    )
    plan.makers.require(restricted(raw, np.flatnonzero(members[0])))
    return plan, out in (None, own)


def run_attack(
    job: AttackJob[Any],
    places: Places,
    out: Path | None,
    report: Report,
    *,
    dry: bool = False,
) -> None:
    """Make sets from halves of the training images, and ask whose images show in them.

    Args:
        job: what is asked for.
        places: where things are kept.
        out: the folder of the results; None chooses one below `runs`.
        report: told as it goes on.
        dry: only say what would be done.

    Raises:
        InputError: it cannot be done, or its folder is another's.
    """
    plan, proven = plan_attack(job, places, out)
    describe_data(plan.raw, report)
    _describe(plan, report)
    place = Place(plan.folder, plan.identity, proven)
    place.check_free()
    done = place.is_complete()
    if not done:
        require_data(job, plan.shadow(0).problem.raw, places)
        require_evaluation(job.evaluation, plan.network, job.model.width)
        require_space(plan.folder, _stored_bytes(plan), what="what the shadows leave")
    if dry:
        say_settings(job, plan.raw, report)
        if not done:
            trial.describe(partial(_seconds, plan), plan.network.num_params, report)
        return
    found = results_in(
        place,
        places.cache_dir,
        report,
        compute_fn=partial(_compute, plan, report),
        draw_fn=partial(auditing.draw_audit, plan.folder),
    )
    show(found, report)
    report.show(audits.attack_table(found["attack"]))
    for line in audits.attack_words(found["attack"]):
        report.say(line)
    report.say(f"Every figure, and the pictures, are in {plan.folder}; open its report.html")


def _compute(plan: Plan, report: Report) -> dict[str, Any]:
    shadows: list[Mapping[str, Attacked]] = []
    count = len(plan.members)
    with report.progress("shadows", count, unit="shadow") as tick:
        for number in range(count):
            shadows.append(_shadow(plan, number, report))
            tick(number + 1, {})
    rows, attack = attacked_rows(plan.job, plan.raw, plan.members, shadows, plan.left_out)
    worst = attack["cases"][0].get("vulnerable")
    if worst is not None:
        auditing.write_examples(plan.folder, plan.raw, worst)
    for place, method in enumerate(plan.methods):
        pairs = [own[method].pairs for own in shadows]
        if all(one is not None for one in pairs):
            auditing.write_pairs(plan.folder, place, auditing.worst_pairs(pairs))
    found = result(plan.job, plan.raw, rows) | {"attack": attack}
    write_json(plan.folder / "result.json", found)
    return found


def _shadow(plan: Plan, number: int, report: Report) -> Mapping[str, Attacked]:
    """What the sets of a shadow show; what an earlier process has found is read."""
    shadow = plan.shadow(number)
    kept: dict[str, Attacked] = {}
    dataset: Dataset | None = None
    looks = plan.raw
    for method in plan.methods:
        path = shadow.folder / f"{method}.safetensors"
        of = plan.of(number)
        if path.exists():
            kept[method] = Attacked.read(path, of)
            continue
        quiet = Report(None)
        if dataset is None:
            dataset = load(
                plan.makers.teaching_job(shadow.seed), shadow.problem, plan.places, quiet
            )
            assert dataset.transform is not None
            looks = shown_as(plan.raw, dataset.transform)
        assert dataset.transform is not None
        released = plan.makers.released(method, shadow, dataset, report)
        place = digest_of({"of": of, "method": method})
        shown = audit.expose(
            named_key(evaluation_key(shadow.seed), method),
            plan.procedure(method),
            plan.network,
            released.small,
            (
                apply(dataset.transform, whole(plan.raw.x_train, "an attack")),
                plan.raw.y_train,
            ),
            (whole(dataset.x_test, "an attack"), dataset.y_test),
            quiet,
            Checkpoints(shadow.folder / f"training-{place[:8]}", of=place),
        )
        found = examine(released, shown, looks, plan.members[number], copies=method != ALL)
        found.write(path, of)
        kept[method] = found
    return kept


def as_many_steps(config: EvaluateConfig, small: int, large: int) -> EvaluateConfig:
    """The schedule with which networks make as many SGD steps on more images.

    Args:
        config: the schedule for fewer images.
        small: how many these are.
        large: how many the others are.
    """
    batches = [-(-count // min(config.eval_batch, count)) for count in (small, large)]
    epochs = round((config.eval_epochs + 1) * batches[0] / batches[1])
    return dataclasses.replace(config, eval_epochs=max(1, epochs - 1))


def _describe(plan: Plan, report: Report) -> None:
    job, count = plan.job, len(plan.members)
    half = int(plan.members[0].sum())
    if plan.left_out:
        report.say(f"{plan.left_out} images of classes with odd numbers are left out of the halves")
    making = f"{count} sets by {job.title}"
    if isinstance(job.distillation, DistillConfig):
        making = f"{count} distillations of {job.distillation.steps:,} steps by {job.title}"
    if plan.makers.needs_teachers():
        each = plan.makers.teaching_job(job.seed).teaching.teachers
        making += f" after {count * each} teachers of {job.teaching.epochs} epochs"
    networks = count * job.evaluation.networks * len(plan.methods)
    report.say(
        f"{count} shadows of {half} members and {len(plan.raw.y_train) - half} others: {making}, "
        f"{job.distillation.ipc} of each of {plan.raw.classes} classes"
    )
    report.say(
        f"{networks} networks of width {job.model.width} in all, {job.evaluation.networks} on each "
        f"of {', '.join(plan.methods)} of each shadow; {gib(_stored_bytes(plan))} on disk; in "
        f"{plan.folder}"
    )


def _stored_bytes(plan: Plan) -> int:
    """What the shadows leave on disk, about: teachers and what networks show."""
    job, count = plan.job, len(plan.members)
    shown = len(plan.methods) * job.evaluation.networks * len(plan.raw.y_train) * 4
    each = shown + 8 * plan.images(job.method) * plan.raw.x_train[0].size
    if plan.makers.needs_teachers():
        teaching = plan.makers.teaching_job(job.seed).teaching
        each += teaching.teachers * teachers.stored_bytes(teaching, plan.network)
    return count * each


def _seconds(plan: Plan) -> dict[str, float]:
    """Seconds of each stage over all shadows that are left, by a trial."""
    left = [
        number
        for number in range(len(plan.members))
        if not (plan.shadow(number).folder / f"{plan.methods[-1]}.safetensors").exists()
    ]
    if not left:
        return {"shadows": 0.0}
    shadow, count = plan.shadow(left[0]), len(left)
    found: dict[str, float] = {}
    if plan.makers.needs_teachers():
        teaching = plan.makers.teaching_job(shadow.seed)
        one = trial.teaching_seconds(teaching, shadow.problem)["teachers"]
        found[f"teachers of {count} shadows"] = count * one
    if isinstance(plan.job.distillation, DistillConfig):
        found[f"{count} distillations"] = count * plan.makers.seconds(shadow)
    for method in plan.methods:
        shape = (plan.images(method), *plan.raw.x_train.shape[1:])
        test = len(plan.raw.y_test) + len(plan.raw.y_train)
        each = trial.evaluation_seconds(plan.procedure(method), plan.network, shape, test=test)
        found[f"networks on {count} sets of {method}"] = count * each
    return found
