"""The driver's record of one inversion: it collects chunks, commits whole clips and stores failures."""

from __future__ import annotations

import bisect
import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from svgan_ray.errors import StoreError
from svgan_ray.orchestration.invert.commits import Commits
from svgan_ray.orchestration.invert.failures import clip_failure, unread_id
from svgan_ray.orchestration.invert.items import (
    SHOWN_SHEETS,
    TYPICAL_FRAMES,
    WORST_FRAMES,
    Chunk,
    Clip,
    Failure,
    Inversion,
    Item,
    Pair,
    Pairs,
    Tracked,
)
from svgan_ray.orchestration.runtime import telemetry
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store import CommitRecord, FailureRecord, LatentStore, UnequalWorkError, open_store

__all__ = ["Ledger"]


@dataclass
class Ledger:
    """Everything that the workers have returned so far."""

    store: LatentStore
    job: Inversion
    earlier_failures: dict[str, FailureRecord]
    tracked: dict[str, Tracked] = field(default_factory=dict)  # by uri
    failures: dict[str, FailureRecord] = field(default_factory=dict)  # by video or clip id
    commits: dict[str, CommitRecord] = field(default_factory=dict)  # by clip id
    unequal: list[str] = field(default_factory=list)
    most_jittery: list[Tracked] = field(default_factory=list)  # with sheets, the largest jitter first
    worst: list[Pair] = field(default_factory=list)  # of all measured frames, the largest error first
    typical: dict[str, Pair] = field(default_factory=dict)  # by uri, of the videos that were encoded first
    encoded_frames: int = 0
    encoded_s: float = 0.0  # seconds of footage
    reused_frames: int = 0
    recorded_items: int = 0  # chunks and failures, each counted once
    _failed_uris: set[str] = field(default_factory=set)  # of videos that cannot be tracked or read
    _settled_clips: dict[str, set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )  # ids of committed and failed clips, by uri
    _complete_clips: set[str] = field(default_factory=set)  # ids of clips whose chunks have all arrived
    _open_clips: dict[str, dict[int, Chunk]] = field(default_factory=lambda: defaultdict(dict))
    _commits: Commits = field(init=False)

    def __post_init__(self) -> None:
        self._commits = Commits(self.store.commit)

    def take(self, item: Item) -> None:
        """Record one item and the outcome of earlier commits.

        Raises StoreError if the whole store fails.
        """
        if isinstance(item, Tracked):
            # Clips that a second tracking finds committed were committed by this run.
            if item.source.uri not in self.tracked:
                self._show(item)
                self.tracked[item.source.uri] = dataclasses.replace(item, sheet=None)
            for item_id in (item.video_id, unread_id(item.source)):
                self._forget_failure(self.job.tracking_id, item_id)
        elif isinstance(item, Failure):
            self._fail(item)
        elif isinstance(item, Chunk):
            self._collect(item)
        self._record_commits()

    def settle(self) -> None:
        """Wait for all commits that have begun and record them. Raises StoreError as `take` does."""
        self._record_commits(all_of_them=True)

    def close(self) -> None:
        """Cancel the commits that have not begun; after `settle` there are none."""
        self._commits.close()

    def is_settled(self, source: Source) -> bool:
        """Whether everything in a source was committed or failed; if not, a process died with some of it."""
        if source.uri in self._failed_uris:
            return True
        tracked = self.tracked.get(source.uri)
        return tracked is not None and self._settled_clips[source.uri] >= tracked.open_clips

    @property
    def open_frames(self) -> int:
        """The number of frames to encode that tracking has found so far."""
        return sum(item.open_frames for item in self.tracked.values())

    @property
    def skipped_clips(self) -> int:
        """Clips of this run's videos that were in the store or had failed before and were left alone."""
        # If a video was tracked twice because the first result was lost, this run's clips count as done
        # before.
        return sum(
            item.clips - len(item.open_clips | self._settled_clips[uri]) for uri, item in self.tracked.items()
        )

    @property
    def mean_error(self) -> float | None:
        """Mean error of the clips that this run committed."""
        errors = [c.mean_error for c in self.commits.values() if c.mean_error is not None]
        return float(np.mean(errors)) if errors else None

    def _show(self, item: Tracked) -> None:
        """Keep only the sheets that the page will show."""
        if item.sheet is not None:
            bisect.insort(self.most_jittery, item, key=lambda tracked: -_jitter(tracked))
            del self.most_jittery[SHOWN_SHEETS:]

    def _show_pairs(self, pairs: Pairs) -> None:
        if pairs.typical is not None and len(self.typical) < TYPICAL_FRAMES:
            self.typical.setdefault(pairs.typical.uri, pairs.typical)
        if pairs.worst is not None:
            bisect.insort(self.worst, pairs.worst, key=lambda pair: -pair.error)
            del self.worst[WORST_FRAMES:]

    def _fail(self, failure: Failure) -> None:
        if failure.is_fatal:
            raise StoreError(failure.record.message)
        item_id = failure.record.item_id
        earlier = self.earlier_failures.get(item_id)
        record = dataclasses.replace(failure.record, attempts=earlier.attempts + 1 if earlier else 1)
        self.recorded_items += item_id not in self.failures
        self.failures[item_id] = record
        if failure.scope_id == self.job.tracking_id:
            self._failed_uris.add(record.uri)
        else:
            self._settled_clips[record.uri].add(item_id)
        self.store.put_failure(failure.scope_id, record)
        telemetry.clip_ended("failed", record.reason)

    def _collect(self, chunk: Chunk) -> None:
        if chunk.clip.clip_id in self._complete_clips:  # Ray has tracked its video again
            return
        chunks = self._open_clips[chunk.clip.clip_id]
        if chunk.number in chunks:  # the clip is run again for its other blocks
            return
        self.recorded_items += 1
        if chunk.is_reused:
            self.reused_frames += chunk.ref.frames
        else:
            self.encoded_frames += chunk.ref.frames
            self.encoded_s += chunk.ref.frames / chunk.clip.frame_rate_hz
            telemetry.frames_inverted(chunk.ref.frames)
        self._show_pairs(chunk.pairs)
        chunks[chunk.number] = chunk
        if len(chunks) == chunk.clip.block_count:
            record = self._commit_record(chunk.clip, [chunks[number] for number in sorted(chunks)])
            self._commits.begin(chunk.clip, record)
            self._complete_clips.add(chunk.clip.clip_id)
            del self._open_clips[chunk.clip.clip_id]

    def _record_commits(self, all_of_them: bool = False) -> None:
        for clip, record, error in self._commits.ended(all_of_them):
            if isinstance(error, UnequalWorkError):
                self.unequal.append(str(error))
            elif error is not None:
                open_store(self.store.uri)  # raises if the whole store is gone and not only the clip
                self._fail(clip_failure(self.job, clip, "commit", error))
                continue
            self._forget_failure(self.job.inversion_id, clip.clip_id)
            self._settled_clips[clip.source.uri].add(clip.clip_id)
            self.commits[clip.clip_id] = record
            telemetry.clip_ended("committed")

    def _forget_failure(self, scope_id: str, item_id: str) -> None:
        if item_id in self.earlier_failures:
            self.store.clear_failure(scope_id, item_id)

    def _commit_record(self, clip: Clip, chunks: list[Chunk]) -> CommitRecord:
        error = np.concatenate([chunk.error for chunk in chunks])
        return CommitRecord(
            inversion_id=self.job.inversion_id,
            clip_id=clip.clip_id,
            tracking_id=self.job.tracking_id,
            video_id=clip.video_id,
            subject=clip.subject,
            first_frame=clip.first_frame,
            stop_frame=clip.stop_frame,
            frame_rate_hz=clip.frame_rate_hz,
            num_ws=self.job.num_ws,
            w_dim=self.job.w_dim,
            generator_sha256=self.job.generator_sha256,
            encoder_sha256=self.job.encoder_sha256,
            chunks=tuple(chunk.ref for chunk in chunks),
            mean_error=float(error.mean()) if len(error) else None,
            node=" ".join(sorted({chunk.node for chunk in chunks if chunk.node})),
            float16_psnr_db=_psnr_db(np.concatenate([chunk.rounding for chunk in chunks])),
        )


def _jitter(item: Tracked) -> float:
    return (item.faces and item.faces.crop_jitter) or 0.0


def _psnr_db(rms: npt.NDArray[np.float32]) -> float | None:
    """PSNR of pictures with these RMS errors [M] for pixels in 0 to 1; at most 200 dB, None if M is 0."""
    return -10 * float(np.log10(max(np.square(rms.astype(np.float64)).mean(), 1e-20))) if len(rms) else None
