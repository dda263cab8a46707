"""How long the whole of a job will still take, by the pace so far."""

import time
from collections.abc import Callable, Mapping


class Forecast:
    """The seconds that are left of a job of several stages, of which one is at work at a time.

    How much work each stage is stands beforehand, in any unit (operations, say). The stage at work
    goes by its own pace. Those behind it go by the pace of all that was done so far, so the figure
    is as good as their amounts of work compare.
    """

    def __init__(
        self, work: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Forecast a job that has not begun.

        Args:
            work: of each stage, by its name, in the order of the stages.
            clock: gives seconds.
        """
        self._work, self._clock = dict(work), clock
        self._stage, self._total = "", 1
        self._first: tuple[int, float] | None = None
        self._worked = self._seconds = 0.0

    def begin(self, stage: str, total: int) -> None:
        """A stage of `total` units begins; those before it are over."""
        if stage in self._work:
            self._stage, self._total, self._first = stage, total, None

    def left(self, stage: str, done: int) -> float | None:
        """The seconds left of the whole job; None where nothing tells, or nothing comes after.

        Args:
            stage: which is at work; one within another has no figure of its own.
            done: units of it that are behind it by now. The first call of a stage only notes when
                it was, since compilation lies before it.
        """
        if stage != self._stage:
            return None
        now = self._clock()
        if self._first is None:
            self._first = (done, now)
        before, began = self._first
        share = (done - before) / self._total
        names = list(self._work)
        later = sum(self._work[name] for name in names[names.index(stage) + 1 :])
        worked = self._worked + share * self._work[stage]
        seconds = self._seconds + (now - began)
        if not later or not worked:
            return None
        own = seconds * self._work[stage] / worked
        if share:
            own = (now - began) / share
        return own * (1 - done / self._total) + later * seconds / worked

    def end(self, stage: str, done: int) -> None:
        """A stage is over, or is left, after so many units."""
        if stage != self._stage:
            return
        if self._first is not None:
            before, began = self._first
            self._worked += (done - before) / self._total * self._work[stage]
            self._seconds += self._clock() - began
        self._stage, self._first = "", None
