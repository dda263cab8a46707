"""A folder of results: computed once, and shown again by the same command."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ddpp_jax import cluster
from ddpp_jax.planning.limits import check_free
from ddpp_jax.planning.problem import finished
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.progress import Report
from ddpp_jax.report import write_report
from ddpp_jax.storage import claimed_folder


class Place(NamedTuple):
    """Where a command leaves its results.

    Attributes:
        folder: which they are in.
        identity: what it is claimed for.
        proven: whether its name tells that.
    """

    folder: Path
    identity: dict[str, Any]
    proven: bool

    def check_free(self) -> None:
        """Refuse a folder that is another's.

        Raises:
            InputError: it is.
        """
        cluster.agreed(lambda: check_free(self.folder, self.identity, proven=self.proven))

    def is_complete(self) -> bool:
        """Whether its results are there."""
        return cluster.agreed((self.folder / "result.json").exists)


def results_in(
    place: Place,
    cache_dir: Path,
    report: Report,
    *,
    compute_fn: Callable[[], dict[str, Any]],
    draw_fn: Callable[[Mapping[str, Any]], None],
    finished_fn: Callable[[Path], dict[str, Any]] = finished,
) -> dict[str, Any]:
    """What `result.json` of a folder holds, computed where it is not there yet.

    Args:
        place: of the results; held meanwhile by this process, or by its job.
        cache_dir: where compiled programs are kept.
        report: told as it goes on.
        compute_fn: computes it, and writes `result.json`.
        draw_fn: leaves the pictures that are not there yet; the page follows.
        finished_fn: reads it, and refuses what is damaged.
    """
    folder, identity, proven = place
    with claimed_folder(folder, identity, name="config.json", proven=proven):
        if place.is_complete():
            found = cluster.agreed(lambda: finished_fn(folder))
            report.say(f"{folder} is complete; its results:")
        else:
            keep_programs(cache_dir)
            with report.run(folder, identity):
                found = compute_fn()
        cluster.agreed(lambda: _leave(place.folder, found, draw_fn))
    return found


def _leave(
    folder: Path, found: Mapping[str, Any], draw_fn: Callable[[Mapping[str, Any]], None]
) -> None:
    draw_fn(found)
    write_report(folder, only_stale=True)
