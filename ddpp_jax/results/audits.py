"""What audits found, as tables and sentences; no more is said than was measured."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

from rich.table import Table

from ddpp_jax.storage import require_kind

UNTESTED_COPIES = (
    "Not tested: copies that are shifted, mirrored, recoloured or blended, parts of images, and "
    "what networks trained on a set give away. Chances are for training and test images that were "
    "drawn alike; features of a network that was trained on the training images favour these."
)
"""What stands under every table of copies."""

UNTESTED_ATTACKS = (
    "Not tested: attackers with more shadows, with augmented queries, with networks of other "
    "architectures or schedules, or who know or change what else is in the data; reconstruction. "
    "An attack that finds nothing bounds nothing. Standard errors are over targets, as if these "
    "told nothing of one another."
)
"""What stands under every table of attacks."""


_NAME_WIDTH = 12
"""Letters that the first column has at the least."""


class Listing(NamedTuple):
    """A table as text.

    Attributes:
        columns: their names.
        rows: a text for each column.
    """

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class _CopiesRow(TypedDict):
    set: str
    method: str
    starts: str
    found: bool
    pixels: dict[str, Any]
    features: NotRequired[dict[str, Any]]
    start: NotRequired[dict[str, Any]]


class _Case(TypedDict):
    method: str
    title: str
    images: int
    attacks: list[dict[str, Any]]
    origins: str | None
    found: list[str]
    origins_found: list[str]
    copies_found: bool
    copies: NotRequired[dict[str, Any]]
    vulnerable: NotRequired[dict[str, Any]]


class _Attack(TypedDict):
    shadows: int
    audited: int
    members: int
    left_out: int
    networks: int
    cases: list[dict[str, Any]]
    control_found: bool


def check_audit(found: Mapping[str, Any]) -> None:
    """Refuse a result whose audit is not one.

    Raises:
        ValueError: it lacks something, or has it as something else.
    """
    for row in found.get("copies", []):
        require_kind(row, _CopiesRow)
    if "attack" in found:
        require_kind(found["attack"], _Attack)
        for case in found["attack"]["cases"]:
            require_kind(case, _Case)
        if not found["attack"]["cases"]:
            raise ValueError("an attack has no cases")


def copies_listing(copies: Sequence[Mapping[str, Any]]) -> Listing:
    """What lies near the images of each set.

    Args:
        copies: of a result.
    """
    rows = [
        (str(row["method"]) if kind == "pixels" else "", kind, *_near(row[kind]))
        for row in copies
        for kind in ("pixels", "features")
        if kind in row
    ]
    return Listing(("set", "in", *_near_columns("training", "test")), rows)


def near_listing(attack: Mapping[str, Any]) -> Listing:
    """What lies near the images of the sets of all shadows.

    Args:
        attack: of a result.
    """
    rows = [
        (str(case["title"]), *_near(case["copies"])) for case in attack["cases"] if "copies" in case
    ]
    return Listing(("released", *_near_columns("member", "other")), rows)


def attack_listing(attack: Mapping[str, Any]) -> Listing:
    """What each attack finds.

    Args:
        attack: of a result.
    """
    rows = []
    for case in attack["cases"]:
        name = str(case["title"])
        for one in case["attacks"]:
            percent, few = (_rate(one, rate) for rate in (0.01, 0.001))
            origins = _area(one["origins"]) if "origins" in one else "-"
            advantage = _percent(one["advantage"])
            rows.append((name, one["attack"], _area(one), percent, few, advantage, origins))
            name = ""  # It is said once.
    columns = ("trained on", "attack", "area", "at 1 %", "at 0.1 %", "advantage", "origins")
    return Listing(columns, rows)


def copies_table(copies: Sequence[Mapping[str, Any]]) -> Table:
    """The same for the screen."""
    return _table("Copies", copies_listing(copies))


def attack_table(attack: Mapping[str, Any]) -> Table:
    """The same for the screen."""
    return _table("Membership inference", attack_listing(attack))


def copies_words(copies: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands under a table of copies.

    Args:
        copies: of a result.
    """
    said = [_NEAR_WORDS]
    for row in copies:
        name = f"{row['method']} ({row['set']})"
        if row["found"]:
            said.append(
                f"{name} fails: its images lie nearer to training images than chance has it"
            )
        else:
            said.append(f"{name}: no copies were found")
        if "start" in row:
            start = row["start"]
            said.append(
                f"{name}: on the mean {start['mean']:.3f} from the images that it started from or "
                f"holds, at the least {start['least']:.3f}; no training image is nearer for "
                f"{start['nearest']} of {start['images']}"
            )
        else:
            said.append(f"{name}: {row['starts']}")
    return [*said, UNTESTED_COPIES]


_NEAR_WORDS = (
    "Nearer: how many images have an image that was used as their nearest, and how many would by "
    "chance. Near copies: those whose distance to a used image, over that to an unused one, is "
    "below the same of every unused image; the least of these ratios. To: the median distances, "
    "root mean squares, in pixels from 0 (black) to 1 (white)."
)


