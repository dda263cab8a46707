"""The handwritten digits that ship inside scikit-learn."""

import numpy as np
from sklearn.datasets import load_digits

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.pixels import array_part, converted_shape
from ddpp_jax.data.raw import Source
from ddpp_jax.errors import InputError


def digits_source(config: DataConfig) -> Source:
    """1,797 grey 8x8 images of ten digits: 1,442 to train on, 355 to test on.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998. The split is
    fixed and stratified: within each class every fifth image, in the order of the file, is a test
    image.

    Raises:
        InputError: `data_dir` or `range` is given.
    """
    if config.data_dir is not None:
        raise InputError("the digits come with scikit-learn; leave --data-dir out")
    if config.range is not None:
        raise InputError("the digits are pixels from 0 to 1 already; leave --range out")
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    return Source(
        name="digits",
        class_names=tuple(str(label) for label in range(10)),
        shape=converted_shape((8, 8, 1), config),
        itemsize=4,
        train=array_part(images[~is_test], labels[~is_test], config),
        test=array_part(images[is_test], labels[is_test], config),
    )
