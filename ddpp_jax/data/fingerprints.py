"""Fingerprints of data that are read by index, kept while the files stay as they are."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

import ddpp_jax
from ddpp_jax.configs import DECIDE_IMAGES, DataConfig
from ddpp_jax.data.dataset import Source
from ddpp_jax.storage import read_sealed, write_json

KeepFn: TypeAlias = Callable[[str], None]
"""`keep(fingerprint)` keeps it for the next time."""


def kept_fingerprint(
    source: Source, config: DataConfig, cache_dir: Path | None
) -> tuple[str | None, KeepFn | None]:
    """The fingerprint that was kept of such data, and what keeps one if there is none.

    It is found again as long as every file has its path, size and times of change, every image its
    label, and images are cut and split in the same way.

    Args:
        source: the data; without files nothing is kept.
        config: how they are cut and split.
        cache_dir: where it is kept; None keeps nothing.

    Raises:
        InputError: what was kept is damaged.
    """
    if source.files_fn is None or cache_dir is None:
        return None, None
    path = cache_dir / f"images-{_state(source, config)}.json"
    if path.exists():
        kept = read_sealed(path, remedy="delete it, and the same command makes it again")
        return str(kept["fingerprint"]), None
    return None, lambda fingerprint: write_json(path, {"fingerprint": fingerprint})


def _state(source: Source, config: DataConfig) -> str:
    """Sixteen hexadecimal digits that change with any file and with how it is cut and split."""
    assert source.files_fn is not None
    settings = [getattr(config, name) for name in DECIDE_IMAGES]
    said = [ddpp_jax.__version__, source.class_names, settings]
    digest = hashlib.sha256(json.dumps(said).encode())
    for part in (source.train, source.test):
        if part is not None:
            digest.update(np.ascontiguousarray(part.labels()).tobytes())
    for file in source.files_fn():
        found = file.stat()
        times = (found.st_mtime_ns, found.st_ctime_ns)
        digest.update(json.dumps([str(file), found.st_size, *times]).encode())
    return digest.hexdigest()[:16]
