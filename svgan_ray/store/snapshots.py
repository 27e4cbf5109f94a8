"""The choice of the committed clips for a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from svgan_ray.errors import DataError
from svgan_ray.store.latent_store import LatentStore
from svgan_ray.store.records import CommitRecord, Snapshot, SnapshotClip

__all__ = ["Filters", "select"]


@dataclass(frozen=True)
class Filters:
    """The conditions that a clip of a snapshot must meet."""

    subject: str | None = None  # None: all subjects
    min_duration_s: float = 0.0
    max_mean_error: float | None = None  # None: any; a number also excludes clips without a measured error

    def takes(self, record: CommitRecord) -> bool:
        """Whether a committed clip meets all conditions."""
        if self.subject is not None and record.subject != self.subject:
            return False
        if record.frames < self.min_duration_s * record.frame_rate_hz:
            return False
        if self.max_mean_error is None:
            return True
        return record.mean_error is not None and record.mean_error <= self.max_mean_error

    def __str__(self) -> str:
        """The conditions in words, with the names of the settings."""
        asked = [f"shows {self.subject}"] if self.subject is not None else []
        asked += [f"lasts {self.min_duration_s:g} s (min_clip_s)"] if self.min_duration_s > 0 else []
        if self.max_mean_error is not None:
            asked.append(f"has a mean error of {self.max_mean_error:g} at most (max_error)")
        return ", ".join(asked) or "is there"


def select(store: LatentStore, name: str, inversion_id: str, filters: Filters | None = None) -> Snapshot:
    """A snapshot, not yet stored, of all clips of an inversion that pass. Raises DataError if none passes."""
    filters = filters or Filters()
    records = list(store.commits(inversion_id))
    taken = [record for record in records if filters.takes(record)]
    if not taken:
        raise DataError(
            f"snapshot {name}: none of {len(records)} clips of inversion {inversion_id} {filters}; "
            f"it holds: {_held(records)}"
        )
    clips = tuple(
        SnapshotClip(record.clip_id, record.subject, record.frames, record.frame_rate_hz, record.work_sha256)
        for record in taken
    )
    first = taken[0]
    return Snapshot(
        name, inversion_id, first.generator_sha256, first.num_ws, first.w_dim, clips, asdict(filters)
    )


def _held(records: Sequence[CommitRecord]) -> str:
    """For each subject, the properties of its clips that the filters use."""
    subjects: dict[str, list[CommitRecord]] = {}
    for record in sorted(records, key=lambda record: record.subject):
        subjects.setdefault(record.subject, []).append(record)
    return "; ".join(f"{name} ({_summary(clips)})" for name, clips in subjects.items()) or "nothing"


def _summary(clips: Sequence[CommitRecord]) -> str:
    longest_s = max(clip.frames / clip.frame_rate_hz for clip in clips)
    errors = [clip.mean_error for clip in clips if clip.mean_error is not None]
    least = f"errors from {min(errors):.3g}" if errors else "errors not measured"
    return f"clips: {len(clips)}, up to {longest_s:.1f} s, {least}"
