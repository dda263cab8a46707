"""Files written whole or not at all, read only as they were written, and folders of one process."""

from ddpp_jax.files.claims import (
    check_claim,
    check_unheld,
    claimed_folder,
    differences,
    is_held,
    read_claim,
)
from ddpp_jax.files.plain import expanded, plain_file
from ddpp_jax.files.replacement import Replacement, sync_tree
from ddpp_jax.files.rows import append_row, cut_torn_row, read_rows, write_rows
from ddpp_jax.files.sealed import (
    decode_json,
    digest_of,
    read_json,
    read_sealed,
    write_json,
)
from ddpp_jax.files.space import checksums, free_bytes, gib, require_space

__all__ = [
    "Replacement",
    "append_row",
    "check_claim",
    "check_unheld",
    "checksums",
    "claimed_folder",
    "cut_torn_row",
    "decode_json",
    "differences",
    "digest_of",
    "expanded",
    "free_bytes",
    "gib",
    "is_held",
    "plain_file",
    "read_claim",
    "read_json",
    "read_rows",
    "read_sealed",
    "require_space",
    "sync_tree",
    "write_json",
    "write_rows",
]