def attack_words(attack: Mapping[str, Any]) -> list[str]:
    """What stands under a table of attacks.

    Args:
        attack: of a result.
    """
    said = [_area_words(attack)]
    for case in attack["cases"]:
        said += _case_words(case)
    found = attack["control_found"]
    said.append(
        "The control, members released as they are, fails this audit as it must: the images it "
        "holds are found by copies and by attack"
        if found
        else "The control, members released as they are, was NOT found; so that this audit found "
        "nothing elsewhere says nothing"
    )
    return [*said, UNTESTED_ATTACKS]


def _area_words(attack: Mapping[str, Any]) -> str:
    """What the columns are, and how many others the rates are of."""
    first = attack["cases"][0]["attacks"][0]
    alone, pooled = ({one["rate"]: one for one in first[kind]} for kind in ("rates", "pooled"))
    rates = "; ".join(
        f"{100 * rate:g} %: {_others(alone[rate], pooled[rate], rate)}" for rate in (0.01, 0.001)
    )
    return (
        "Area: under the curve, 0.5 by guessing. At 1 % and 0.1 %: members found, in %, where so "
        f"many others are taken for members ({rates}). Advantage: members found less others taken "
        "for members, in points, at the threshold that served the other targets best. Origins: the "
        "area where, of members, only those count that a set holds or started from. Found: p below "
        "0.001 by Student's t over targets"
    )


def _others(alone: Mapping[str, Any], pooled: Mapping[str, Any], rate: float) -> str:
    """How many others a rate is of, in one target or in all of them."""
    if alone["allowed"]:
        return f"{alone['allowed']} of {alone['negatives']:,} in a target"
    few = f"{alone['negatives']:,} in one target are too few, wanted {1 / rate:,.0f}"
    if pooled["allowed"]:
        return (
            f"{few}, so of all targets in one list, {pooled['allowed']} of {pooled['negatives']:,}"
        )
    return f"{few}, and those of all targets likewise"


def _case_words(case: Mapping[str, Any]) -> list[str]:
    title, said = case["title"], []
    if case["found"]:
        said.append(f"{title}: members are found ({', '.join(case['found'])})")
    else:
        said.append(
            f"{title}: no attack found members more surely than guesses would (p below 0.001)"
        )
    if case["origins_found"]:
        said.append(f"{title}: {case['origins']} are found ({', '.join(case['origins_found'])})")
    if case["copies_found"]:
        near = case["copies"]
        said.append(
            f"{title}: {near['near_copies']:,} of {near['images']:,} images are near copies of "
            f"members ({near['near_expected']:.1f} by chance), and the nearest image of "
            f"{near['nearer']:,} is a member ({near['nearer_expected']:.0f} by chance)"
        )
    worst = case.get("vulnerable")
    if worst is not None:
        success = worst["success"]
        said.append(
            f"{title}: of the {len(worst['indices'])} most vulnerable images, chosen by one half "
            f"of the shadows, membership is guessed right in the other half in "
            f"{_percent(success)} % (50 by guessing); {100 * worst['found']:.0f} % of "
            f"the members are found at {100 * worst['alarms']:.0f} % false alarms"
        )
    return said


def _near_columns(used: str, unused: str) -> tuple[str, ...]:
    return (
        "images",
        "nearer (chance)",
        "p",
        "near copies (chance)",
        "p",
        "least ratio",
        f"to {used}, {unused}",
    )


def _near(values: Mapping[str, Any]) -> tuple[str, ...]:
    least = values["ratios"][0]
    return (
        f"{values['images']:,}",
        f"{values['nearer']:,} ({values['nearer_expected']:.1f})",
        _chance(values["nearer_p"]),
        f"{values['near_copies']:,} ({values['near_expected']:.2f})",
        _chance(values["near_p"]),
        "-" if least is None else f"{least:.3f}",
        f"{values['median_used']:.2f}, {values['median_unused']:.2f}",
    )


def _rate(attack: Mapping[str, Any], rate: float) -> str:
    """What is found at a rate of false alarms: the mean over targets, or of all in one list."""
    for kind in ("rates", "pooled"):
        one = next(entry for entry in attack[kind] if entry["rate"] == rate)
        if one["allowed"]:
            error = "" if one["error"] is None else f" ± {100 * one['error']:.2f}"
            return f"{100 * one['share']:.2f}{error}"
    return "too few"


def _area(values: Mapping[str, Any]) -> str:
    area = values["area"]
    error = "" if area["error"] is None else f" ± {area['error']:.3f}"
    return f"{area['mean']:.3f}{error}"


def _percent(value: Mapping[str, Any]) -> str:
    error = "" if value["error"] is None else f" ± {100 * value['error']:.1f}"
    return f"{100 * value['mean']:.1f}{error}"


def _chance(value: float) -> str:
    if value >= 0.001:
        return f"{value:.3f}"
    return f"{value:.0e}" if value >= 1e-99 else "< 1e-99"


def _table(title: str, listing: Listing) -> Table:
    shown = Table(title=title, title_justify="left")
    for place, column in enumerate(listing.columns):
        first = place == 0
        width = _NAME_WIDTH if first else None
        side = "left" if first else "right"
        shown.add_column(column, justify=side, overflow="fold", min_width=width)
    for row in listing.rows:
        shown.add_row(*row)
    return shown
