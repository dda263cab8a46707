"""Host memory that a device on the host can take without a copy."""

import numpy as np
from jaxtyping import Float32

ALIGNMENT = 64
"""JAX's CPU backend takes arrays that begin at a multiple of this without a copy (device_put)."""


def aligned_empty(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """A float32 array of any content that `jax.device_put` does not copy on the CPU."""
    size = 4 * int(np.prod(shape))
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(np.float32).reshape(shape)
