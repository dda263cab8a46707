"""Where things are kept and how they are read: what has no influence on any figure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where teachers and whitening are kept, and how the teachers are read."""

    teachers_dir: Path = Path("runs/teachers")
    """Folder of all teachers; each setting has a subfolder of its own."""

    cache_dir: Path = Path("runs/cache")
    """Folder for what was fitted to the data and can be fitted again (ZCA)."""

    read: Literal["auto", "device", "stream"] = "auto"
    """Hold the teachers on the device, stream them from disk, or decide by what fits."""
