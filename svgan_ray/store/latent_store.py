"""The latent store: which object is written under which key, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from svgan_ray.errors import (
    ConfigError,
    ConflictError,
    CorruptObjectError,
    DataError,
    StoreAccessError,
)
from svgan_ray.latents.clips import ClipLatents
from svgan_ray.store import codec, keys
from svgan_ray.store.backend import Backend, Entry, ObjectNotFoundError
from svgan_ray.store.folder import FolderBackend
from svgan_ray.store.models import ModelStore
from svgan_ray.store.objects import in_threads, is_fresh
from svgan_ray.store.outlines import TrackOutline, listed_outlines, outline_name, outline_of
from svgan_ray.store.records import (
    ChunkRef,
    CommitRecord,
    FailureRecord,
    ObjectRef,
    Snapshot,
    StoreMarker,
    TrackRecord,
)

__all__ = ["LatentStore", "UnequalWorkError", "backend_of", "open_store"]


class UnequalWorkError(ConflictError):
    """A clip was committed before with other latents; `largest_difference` is between the two w_plus."""

    def __init__(self, message: str, largest_difference: float) -> None:
        super().__init__(message, largest_difference)
        self.largest_difference = largest_difference

    def __str__(self) -> str:
        return str(self.args[0])


def open_store(uri: str | Path, create: bool = False) -> LatentStore:
    """Open the store in a folder or at s3://bucket/prefix; with `create`, create it if it does not exist.

    Raises ConfigError, StoreSchemaError, StoreAccessError (missing, forbidden, read-only, wrong region, ...).
    """
    store = LatentStore(backend_of(str(uri)), str(uri))
    try:
        StoreMarker.from_json(store.backend.get(keys.MARKER), keys.MARKER)
    except ObjectNotFoundError:
        if not create:
            raise StoreAccessError(
                f"{uri}: no latent store here (no {keys.MARKER}); check the address, or let jobs/invert.py "
                "make one"
            ) from None
        store.backend.put_if_absent(keys.MARKER, StoreMarker().to_json())
    return store


def backend_of(uri: str) -> Backend:
    """The backend for an address. Raises ConfigError."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderBackend(Path(uri))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"store {uri!r}: expected a folder or s3://bucket/prefix")
    from svgan_ray.store.s3 import S3Backend  # imported here because a folder store needs no boto3

    return S3Backend(bucket, prefix)


