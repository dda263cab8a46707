"""The data that a command sets out from: as its places say, and in words."""

import numpy as np

from ddpp_jax import cluster
from ddpp_jax.configs import DataConfig, Places
from ddpp_jax.data import Dataset, Stored, load_raw
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.storage import free_room, gib


def data_of(config: DataConfig, places: Places) -> Dataset:
    """The data as they came: in memory, or read when they are asked for, as `places` says."""
    # Processes of one job must not come to different ends of what fits.
    room = cluster.agreed(free_room) if places.images == "auto" else None
    return load_raw(config, images=places.images, cache_dir=places.cache_dir, room=room)


def data_in_memory(config: DataConfig, places: Places, what: str) -> Dataset:
    """The data as they came, for what needs all of them in memory.

    Args:
        config: which data.
        places: how images are to be read.
        what: needs them, for people.

    Raises:
        InputError: `places` asks for something else, or they do not fit.
    """
    require_in_memory(places, what)
    return load_raw(config)


def require_in_memory(places: Places, what: str) -> None:
    """Refuse to stream images for what needs all of them in memory.

    Raises:
        InputError: `places` asks for that.
    """
    if places.images == "stream":
        raise InputError(f"{what} needs all images in memory; leave --images stream out")


def describe_data(raw: Dataset, report: Report) -> None:
    """Say what the data are; warn of classes that nothing is tested on."""
    height, width, channels = raw.x_train.shape[1:]
    report.say(
        f"{raw.name}: {len(raw.y_train)} training and {len(raw.y_test)} test images, "
        f"{height}x{width}x{channels}, {len(raw.class_names)} classes"
    )
    for note in raw.notes:
        report.say(note)
    if isinstance(raw.x_train, Stored):
        size = raw.x_train.itemsize * (raw.x_train.size + raw.x_test.size + raw.x_held.size)
        report.say(f"Images ({gib(size)}) will be streamed from where they are")
    if len(raw.y_held):
        report.say(f"{len(raw.y_held)} training images are kept apart to choose by")
    counts = np.bincount(raw.y_test, minlength=raw.classes)
    lacking = [name for name, count in zip(raw.class_names, counts, strict=True) if not count]
    if lacking:
        report.warn(f"{raw.name} has no test image of {', '.join(lacking)}")
