"""Random keys by name, so that a new kind of draw never changes the old ones."""

import zlib

import jax

from ddpp_jax._types import PRNGKey


def named_key(key: PRNGKey, name: str) -> PRNGKey:
    """The key that belongs to `name` under `key`.

    Unlike a position in `jax.random.split`, a name keeps its key when other names come or go.

    Args:
        key: the parent key.
        name: what the draws are for, such as `"augment"`.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
