"""The store's JSON records: frozen dataclasses, sealed with their own sha256 and marked with a schema."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, TypeAlias

from svgan_ray.decoding import DecodingError, decode
from svgan_ray.errors import CorruptObjectError, StoreSchemaError
from svgan_ray.store import keys

__all__ = [
    "SCHEMA",
    "ChunkRef",
    "ClipRecord",
    "CommitRecord",
    "FailureRecord",
    "JsonValue",
    "LockRecord",
    "ModelFile",
    "ModelManifest",
    "ObjectRef",
    "Record",
    "SkippedRecord",
    "Snapshot",
    "SnapshotClip",
    "StoreMarker",
    "TrackRecord",
    "record_type",
]

SCHEMA = 1
"""The version of everything that the store writes; a reader refuses newer versions."""

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


class Record:
    """Base class of the records; it converts them to and from sealed JSON.

    The bytes are the canonical JSON of {"kind", "schema", "sha256", <fields>}; the sha256 is computed from
    the same document without that field. So every flipped bit is detected, and equal records have equal
    bytes.
    """

    kind: ClassVar[str]
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that earlier versions did not write; a field that is None is left out."""

    def to_json(self) -> bytes:
        """The record's bytes. Raises CorruptObjectError if a field has the wrong type or is not finite."""
        try:
            plain = json.loads(_canonical(asdict(self)))  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise CorruptObjectError(f"{self.kind} record cannot be written: {error}: {self}") from error
        typed = _built(type(self), plain, f"{self.kind} record to be written")
        fields = {k: v for k, v in asdict(typed).items() if v is not None or k not in self.later}
        document = {**fields, "kind": self.kind, "schema": SCHEMA}
        return _canonical({**document, "sha256": _sha256(_canonical(document))})

    @classmethod
    def from_json(cls, data: bytes, key: str) -> Self:
        """Read a record; errors name the key. Raises CorruptObjectError, StoreSchemaError."""
        document = _unsealed(data, key)
        if document.pop("kind", None) != cls.kind:
            raise CorruptObjectError(
                f"{key}: expected a record of kind {cls.kind!r}; the object is in the wrong place"
            )
        record: Self = _built(cls, dict.fromkeys(cls.later) | document, key)
        return record

    def objects(self) -> tuple[ObjectRef, ...]:
        """The content that this record names."""
        return ()


@dataclass(frozen=True)
class StoreMarker(Record):
    """`store.json`, which marks a folder or prefix as a latent store."""

    kind: ClassVar[str] = "store"
    project: str = "svgan-ray"


@dataclass(frozen=True)
class LockRecord(Record):
    """`lock.json`, which says who is collecting garbage or repairing, and since when."""

    kind: ClassVar[str] = "lock"
    node: str
    since: str
    nonce: str


@dataclass(frozen=True)
class ObjectRef:
    """An immutable object and the sha256 of its bytes."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ChunkRef(ObjectRef):
    """One chunk of a clip's latents."""

    frames: int


@dataclass(frozen=True)
class ClipRecord:
    """A clip: frames [first_frame, stop_frame) of its video."""

    clip_id: str
    first_frame: int
    stop_frame: int


@dataclass(frozen=True)
class SkippedRecord:
    """Frames [first_frame, stop_frame) of a video that are in no clip, and why."""

    first_frame: int
    stop_frame: int
    reason: str


@dataclass(frozen=True)
class TrackRecord(Record):
    """The result of tracking one video; every frame is in a clip or in a skipped span."""

    kind: ClassVar[str] = "track"
    later: ClassVar[frozenset[str]] = frozenset({"landmarks"})
    tracking_id: str
    video_id: str
    uri: str
    subject: str
    decoder: str
    frame_count: int
    frame_rate_hz: float
    width: int
    height: int
    clips: tuple[ClipRecord, ...]
    skipped: tuple[SkippedRecord, ...]
    parameters: dict[str, JsonValue]
    tensors: ObjectRef | None = None
    landmarks: ObjectRef | None = None

    def objects(self) -> tuple[ObjectRef, ...]:
        """The tensors of the clips' quads, and those of their landmarks."""
        return tuple(ref for ref in (self.tensors, self.landmarks) if ref)


