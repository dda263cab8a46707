"""Leases: pieces of work that processes, also of other machines, share without doing one twice.

A lease is a file beside what it stands for. Its holder touches it now and then, and it ends when
the file is removed, has not been touched for `SECONDS_OF_A_LEASE`, or is of a process of this
machine that is gone. Times are those of the file system, so the clocks of machines do not count.
"""

import contextlib
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from ddpp_jax import cluster
from ddpp_jax.errors import InputError
from ddpp_jax.storage.files import HOST, Replacement, process_is_gone
from ddpp_jax.storage.sealed import read_json

SECONDS_OF_A_LEASE = 120.0
"""The holder is taken for dead that long after it last touched its lease."""

_SECONDS_BETWEEN_TOUCHES = 15.0
_LOCK = ".leases.lock"


class Leases:
    """The leases that this process holds in a folder."""

    def __init__(self, folder: Path) -> None:
        """Hold none yet.

        Args:
            folder: of the leases; made if need be.
        """
        self._folder, self._held, self._token = folder, dict[str, Path](), secrets.token_hex(8)
        self._over, self._thread = threading.Event(), None

    def __enter__(self) -> "Leases":
        """Begin to touch what is held now and then; the leading process of a job does."""
        if not cluster.leads():
            return self
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._touch, name="leases", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give back all that is held."""
        self._over.set()
        for name in list(self._held):
            self.give_back(name)

    def take(self, name: str) -> bool:
        """Whether this process may do a piece of work now, and others may not.

        Args:
            name: of the piece, a part of a file's name.

        Raises:
            OSError: the folder may not be written to.
        """
        path = self._folder / f"{name}.lease"
        with self._alone():
            if path.exists() and not self._is_over(path):
                return False
            own = {"host": HOST, "pid": os.getpid(), "token": self._token}
            with Replacement(path) as temporary:
                temporary.write_text(json.dumps(own) + "\n")
        self._held[name] = path
        return True

    def hold(self, name: str) -> bool:
        """Whether a lease that was taken is held still: a process that slept may have lost it."""
        return name in self._held and self._is_own(self._held[name])

    def give_back(self, name: str) -> None:
        """Let others do what is left of a piece of work."""
        path = self._held.pop(name)
        with self._alone():
            if self._is_own(path):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Look at leases and change them while no other process does."""
        with (self._folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _is_over(self, path: Path) -> bool:
        """Whether a lease is of a process that is gone: at once on this machine, else by time."""
        now = self._folder / _LOCK
        os.utime(now)
        try:
            age = now.stat().st_mtime - path.stat().st_mtime
            holder = read_json(path)
        except (FileNotFoundError, InputError):
            return True  # It was given back just now, or is damaged.
        pid, here = holder.get("pid"), holder.get("host") == HOST
        # Another process may have got its number since.
        return age > SECONDS_OF_A_LEASE or (here and isinstance(pid, int) and process_is_gone(pid))

    def _is_own(self, path: Path) -> bool:
        try:
            return read_json(path).get("token") == self._token
        except (FileNotFoundError, InputError):
            return False

    def _touch(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_TOUCHES):
            for path in list(self._held.values()):
                # A file server that does not answer now may do so the next time.
                with contextlib.suppress(OSError):
                    if self._is_own(path):
                        os.utime(path)
