"""How the time of a run is divided between its stages."""

import re
from typing import NamedTuple

from ddpp_jax.errors import InputError

SHARE = 3
"""A run whose settings are found takes about so many times as long as the search for them."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TEACHERS, _PILOTS = 0.3, 0.25
_LEAST_EPOCHS, _MOST_EPOCHS = 4, 12
_LEAST_TEACHERS, _MOST_TEACHERS = 3, 20
_LEAST_STEPS, _MOST_STEPS = 60, 1000
_LEAST_RUNG, _MOST_RUNG = 5, 100
_EVALUATIONS = 2
"""Of a set on the way, the last of them of the last set; one more is made before the first step."""
_ON_THE_WAY = 0.25
"""Share of a run's time beyond which sets are evaluated at the end alone."""
_SPARE = 0.85
"""Share of the time that is left which steps and evaluations are planned to take."""

_LAST_FIELD = 3


class Costs(NamedTuple):
    """Seconds that are left, of a step of one distillation, and of an evaluation of one set."""

    left: float
    step: float
    evaluation: float


class Asked(NamedTuple):
    """What of a run's length is given by hand.

    Attributes:
        steps: of distillation.
        every: steps between evaluations; 0 for one at the end alone.
        needed: whether sets must be evaluated on the way.
        least: steps that the pilots were chosen by; a run whose steps are not given makes as many.
    """

    steps: int | None = None
    every: int | None = None
    needed: bool = False
    least: int = 0


class Budget(NamedTuple):
    """The seconds of a whole run, and what is made of them."""

    seconds: float

    def teachers_and_epochs(
        self, epoch: float, *, teachers: int | None = None, epochs: int | None = None
    ) -> tuple[int, int]:
        """How many teachers, and how many epochs of each.

        Args:
            epoch: seconds of an epoch of one teacher.
            teachers: how many there are, where that is fixed.
            epochs: how many there are, where that is fixed.
        """
        whole = max(1.0, _TEACHERS * self.seconds / epoch)
        if epochs is None:
            wanted = (2 * whole) ** 0.5 if teachers is None else whole / teachers
            epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, round(wanted)))
        if teachers is None:
            teachers = min(_MOST_TEACHERS, max(_LEAST_TEACHERS, int(whole / epochs)))
        return teachers, epochs

    def rungs(self, pilots: int, step: float) -> list[int]:
        """Steps after which pilots are compared: half of them go on, for twice as many.

        Args:
            pilots: how many begin.
            step: seconds of a distillation step.
        """
        fields = _fields(pilots)
        units = sum(going * 2**rung for rung, going in enumerate(fields))
        first = int(_PILOTS * self.seconds / max(1e-9, step * max(1, units)))
        first = min(_MOST_RUNG, max(_LEAST_RUNG, first))
        return [first * (2 ** (rung + 1) - 1) for rung in range(len(fields))]

    def length(
        self, costs: Costs, asked: Asked, *, members: int, draws: int = 0
    ) -> tuple[int, int]:
        """Distillation steps of the run itself, and after how many its sets are evaluated.

        Args:
            costs: seconds of what it is made of.
            asked: what is given by hand.
            members: distillations that go side by side.
            draws: sets of random real images that are evaluated too.

        Returns:
            The steps, and those between evaluations; 0 where these are made at the end alone.
        """
        each = members * costs.evaluation
        left = _SPARE * costs.left - each - draws * costs.evaluation
        step = members * costs.step
        if asked.every:
            left, step = left - each, step + each / asked.every
        steps = asked.steps or _steps(left, step, asked.least)
        if asked.every is not None:
            return steps, asked.every
        on_the_way = _EVALUATIONS * each
        if not asked.needed and on_the_way > _ON_THE_WAY * max(self.seconds, steps * step):
            return steps, 0
        steps = asked.steps or _steps(left - on_the_way, step, asked.least)
        return steps, max(1, steps // _EVALUATIONS)


def _steps(left: float, step: float, least: int) -> int:
    """How many steps the time allows, as a multiple of the evaluations on the way."""
    most, least = int(max(0.0, left) / step), -(-least // _EVALUATIONS) * _EVALUATIONS
    return min(_MOST_STEPS, max(_LEAST_STEPS, least, most // _EVALUATIONS * _EVALUATIONS))


def _fields(pilots: int) -> list[int]:
    """How many pilots are compared each time; of three or fewer the best is taken."""
    found = []
    while pilots > 1:
        found.append(pilots)
        if pilots <= _LAST_FIELD:
            break
        pilots = (pilots + 1) // 2
    return found


def seconds_of(text: str) -> float:
    """The seconds of a time such as `90s`, `10m` or `1.5h`.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise InputError(f"--budget is {text!r}; wanted a time such as 90s, 10m or 1h")
    return float(found[1]) * _UNITS[found[2]]
