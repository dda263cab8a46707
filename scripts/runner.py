"""Runs each command once, for the scripts that make tables of many.

A command that is complete is not run again, and one that was killed goes on. Several processes, as
of a job array, may share the work: each takes commands that no other one is at.
"""

import dataclasses
import subprocess
import sys
import time

import ddpp_jax
from ddpp_jax.configs import setting
from ddpp_jax.errors import InputError
from ddpp_jax.storage import Leases, claimed_folder, digest_of, is_held, read_json, write_json

BROKEN = 2
"""The exit status of a distillation that breaks down, and of one that is refused, with no rows."""
SECONDS_BETWEEN_LOOKS = 5
"""At commands that other processes are at."""


class Elsewhere(Exception):  # noqa: N818 - nothing went wrong
    """Another process runs this command now."""


class Runner:
    """Runs commands, each once."""

    def __init__(self, folder, data_dir, leases=None):
        self.folder, self.data_dir, self._leases = folder, data_dir, leases

    def command(self, name, stage, named, *flags):
        """The arguments of `python -m` of one command, and the folder of its results.

        Where the flags or the named setting have changed since, it is another folder.
        """
        given = (named,) if stage in ("distill", "select") else ()
        settings = settings_of(stage, named, flags)
        own = [flag.removeprefix(f"{self.folder}/") for flag in flags]  # Wherever the folder lies.
        digest = digest_of({"settings": settings, "flags": own})
        out = self.folder / f"{name}-{digest[:8]}"
        # The digits come with scikit-learn, and have no folder.
        data = () if settings["data"]["dataset"] == "digits" else ("--data-dir", self.data_dir)
        return [f"ddpp_jax.{stage}", *given, *flags, *data, "--out", str(out)], out

    def _run(self, stage, command, out):
        try:
            subprocess.run([sys.executable, "-m", *command, *alone(stage)], check=True)
        except subprocess.CalledProcessError as error:
            if is_held(out):  # By the command of a table that was killed.
                raise Elsewhere from error
            raise

    def call(self, name, stage, named, *flags):
        """Run one command, unless it was complete before; the folder of its results.

        Raises:
            Elsewhere: another process is at it.
        """
        command, out = self.command(name, stage, named, *flags)
        mark = self.folder / "done" / f"{out.name}.json"
        cell = {"command": command, "version": ddpp_jax.__version__}
        cell["settings"] = settings_of(stage, named, flags)
        left = out / ("distilled.safetensors" if stage == "select" else "result.json")

        def lacks():
            return not (left.exists() and mark.exists() and read_json(mark) == cell)

        if lacks():
            if self._leases is not None and not self._leases.take(name):
                raise Elsewhere
            try:
                if lacks():
                    print(f"\n== {name}", flush=True)
                    self._run(stage, command, out)
                    write_json(mark, cell)
            finally:
                if self._leases is not None:
                    self._leases.give_back(name)
        return out

    def attempt(self, name, named, *flags):
        """The folder of a distillation that is run to its end; None where it breaks down.

        That it breaks down is kept, so that it is found out once.
        """
        command, out = self.command(name, "distill", named, *flags)
        mark = self.folder / "done" / f"{out.name}-broken.json"
        if mark.exists() and read_json(mark) == {"command": command}:
            return None
        before = last_step(out)
        try:
            return self.call(name, "distill", named, *flags)
        except subprocess.CalledProcessError as error:
            # One that is refused leaves the status of one that breaks down, and makes no steps.
            if error.returncode != BROKEN or last_step(out) == before:
                raise
            write_json(mark, {"command": command})
            return None


def last_step(folder):
    """When a distillation, or one of several side by side, last told of a step; 0 for never."""
    return max((path.stat().st_mtime_ns for path in folder.rglob("metrics.jsonl")), default=0)


def settings_of(stage, named, flags):
    """The named settings that a command varies, or evaluates by."""
    by_method = stage == "distill" and "--method" in flags
    method = flags[flags.index("--method") + 1] if by_method else "ddpp"
    return dataclasses.asdict(setting(named, method))


def alone(stage):
    """Flags that keep commands which a job array starts from taking one another for one job."""
    return ("--processes", "1") if stage in ("distill", "evaluate") else ()


def each(keys, fn):
    """What a function gives for each key; those that other processes are at come last."""
    found, left = {}, list(keys)
    while left:
        later = []
        for key in left:
            try:
                found[key] = fn(key)
            except Elsewhere:
                later.append(key)
        if len(later) == len(left):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        left = later
    return found


def resumable(program, folder, settings, work):
    """Print what `work(leases)` gives in a folder that several processes may share.

    Every error is one line, and the same command goes on from there.
    """
    try:
        claim = claimed_folder(folder, settings, name=f"{program}.json", shared=True)
        with claim, Leases(folder / "leases") as leases:
            print(work(leases))
    except InputError as error:
        sys.exit(f"scripts/{program}: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"a command left with status {error.returncode}; then this one goes on from here")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
