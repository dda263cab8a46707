"""Arrays on disk: the teachers' trajectories, how they are fed, and a run's checkpoints (Orbax)."""

from ddpp_jax.storage.checkpoints import Checkpoints, Resumed
from ddpp_jax.storage.feed import Feed, FeedFn, OnDevice, Plan, Streamed, device_room, read_all
from ddpp_jax.storage.store import TeacherStore

__all__ = [
    "Checkpoints",
    "Feed",
    "FeedFn",
    "OnDevice",
    "Plan",
    "Resumed",
    "Streamed",
    "TeacherStore",
    "device_room",
    "read_all",
]
