"""The real datasets, one file a source, behind one function."""

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.dataset import Dataset
from ddpp_jax.data.sampling import random_per_class
from ddpp_jax.errors import InputError

__all__ = ["Dataset", "load_dataset", "random_per_class"]


def load_dataset(config: DataConfig) -> Dataset:
    """The dataset that the config names.

    Raises:
        InputError: the name is unknown, or `data_dir` is given for a source that has none.
    """
    if config.dataset != "digits":
        raise InputError(f"--dataset is {config.dataset!r}; wanted digits")
    if config.data_dir is not None:
        raise InputError("the digits come with scikit-learn; leave --data-dir out")
    from ddpp_jax.data import digits

    return digits.load()
