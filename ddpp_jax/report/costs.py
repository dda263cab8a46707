"""Seconds and memory by stage."""

import datetime
from typing import Any

from ddpp_jax.report.read import Run


def costs(run: Run) -> dict[str, Any]:
    """Seconds and memory by stage, over all processes that worked on the run."""
    stages: dict[str, dict[str, Any]] = {}
    lasting: dict[str, float] = {}
    for row in run.log:
        name = row.get("stage")
        if name is None:
            continue
        stage = stages.setdefault(
            name,
            {"name": name, "seconds": 0.0, "memory": 0, "device": 0, "done": "", "total": None},
        )
        if row["event"] == "stage":
            # What a process that was killed last said of its seconds counts.
            stage["seconds"] += lasting.pop(name, 0.0)
            stage["total"], stage["unit"] = row["total"], row["unit"]
        elif row["event"] == "tick":
            lasting[name] = row["seconds"]
        elif row["event"] == "end":
            lasting.pop(name, None)
            stage["seconds"] += row["seconds"]
            stage["memory"] = max(stage["memory"], row["memory_mib"] or 0)
            stage["device"] = max(stage["device"], row["device_mib"] or 0)
        if stage["total"] is not None:  # Its row may have been damaged.
            stage["done"] = f"{row['done']:,} of {stage['total']:,} {stage['unit']}s"
    for name, stage in stages.items():
        seconds = stage["seconds"] + lasting.get(name, 0.0)
        stage["time"] = _duration(seconds)
    if stages:
        stages["the whole run"] = {
            "name": "the whole run, with starting, loading and drawing",
            "done": "",
            "time": _duration(sum(_seconds_of_processes(run))),
            "memory": max(stage["memory"] for stage in stages.values()),
            "device": max(stage["device"] for stage in stages.values()),
        }
    count = sum(row["event"] == "start" for row in run.log)
    return {
        "stages": list(stages.values()),
        "on_device": any(stage["device"] for stage in stages.values()),
        "processes": f"{count} process{'es' if count != 1 else ''}",
    }


def _seconds_of_processes(run: Run) -> list[float]:
    """How long each process worked; of one that was killed, what its stages took."""
    found: list[float] = []
    stages = last = 0.0
    for row in [*run.log, {"event": "start"}]:
        if row["event"] == "start":
            found.append(stages + last)
            stages = last = 0.0
        elif row["event"] == "tick":
            last = row["seconds"]
        elif row["event"] == "end":
            stages, last = stages + row["seconds"], 0.0
        elif row["event"] in ("finish", "stop"):
            stages, last = row["seconds"], 0.0
    return found


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return str(datetime.timedelta(seconds=round(seconds)))