@dataclass(frozen=True)
class CommitRecord(Record):
    """The only proof that a clip is complete. The chunks are its content; node and error are only notes."""

    kind: ClassVar[str] = "commit"
    inversion_id: str
    clip_id: str
    tracking_id: str
    video_id: str
    subject: str
    first_frame: int
    stop_frame: int
    frame_rate_hz: float
    num_ws: int
    w_dim: int
    generator_sha256: str
    encoder_sha256: str
    chunks: tuple[ChunkRef, ...]
    mean_error: float | None
    node: str
    float16_psnr_db: float | None = None

    @property
    def frames(self) -> int:
        """The number of source frames."""
        return self.stop_frame - self.first_frame

    @property
    def work_sha256(self) -> str:
        """Hash of the latents; it does not depend on the machine that computed them."""
        return _sha256(_canonical([chunk.sha256 for chunk in self.chunks]))

    def objects(self) -> tuple[ObjectRef, ...]:
        """The chunks, in order."""
        return self.chunks


@dataclass(frozen=True)
class FailureRecord(Record):
    """A video or a clip that could not be processed; `reason` is a short stable code."""

    kind: ClassVar[str] = "failure"
    item_id: str
    uri: str
    stage: str
    reason: str
    message: str
    attempts: int


@dataclass(frozen=True)
class SnapshotClip:
    """A clip in a snapshot."""

    clip_id: str
    subject: str
    frames: int
    frame_rate_hz: float
    work_sha256: str


@dataclass(frozen=True)
class Snapshot(Record):
    """A frozen set of committed clips of one inversion, ordered by id; generation 0 means not yet stored."""

    kind: ClassVar[str] = "snapshot"
    name: str
    inversion_id: str
    generator_sha256: str
    num_ws: int
    w_dim: int
    clips: tuple[SnapshotClip, ...]
    filters: dict[str, JsonValue]
    generation: int = 0

    @property
    def frames(self) -> int:
        """Count of source frames in all clips."""
        return sum(clip.frames for clip in self.clips)

    @property
    def digest(self) -> str:
        """Hash of the clips and their latents; it does not depend on the snapshot's name."""
        return _sha256(
            _canonical([self.inversion_id, *([clip.clip_id, clip.work_sha256] for clip in self.clips)])
        )


@dataclass(frozen=True)
class ModelFile(ObjectRef):
    """One file of a model; path is relative to the model's folder."""

    path: str


@dataclass(frozen=True)
class ModelManifest(Record):
    """The list of a model's files; it is written last and makes the model complete."""

    kind: ClassVar[str] = "model"
    name: str
    files: tuple[ModelFile, ...]

    @property
    def work_sha256(self) -> str:
        """Hash of the files; equal folders have equal hashes."""
        return _sha256(_canonical([[file.path, file.sha256] for file in self.files]))

    def objects(self) -> tuple[ObjectRef, ...]:
        """The files."""
        return self.files


_TYPES: dict[str, type[Record]] = {
    keys.MARKER: StoreMarker,
    keys.LOCK: LockRecord,
    "tracks": TrackRecord,
    "commits": CommitRecord,
    "failures": FailureRecord,
    "snapshots": Snapshot,
    "models": ModelManifest,
}


def record_type(key: str) -> type[Record] | None:
    """The type of the record that belongs under a key; None for keys of other objects."""
    is_record = key.endswith(".json") and keys.owner(key) is None
    return _TYPES.get(key.partition("/")[0]) if is_record else None


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unsealed(data: bytes, key: str) -> dict[str, Any]:
    """The document without schema and seal, after checking both."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptObjectError(f"{key}: is no JSON ({error}); it was damaged") from error
    if not isinstance(document, dict):
        raise CorruptObjectError(f"{key}: expected a JSON object, got {type(document).__name__}")
    seal = document.pop("sha256", None)
    if seal != _sha256(_canonical(document)) or data != _canonical({**document, "sha256": seal}):
        raise CorruptObjectError(f"{key}: its content differs from its own sha256; it was damaged or edited")
    schema = document.pop("schema", None)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise StoreSchemaError(
            f"{key}: schema {schema}, this version reads up to {SCHEMA}; upgrade svgan-ray"
        )
    return document


def _built(cls: Any, values: Any, where: str) -> Any:
    """A record from values, which must have all fields of the class and no others."""
    try:
        return decode(cls, values, complete=True)
    except DecodingError as error:
        raise CorruptObjectError(f"{where}: {error}") from error
