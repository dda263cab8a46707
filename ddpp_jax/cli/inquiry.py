"""What the sets of all shadows show, and what attacks make of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ddpp_jax import audit
from ddpp_jax.audit.findings import (
    are_copies,
    copies_values,
    finds_members,
    power_values,
    vulnerable_values,
)
from ddpp_jax.cli.copying import pairs_of
from ddpp_jax.cli.shadows import Released
from ddpp_jax.configs import CHOSEN, AttackJob
from ddpp_jax.data import Dataset
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Evaluation
from ddpp_jax.report import auditing
from ddpp_jax.results import tables
from ddpp_jax.storage import read_tensors, write_tensors

KIND = "ddpp-jax audit shadow 1"
"""The key of the metadata of what a shadow shows."""

_PAIRS = 6
_REMEDY = "delete it, and the same command makes it again"
_NAMES = ("loss threshold", "LiRA", "LiRA, one variance")
_ORIGINS = ("the images that it started from", "the images that it holds")


class Attacked(NamedTuple):
    """What one set of one shadow shows.

    Attributes:
        confidences: of each audited image, by each network that was trained on the set.
        evaluation: of the networks, on the test set.
        origins: which audited images the set holds or set out from; none where it is noise.
        images: how many images it has.
        near: what lies near them among members and others; None where all members are released.
        pairs: the worst of these as pictures.
    """

    confidences: Float[np.ndarray, "networks images"]
    evaluation: Evaluation
    origins: Bool[np.ndarray, " images"]
    images: int
    near: audit.Copies | None
    pairs: auditing.Pairs | None

    def write(self, path: Path, of: str) -> None:
        """Keep it in a file.

        Args:
            path: of the file.
            of: a digest of what it is of.
        """
        tensors: dict[str, np.ndarray] = {
            "confidences": np.asarray(self.confidences, np.float32),
            "accuracies": np.asarray(self.evaluation.accuracies, np.float64),
            "confusion": np.asarray(self.evaluation.confusion, np.int64),
            "origins": self.origins,
        }
        if self.near is not None and self.pairs is not None:
            near = self.near
            for kind in ("used", "unused"):
                found: audit.Nearest = getattr(near, kind)
                tensors[f"{kind}.indices"] = np.asarray(found.indices, np.int64)
                tensors[f"{kind}.distances"] = found.distances
            tensors |= {"ratios": near.ratios, "ordinary": near.ordinary}
            tensors["distribution"] = near.chance.distribution
            tensors |= {f"pairs.{n}": a for n, a in self.pairs._asdict().items()}
        count = 0 if self.near is None else self.near.chance.nearer
        write_tensors(path, tensors, {"of": of, "images": self.images, "count": count}, kind=KIND)

    @classmethod
    def read(cls, path: Path, of: str) -> "Attacked":
        """What `write` kept.

        Args:
            path: of the file.
            of: a digest of what it must be of.

        Raises:
            InputError: it is damaged, or of something else.
        """
        try:
            tensors, values = read_tensors(path, kind=KIND)
            if values.get("of") != of:
                raise InputError(f"{path} is of another audit")
        except InputError as error:
            raise InputError(f"{error}; {_REMEDY}") from error
        near, pairs = None, None
        if "ratios" in tensors:
            used, unused = (
                audit.Nearest(tensors[f"{kind}.indices"], tensors[f"{kind}.distances"])
                for kind in ("used", "unused")
            )
            chance = audit.Chance(values["count"], values["images"], tensors["distribution"])
            near = audit.Copies(used, unused, tensors["ratios"], chance, tensors["ordinary"])
            pairs = auditing.Pairs(*(tensors[f"pairs.{n}"] for n in auditing.Pairs._fields))
        evaluation = Evaluation(tensors["accuracies"], tensors["confusion"])
        origins = tensors["origins"]
        return cls(tensors["confidences"], evaluation, origins, values["images"], near, pairs)


def examine(
    released: Released,
    shown: audit.Exposure,
    raw: Dataset,
    members: Bool[np.ndarray, " images"],
    *,
    copies: bool,
) -> Attacked:
    """What a set shows, with what lies near its images.

    Args:
        released: the set.
        shown: what networks that were trained on it show.
        raw: the audited images, with the pixels that they would have in the set.
        members: those that the set was made from.
        copies: whether to look for copies; not where all members are released as they are.
    """
    kept = np.flatnonzero(members)
    origins = np.zeros(len(members), bool)
    if released.origins is not None:
        origins[kept[released.origins]] = True
    near, pairs = None, None
    if copies:
        real = audit.Real(
            raw.x_train[members], raw.x_train[~members], raw.y_train[members], raw.y_train[~members]
        )
        near = audit.find_copies(released.small.looks, real)
        pairs = pairs_of(released.small.looks, near, real.used, real.unused, most=_PAIRS)
    count = len(released.small.images)
    return Attacked(shown.confidences, shown.evaluation, origins, count, near, pairs)


def attacked_rows(
    job: AttackJob[Any],
    raw: Dataset,
    members: Bool[np.ndarray, "shadows images"],
    shadows: Sequence[Mapping[str, Attacked]],
    left_out: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the result, by test accuracy, and what attacks find.

    Args:
        job: what was asked for.
        raw: the audited images.
        members: of each shadow.
        shadows: what each one's sets show, by method.
        left_out: training images that are not audited.
    """
    rows, cases = [], []
    for method in shadows[0]:
        found = [shadow[method] for shadow in shadows]
        title = job.title if method == job.method else CHOSEN[method]
        row = tables.evaluated_row(title, found[0].images, [one.evaluation for one in found])
        rows.append(row)
        cases.append(_case(job, method, title, members, found))
    control = next(case for case in cases if case["method"] == "random")
    attack = {
        "shadows": len(members),
        "audited": len(raw.y_train),
        "members": int(members[0].sum()),
        "left_out": left_out,
        "networks": job.evaluation.networks,
        "cases": cases,
        "control_found": _is_found(control),
    }
    return rows, attack


