"""The handwritten digits that ship inside scikit-learn."""

import numpy as np
from sklearn.datasets import load_digits

from ddpp_jax.data.dataset import Dataset, normalised


def load() -> Dataset:
    """1,797 grey 8x8 images of ten digits: 1,442 to train on, 355 to test on.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998. The split is
    fixed and stratified: within each class every fifth image, in the order of the file, is a test
    image.
    """
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    return normalised(
        name="digits",
        class_names=tuple(str(label) for label in range(10)),
        x_train=images[~is_test],
        y_train=labels[~is_test],
        x_test=images[is_test],
        y_test=labels[is_test],
    )
