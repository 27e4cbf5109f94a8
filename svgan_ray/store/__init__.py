"""The latent store: a folder or a bucket that holds W+ of clips, content-addressed and committed last."""

from svgan_ray.store.backend import Backend, Entry, ObjectNotFoundError
from svgan_ray.store.latent_store import LatentStore, UnequalWorkError, open_store
from svgan_ray.store.objects import Usage
from svgan_ray.store.records import (
    ChunkRef,
    ClipRecord,
    CommitRecord,
    FailureRecord,
    ObjectRef,
    SkippedRecord,
    Snapshot,
    SnapshotClip,
    TrackRecord,
)
from svgan_ray.store.snapshots import Filters, select

__all__ = [
    "Backend",
    "ChunkRef",
    "ClipRecord",
    "CommitRecord",
    "Entry",
    "FailureRecord",
    "Filters",
    "LatentStore",
    "ObjectNotFoundError",
    "ObjectRef",
    "SkippedRecord",
    "Snapshot",
    "SnapshotClip",
    "TrackRecord",
    "UnequalWorkError",
    "Usage",
    "open_store",
    "select",
]
