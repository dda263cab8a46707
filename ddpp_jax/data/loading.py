"""A dataset read as its config says, from whichever source that names."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from ddpp_jax.configs import DataConfig, Reading
from ddpp_jax.data.arrays import digits_source, is_npy_folder, npy_source, npz_source
from ddpp_jax.data.checks import Pixels, require_memory, shape_words
from ddpp_jax.data.dataset import Dataset, Part, Source, held_out, normalised, raw_dataset
from ddpp_jax.data.fingerprints import kept_fingerprint
from ddpp_jax.data.folder import folder_source, mixed_side
from ddpp_jax.data.sampling import HELD_OUT, per_class_subset, stratified_split
from ddpp_jax.data.stored import Stored
from ddpp_jax.data.tfds import prepared_folder, tfds_source
from ddpp_jax.data.whitening import fit_transform
from ddpp_jax.errors import InputError, words
from ddpp_jax.storage import Room, expanded, free_room, plain_file
from ddpp_jax.text import checked_name, checked_names, cut


def load_dataset(config: DataConfig, *, cache_dir: Path | None = None) -> Dataset:
    """The dataset that the config names, normalised or whitened as it says; see `fit_transform`.

    Raises:
        InputError: it cannot be had so.
    """
    raw = load_raw(config)
    zca, contrast = config.zca, config.contrast
    return normalised(raw, fit_transform(raw, zca=zca, contrast=contrast, cache_dir=cache_dir))


def load_raw(
    config: DataConfig,
    *,
    images: Reading = "device",
    cache_dir: Path | None = None,
    room: Room | None = None,
) -> Dataset:
    """The dataset that the config names, in its channels and size, split and cut down as it says.

    A source without a test set is split first; `per_class` then counts training images, of which
    `held_out` keeps a share apart.

    Args:
        config: which data, and how they are cut.
        images: as for `dataset_of`.
        cache_dir: as for `dataset_of`.
        room: as for `dataset_of`.

    Raises:
        InputError: the dataset cannot be had, or is damaged, or too big for the memory.
    """
    try:
        source = _source(config)
        return dataset_of(source, config, images=images, cache_dir=cache_dir, room=room)
    except OSError as error:
        raise InputError(f"--dataset {config.dataset} cannot be read: {words(error)}") from error


def dataset_of(
    source: Source,
    config: DataConfig,
    *,
    images: Reading = "device",
    cache_dir: Path | None = None,
    room: Room | None = None,
) -> Dataset:
    """The dataset of a source, such as one that `records_source` makes of other people's data.

    Args:
        source: what is there to be read.
        config: how the images are split and cut down; the source has their channels and size.
        images: `device` reads all of them into memory; `stream` reads them when they are asked for
            (`Stored`), so that no more than a few minibatches of uint8 are in memory; `auto` reads
            them into memory where they fit there and on the device.
        cache_dir: where `keep` keeps what takes the reading of all images, while the files stay as
            they are; None keeps it nowhere.
        room: by which `auto` decides; None asks this machine.

    Raises:
        InputError: something in it cannot be used, or it is too big for the memory.
    """
    # The name is part of the names of folders.
    name = cut(checked_name(source.name, "--dataset: the dataset"))
    names, seed = checked_names(source.class_names, name), config.split_seed
    labels = None if source.test and config.per_class is None else source.train.labels()
    test_part = source.test or source.train
    train, test = np.arange(source.train.length), np.arange(test_part.length)
    if source.test is None:
        assert labels is not None
        train, test = stratified_split(labels, config.test_share, seed, class_names=names)
    if config.per_class is not None:
        assert labels is not None
        subset = per_class_subset(labels[train], config.per_class, seed, class_names=names)
        train = train[subset]
    stored = _is_stored(source, len(train) + len(test), images, room)
    known, keep_fn = None, None
    if stored:
        x_train, y_train = _stored(source, source.train, train)
        x_test, y_test = _stored(source, test_part, test)
        known, keep_fn = kept_fingerprint(source, config, cache_dir)
    else:
        x_train, y_train = source.train.read(train)
        x_test, y_test = test_part.read(test)
    cuts = config.held_out is not None
    raw = raw_dataset(
        name=name,
        class_names=names,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        fingerprint="" if cuts else known,
    )
    raw = replace(raw, scale=source.scale, notes=source.notes)
    if config.held_out is not None:
        parts = stratified_split(
            raw.y_train, config.held_out, seed, class_names=names, purpose=HELD_OUT
        )
        raw = held_out(raw, *parts, fingerprint=known)
    return raw if keep_fn is None else replace(raw, keep_fn=partial(keep_fn, raw.fingerprint))


def _is_stored(source: Source, count: int, images: Reading, room: Room | None) -> bool:
    """Whether images are read when they are asked for.

    Raises:
        InputError: they are to be in memory, and do not fit.
    """
    pixels = count * int(np.prod(source.shape))
    needed = pixels * (source.itemsize + 4)
    if images == "auto":
        memory, device = free_room() if room is None else room
        return needed > memory or 4 * pixels > device
    if images == "device":
        require_memory(
            needed,
            what=f"{count:,} images of {shape_words(source.shape)}",
            remedy="give a lower --image-size or --per-class",
        )
    return images == "stream"


def _stored(
    source: Source, part: Part, places: Int[np.ndarray, " places"]
) -> tuple[Stored, Shaped[np.ndarray, " places"]]:
    """The images of a part, none of which is read, and their labels."""

    def read(chosen: Int[np.ndarray, " _chosen"]) -> Pixels:
        return part.read(chosen)[0]

    pixel = np.dtype(np.uint8 if source.itemsize == 1 else np.float32)
    return Stored(read, places, source.shape, pixel), part.labels()[places]


def _source(config: DataConfig) -> Source:
    if config.dataset == "digits":
        return digits_source(config)
    path = _path(config)
    if config.dataset.endswith(".npz"):
        return npz_source(plain_file(path), config)
    if path.is_dir() and is_npy_folder(path):
        return npy_source(path, config)
    if path.is_dir():
        prepared = prepared_folder(path)
        return folder_source(path, config) if prepared is None else tfds_source(prepared, config)
    if path.exists() or config.dataset.startswith(("/", ".", "~")):
        held = "does not exist"
        if path.exists():
            held = "is a file" if path.is_file() else "is neither a file nor a folder"
        raise InputError(
            f"--dataset {config.dataset}: {path} {held}; wanted a folder of images or an .npz file"
        )
    return tfds_source(None, config)


def side_for(config: DataConfig) -> int | None:
    """The side to bring images to that have to be resized; None for those that do not.

    They have to be where they are a folder's and not square, or not of one size; see `mixed_side`.

    Raises:
        InputError: the folder does not hold images class by class.
    """
    path = _path(config)
    if config.dataset == "digits" or not path.is_dir() or is_npy_folder(path):
        return None
    try:
        return mixed_side(path, crop=config.crop) if prepared_folder(path) is None else None
    except OSError as error:
        raise InputError(f"--dataset {config.dataset} cannot be read: {words(error)}") from error


def _path(config: DataConfig) -> Path:
    """Where `--dataset` would be as a file or a folder: in `--data-dir`, or else as it stands."""
    path = expanded(config.dataset)
    if config.data_dir is not None:
        folder = expanded(config.data_dir)
        if not folder.is_dir():
            raise InputError(
                f"--data-dir {config.data_dir} is not a folder; give one that is there"
            )
        if (folder / path).exists():
            return folder / path
    return path
