"""Files: written whole or not at all, checked when read; folders of one process."""

from ddpp_jax.storage.checkpoints import Checkpoints
from ddpp_jax.storage.claims import (
    check_claim,
    check_unheld,
    check_writable,
    claimed_folder,
    differences,
    is_held,
    read_claim,
)
from ddpp_jax.storage.files import Replacement, expanded, plain_file
from ddpp_jax.storage.leases import Leases
from ddpp_jax.storage.machine import (
    Room,
    aligned_empty,
    cores,
    device_bytes,
    free_bytes,
    free_room,
    gib,
    require_space,
)
from ddpp_jax.storage.rows import append_row, cut_torn_row, read_rows, write_rows
from ddpp_jax.storage.sealed import (
    DIGEST,
    decode_json,
    digest_of,
    read_json,
    read_sealed,
    require_kind,
    require_type,
    write_json,
)
from ddpp_jax.storage.tensors import load_tensors, metadata_of, read_tensors, write_tensors
from ddpp_jax.storage.trajectories import TeacherStore

__all__ = [
    "DIGEST",
    "Checkpoints",
    "Leases",
    "Replacement",
    "Room",
    "TeacherStore",
    "aligned_empty",
    "append_row",
    "check_claim",
    "check_unheld",
    "check_writable",
    "claimed_folder",
    "cores",
    "cut_torn_row",
    "decode_json",
    "device_bytes",
    "differences",
    "digest_of",
    "expanded",
    "free_bytes",
    "free_room",
    "gib",
    "is_held",
    "load_tensors",
    "metadata_of",
    "plain_file",
    "read_claim",
    "read_json",
    "read_rows",
    "read_sealed",
    "read_tensors",
    "require_kind",
    "require_space",
    "require_type",
    "write_json",
    "write_rows",
    "write_tensors",
]