class LatentStore(ModelStore):
    """Tracks, latents, failures, bases, snapshots and models in a backend.

    Methods that get a record return None if the record does not exist. Methods that create a record only if
    it is absent return the record that the store holds afterwards. All content is checked against its sha256
    whenever it is read.
    """

    # Sources and tracks

    def put_source(self, uri: str, size_bytes: int, version: str, video_id: str) -> None:
        """Record which video a file holds, so that planning need not read the file again."""
        self.backend.put(keys.source(keys.source_id(uri, size_bytes, version), video_id), b"")

    def sources(self) -> dict[str, str]:
        """Video id by source id (keys.source_id), in one listing."""
        parts = (entry.key.split("/") for entry in self.backend.list("sources/"))
        return {source_id: video_id for _, source_id, video_id in parts}

    def put_track(
        self,
        record: TrackRecord,
        tensors: Mapping[str, Tensor],
        landmarks: Mapping[str, Tensor] | None = None,
    ) -> TrackRecord:
        """Store a video's track unless the store has one; returns the stored track, whose clips must be used.

        Tensors are named "<clip_id>.quad" [T, 4, 2], "<clip_id>.interpolated" [T], "<clip_id>.time_s" [T] and
        "<clip_id>.person" [1], counted from 0; landmarks "<clip_id>.landmarks" [T, 68, 2].
        """
        data = codec.encode_tensors(tensors)
        outline = outline_name(record)
        key = keys.track_tensors(record.tracking_id, record.video_id, outline, codec.sha256_of(data))
        record = replace(record, tensors=self.put_content(key, data))
        if landmarks:
            data = codec.encode_tensors(landmarks)
            key = keys.track_landmarks(record.tracking_id, record.video_id, codec.sha256_of(data))
            record = replace(record, landmarks=self.put_content(key, data))
        return self.put_once(keys.track(record.tracking_id, record.video_id), record)

    def get_track(self, tracking_id: str, video_id: str) -> TrackRecord | None:
        """The track of a video."""
        return self.record(TrackRecord, keys.track(tracking_id, video_id))

    def track_tensors(self, record: TrackRecord) -> dict[str, Tensor]:
        """The tensors that were put with a track."""
        return self._tensors(record.tensors) if record.tensors else {}

    def landmarks(self, ref: ObjectRef) -> dict[str, Tensor]:
        """The landmarks that `TrackRecord.landmarks` names; tracks of earlier versions have none."""
        return self._tensors(ref)

    def tracks(self, tracking_id: str) -> Iterator[TrackRecord]:
        """All tracks with one tracking id, in the order of their video ids."""
        return self.records(TrackRecord, self.record_keys(keys.tracks(tracking_id)))

    def track_outlines(self, tracking_id: str) -> dict[str, TrackOutline]:
        """The clips of every tracked video by video id, from one listing; few or no records are read."""
        listed = self.backend.list(keys.tracks(tracking_id))
        outlines, unclear = listed_outlines((entry.key for entry in listed), tracking_id)
        records = self.records(TrackRecord, (keys.track(tracking_id, video_id) for video_id in unclear))
        return outlines | {record.video_id: outline_of(record) for record in records}

    # Chunks

    def put_chunk(
        self, inversion_id: str, clip_id: str, number: int, tensors: Mapping[str, Tensor]
    ) -> ChunkRef:
        """Store one chunk of a clip; if the same content exists already, it is not stored again.

        w_plus [T, num_ws, w_dim] float32 or float16, quad [T, 4, 2], time_s [T], error [T] (NaN: unknown),
        interpolated [T] and, only with float16, rounding [T]; see codec.encode_chunk. Raises DataError.
        """
        data, frames = codec.encode_chunk(tensors, f"chunk {number} of clip {clip_id}")
        key = keys.chunk(inversion_id, clip_id, number, codec.sha256_of(data))
        return _chunk_ref(self.put_content(key, data), frames)

    def read_chunk(self, ref: ChunkRef) -> dict[str, Tensor]:
        """The tensors of one chunk. Raises CorruptObjectError, ObjectNotFoundError."""
        return self._tensors(ref)

    def stored_chunks(self, inversion_id: str, clip_id: str) -> dict[int, ChunkRef]:
        """The undamaged chunks that a killed writer left of a clip, by number; each is read and verified.

        Old chunks are copied, because a collector may be about to delete them; it does not touch the copies
        for days.
        """
        found: dict[int, ChunkRef] = {}
        for entry in self.backend.list(keys.chunks(inversion_id, clip_id)):
            number = keys.chunk_number(entry.key)
            if number is not None and number not in found:
                with suppress(CorruptObjectError, ObjectNotFoundError):
                    found[number] = self._stored_chunk(entry)
        return found

    # Commits

    def commit(self, record: CommitRecord) -> bool:
        """Declare a clip complete. True: it was committed now; False: equal latents were committed before.

        Raises UnequalWorkError if other latents were committed before (they are kept), ObjectNotFoundError if
        a chunk is missing, and DataError if the chunks do not add up to the clip.
        """
        if sum(chunk.frames for chunk in record.chunks) != record.frames:
            raise DataError(f"clip {record.clip_id}: its chunks do not add up to its {record.frames} frames")
        record = replace(record, chunks=self._fresh_chunks(record))
        standing = self.put_once(keys.commit(record.inversion_id, record.clip_id), record)
        if standing is record:
            return True
        difference = self._largest_difference(standing, record)
        if difference == 0:
            return False
        raise UnequalWorkError(
            f"clip {record.clip_id} was committed before by {standing.node} with other latents (w_plus "
            f"differs by up to {difference:.3g}); the first is kept",
            difference,
        )

    def get_commit(self, inversion_id: str, clip_id: str) -> CommitRecord | None:
        """The commit of a clip."""
        return self.record(CommitRecord, keys.commit(inversion_id, clip_id))

    def commits(self, inversion_id: str) -> Iterator[CommitRecord]:
        """All commits of one inversion, in the order of their clip ids."""
        return self.records(CommitRecord, self.record_keys(keys.commits(inversion_id)))

    def committed_ids(self, inversion_id: str) -> set[str]:
        """Ids of the committed clips, in one listing."""
        return {keys.stem(key) for key in self.record_keys(keys.commits(inversion_id))}

    def read_clip(self, inversion_id: str, clip_id: str) -> ClipLatents:
        """A whole committed clip; w_plus is float32. Raises ObjectNotFoundError, CorruptObjectError."""
        record = self.get_commit(inversion_id, clip_id)
        if record is None:
            raise ObjectNotFoundError(
                f"{self.uri}: clip {clip_id} is not committed under inversion {inversion_id}"
            )
        return self._clip(record)

    # Failures

    def put_failure(self, scope_id: str, record: FailureRecord) -> None:
        """Record that a video (scope: tracking id) or clip (scope: inversion id) failed; the last wins."""
        self.backend.put(keys.failure(scope_id, record.item_id), record.to_json())

    def failures(self, scope_id: str) -> dict[str, FailureRecord]:
        """Failures by item id."""
        records = self.records(FailureRecord, self.record_keys(keys.failures(scope_id)))
        return {record.item_id: record for record in records}

    def clear_failure(self, scope_id: str, item_id: str) -> None:
        """Delete the record of a failure, when the item succeeded after all."""
        self.backend.delete(keys.failure(scope_id, item_id))

    # Bases

    def put_basis(self, basis_id: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Store a basis unless the store has one; returns the stored basis, which must be used."""
        key = keys.basis(basis_id)
        self.backend.put_if_absent(key, codec.seal_tensors(tensors))
        return codec.unseal_tensors(self.backend.get(key), key)

    def get_basis(self, basis_id: str) -> dict[str, Tensor] | None:
        """The tensors of a basis."""
        key = keys.basis(basis_id)
        try:
            return codec.unseal_tensors(self.backend.get(key), key)
        except ObjectNotFoundError:
            return None

    # Snapshots

    def put_snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Store a snapshot as the next generation of its name; if the latest one is equal, it is returned."""
        while True:
            latest = self.latest_snapshot(snapshot.name)
            if latest is not None and latest.digest == snapshot.digest:
                return latest
            generation = latest.generation + 1 if latest else 1
            numbered = replace(snapshot, generation=generation)
            if self.backend.put_if_absent(keys.snapshot(snapshot.name, generation), numbered.to_json()):
                return numbered

    def latest_snapshot(self, name: str) -> Snapshot | None:
        """The latest generation of a snapshot."""
        generations = [keys.snapshot_generation(key) for key in self.record_keys(keys.snapshots(name))]
        return self.get_snapshot(name, max(generations)) if generations else None

    def get_snapshot(self, name: str, generation: int) -> Snapshot | None:
        """One generation of a snapshot."""
        return self.record(Snapshot, keys.snapshot(name, generation))

    def snapshot_clips(self, snapshot: Snapshot) -> Iterator[ClipLatents]:
        """The clips of a snapshot. Raises ConflictError if a clip differs from the one in the snapshot."""
        for clip in snapshot.clips:
            record = self.get_commit(snapshot.inversion_id, clip.clip_id)
            if record is None or record.work_sha256 != clip.work_sha256:
                state = "is gone" if record is None else "was made again and differs"
                raise ConflictError(
                    f"snapshot {snapshot.name}, generation {snapshot.generation}: clip {clip.clip_id} "
                    f"{state}; take a new snapshot"
                )
            yield self._clip(record)

    # Overview

    def inversion_ids(self) -> list[str]:
        """Ids of the inversions that have commits."""
        return self._parts("commits/")

    def tracking_ids(self) -> list[str]:
        """All tracking ids in the store."""
        return self._parts("tracks/")

    def snapshot_names(self) -> list[str]:
        """Names of the snapshots."""
        return self._parts("snapshots/")

    # Inside

    def _stored_chunk(self, entry: Entry) -> ChunkRef:
        ref = ObjectRef(entry.key, keys.content_sha256(entry.key) or "", entry.size_bytes)
        data = self.content(ref)
        frames = len(codec.decode_tensors(data, entry.key)["w_plus"])
        return _chunk_ref(ref if is_fresh(entry) else self.put_content(entry.key, data), frames)

    def _fresh_chunks(self, record: CommitRecord) -> tuple[ChunkRef, ...]:
        """The chunks to be committed; old chunks are replaced by copies, as in `stored_chunks`."""
        prefix = keys.chunks(record.inversion_id, record.clip_id)
        listed = {entry.key: entry for entry in self.backend.list(prefix)}
        chunks = []
        for chunk in record.chunks:
            entry = listed.get(chunk.key)
            if entry is None or entry.size_bytes != chunk.size_bytes:
                raise ObjectNotFoundError(
                    f"clip {record.clip_id}: {chunk.key} is missing; run the same command again"
                )
            chunks.append(chunk if is_fresh(entry) else self._stored_chunk(entry))
        return tuple(chunks)

    def _largest_difference(self, a: CommitRecord, b: CommitRecord) -> float:
        if a.work_sha256 == b.work_sha256:
            return 0.0
        first, second = self._joined(a)["w_plus"].float(), self._joined(b)["w_plus"].float()
        return float((first - second).abs().max()) if first.shape == second.shape else float("inf")

    def _clip(self, record: CommitRecord) -> ClipLatents:
        joined = self._joined(record)
        joined.pop("rounding", None)
        return ClipLatents(record.clip_id, record.subject, **{**joined, "w_plus": joined["w_plus"].float()})

    def _joined(self, record: CommitRecord) -> dict[str, Tensor]:
        chunks = list(in_threads(self._tensors, record.chunks))
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunk_ref(ref: ObjectRef, frames: int) -> ChunkRef:
    return ChunkRef(ref.key, ref.sha256, ref.size_bytes, frames)
