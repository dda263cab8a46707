"""Real images that stay on the host, and are fetched by the steps that read them."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from ddpp_jax.data import Numbers, Stored, normalise
from ddpp_jax.errors import InputError


@jax.tree_util.register_pytree_node_class
class OnHost:
    """Images of the host in place of an array of the device: those at some places are fetched.

    A compiled step asks the host for the images that it has drawn. They reach the device as they
    came, and are normalised there.
    """

    def __init__(self, stored: Stored, numbers: Numbers | None = None) -> None:
        """Images that are read when they are asked for.

        Args:
            stored: where they are.
            numbers: what the device normalises them by, or its shapes; None asks the images.
        """
        self.stored = stored
        self.numbers = stored.numbers() if numbers is None else numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array: images, height, width, channels."""
        return self.stored.shape

    def __getitem__(
        self, places: Int[Array, "*places"]
    ) -> Float[Array, "*places height width channels"]:
        """The images at some places, as networks see them."""

        def fetch(chosen: Int[Array, "*chosen"]) -> Shaped[np.ndarray, "*chosen height width c"]:
            shape = (*chosen.shape, *self.shape[1:])
            try:
                flat = np.asarray(chosen).reshape(-1)
                return self.stored.for_device(flat).reshape(shape)
            except (InputError, OSError) as error:
                # Raised here it would leave other devices waiting for this one; see `check`.
                self.stored.failures.append(error)
                return np.zeros(shape, self.stored.pixel)

        wanted = jax.ShapeDtypeStruct((*places.shape, *self.shape[1:]), self.stored.pixel)
        pixels = jax.pure_callback(fetch, wanted, places, vmap_method="expand_dims")
        return normalise(self.numbers, pixels)

    def check(self) -> None:
        """Raise what went wrong while steps fetched images, which then were black; after each call.

        Raises:
            InputError: an image is damaged.
            OSError: one cannot be read.
        """
        for error in self.stored.failures:
            raise error

    def tree_flatten(self) -> tuple[tuple[Numbers], Stored]:
        """The numbers as a leaf, and the images as part of the structure."""
        return (self.numbers,), self.stored

    @classmethod
    def tree_unflatten(cls, stored: Stored, leaves: tuple[Any, ...]) -> "OnHost":
        """The inverse."""
        made = object.__new__(cls)
        made.stored, made.numbers = stored, leaves[0]
        return made
