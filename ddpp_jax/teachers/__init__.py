"""Stage 1: teachers, networks trained on the real data and kept after every epoch."""

from ddpp_jax.teachers.buffers import (
    TorchLayout,
    buffer_files,
    content_digest,
    read_buffers,
    teachers_in,
    torch_layout,
    write_buffers,
)
from ddpp_jax.teachers.epochs import (
    How,
    Info,
    State,
    advance_all,
    begin_all,
    epochs_of,
    init,
    sharpness_of,
    step,
)
from ddpp_jax.teachers.training import (
    GROUP,
    group_size,
    lacking,
    run,
    stored_bytes,
)

__all__ = [
    "GROUP",
    "How",
    "Info",
    "State",
    "TorchLayout",
    "advance_all",
    "begin_all",
    "buffer_files",
    "content_digest",
    "epochs_of",
    "group_size",
    "init",
    "lacking",
    "read_buffers",
    "run",
    "sharpness_of",
    "step",
    "stored_bytes",
    "teachers_in",
    "torch_layout",
    "write_buffers",
]