def _case(
    job: AttackJob[Any],
    method: str,
    title: str,
    members: Bool[np.ndarray, "shadows images"],
    found: Sequence[Attacked],
) -> dict[str, Any]:
    """What attacks find of one method."""
    every = np.stack([one.confidences for one in found])
    means = every.astype(np.float64).mean(axis=1)
    origins = np.stack([one.origins for one in found])
    scores = {}
    if "loss" in job.attack.names:
        scores[_NAMES[0]] = audit.loss_scores(every)
    if "lira" in job.attack.names:
        scores[_NAMES[1]] = audit.lira_scores(means, members)
        scores[_NAMES[2]] = audit.lira_scores(means, members, one_variance=True)
    some = origins.any(axis=1).all() and not (origins == members).all()
    attacks = []
    for name, values in scores.items():
        one = {"attack": name} | power_values(audit.power_of(values, members), len(members))
        if some:
            one["origins"] = power_values(
                audit.power_of(values, members, chosen=origins), len(members)
            )
        attacks.append(one)
    case: dict[str, Any] = {
        "method": method,
        "title": title,
        "images": found[0].images,
        "attacks": attacks,
        "origins": _ORIGINS[method in CHOSEN] if some else None,
    }
    near = [one.near for one in found if one.near is not None]
    if near:
        case["copies"] = copies_values(near)
    if len(members) >= audit.LEAST_SHADOWS:
        worst = audit.most_vulnerable(means, members, job.attack.worst)
        case["vulnerable"] = vulnerable_values(worst)
    case["found"] = [one["attack"] for one in attacks if finds_members(one)]
    case["origins_found"] = [
        one["attack"] for one in attacks if "origins" in one and finds_members(one["origins"])
    ]
    case["copies_found"] = bool(near) and are_copies(case["copies"])
    return case


def _is_found(control: Mapping[str, Any]) -> bool:
    """Whether a set of members as they are is found by copies, all of it, and by an attack."""
    copies = control["copies"]
    return copies["near_copies"] == copies["images"] and bool(control["origins_found"])
