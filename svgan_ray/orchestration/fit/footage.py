"""The footage of a fit: clips of the store, frames to train on, and frames that are held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from svgan_ray.errors import DataError
from svgan_ray.orchestration.fit.schedule import Schedule, stretches
from svgan_ray.orchestration.invert.items import Block, Clip, block_spans
from svgan_ray.store import ChunkRef
from svgan_ray.store.records import ObjectRef
from svgan_ray.stylegan.fitting import Split, require_enough

__all__ = ["FittedClip", "Footage", "Piece", "Place", "footage_of", "schedules_of"]

MOST_HELD_OUT = 192
"""Frames of each subject that are scored, spread evenly over the held-out frames."""


@dataclass(frozen=True, eq=False)
class FittedClip:
    """A tracked clip of T frames, and which of them may be trained on or scored."""

    clip: Clip
    quad: npt.NDArray[np.float32]  # [T, 4, 2]
    time_s: npt.NDArray[np.float64]  # [T]
    split: Split
    landmarks: ObjectRef | None
    """The place of its landmarks, which tell where eyes and mouth are."""
    pivots: tuple[ChunkRef, ...] = ()
    """Its latents, if the generator alone is tuned."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Frames of one clip that are decoded together, M of which are used."""

    block: Block
    at: npt.NDArray[np.int64]  # [M] which of the block's frames
    number: npt.NDArray[np.int64]  # [M] their numbers in the fit
    landmarks: ObjectRef | None
    pivots: tuple[ChunkRef, ...] = ()


@dataclass(frozen=True)
class Place:
    """The video and the time of a frame."""

    uri: str
    frame: int
    time_s: float


@dataclass(frozen=True, eq=False)
class Footage:
    """All clips of a fit, subject after subject, and how many frames there are of each subject."""

    clips: tuple[FittedClip, ...]
    subjects: tuple[str, ...]
    training: tuple[int, ...]
    held_out: tuple[int, ...]

    def pieces(self, schedule: Schedule, places: range) -> list[Piece]:
        """The pieces that one worker's places train on, portion by portion."""
        wanted = sorted((p, place) for p in range(schedule.portions) for place in places)
        spans = [schedule.span(place, portion) for portion, place in wanted]
        return [piece for span in spans for piece in self._pieces(span, self._training_frames())]

    def held_out_pieces(self, schedule: Schedule, places: range) -> list[Piece]:
        """The pieces on which one worker's places are scored."""
        frames = self._held_out_frames()
        return [piece for place in places for piece in self._pieces(schedule.span(place, 0), frames)]

    def place(self, number: int) -> Place:
        """The place of the training frame with a number."""
        for clip, frames in zip(self.clips, self._training_frames(), strict=True):
            if number < len(frames):
                at = int(frames[number])
                return Place(clip.clip.source.uri, clip.clip.first_frame + at, float(clip.time_s[at]))
            number -= len(frames)
        raise IndexError(number)

    def _training_frames(self) -> list[npt.NDArray[np.int64]]:
        """The rows of each clip, in the order of their numbers."""
        return [np.flatnonzero(clip.split.training) for clip in self.clips]

    def _held_out_frames(self) -> list[npt.NDArray[np.int64]]:
        """The held-out rows of each clip that are scored."""
        return [rows for subject in self.subjects for rows in _spread(self._of(subject))]

    def _of(self, subject: str) -> list[FittedClip]:
        return [clip for clip in self.clips if clip.clip.subject == subject]

    def _pieces(self, span: tuple[int, int], frames: Sequence[npt.NDArray[np.int64]]) -> Iterator[Piece]:
        """Frames [first, stop) by their numbers, cut at the blocks that inversion decodes."""
        offset = 0
        for clip, rows in zip(self.clips, frames, strict=True):
            mine = np.arange(max(span[0] - offset, 0), min(span[1] - offset, len(rows)))
            if len(mine):
                yield from _cut(clip, rows[mine], mine + offset)
            offset += len(rows)


def footage_of(clips: Sequence[FittedClip], subjects: tuple[str, ...]) -> Footage:
    """The clips in order. Raises DataError if a subject has too few frames, or none is held out."""
    ordered = [clip for subject in subjects for clip in clips if clip.clip.subject == subject]
    training, held_out = [], []
    for subject in subjects:
        own = [clip for clip in ordered if clip.clip.subject == subject]
        if not own:
            raise DataError(f"subject {subject!r}: the store holds no clip of it")
        joined = Split(
            np.concatenate([clip.split.training for clip in own]),
            np.concatenate([clip.split.held_out for clip in own]),
        )
        require_enough(joined, subject)
        training.append(int(joined.training.sum()))
        held_out.append(sum(map(len, _spread(own))))
    return Footage(tuple(ordered), subjects, tuple(training), tuple(held_out))


def schedules_of(footage: Footage, batch: int, portions: int, seed: int) -> tuple[Schedule, Schedule]:
    """The schedule of training, and the places' stretches of the held-out frames."""
    training = Schedule(stretches(footage.training, batch), portions, seed)
    return training, Schedule(stretches((sum(footage.held_out),), batch))


def _spread(clips: Sequence[FittedClip]) -> list[npt.NDArray[np.int64]]:
    """The held-out rows of each clip that are scored, spread evenly over all."""
    rows = [np.flatnonzero(clip.split.held_out) for clip in clips]
    every = max(1, -(-sum(map(len, rows)) // MOST_HELD_OUT))
    chosen, offset = [], 0
    for own in rows:
        chosen.append(own[-offset % every :: every])
        offset += len(own)
    return chosen


def _cut(clip: FittedClip, rows: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> Iterator[Piece]:
    first_frame = clip.clip.first_frame
    for count, (start, stop) in enumerate(block_spans(first_frame, clip.clip.stop_frame)):
        inside = (rows >= start - first_frame) & (rows < stop - first_frame)
        if not inside.any():
            continue
        own = rows[inside]
        low, high = int(own[0]), int(own[-1]) + 1
        span = slice(low, high)
        block = Block(
            clip=clip.clip,
            number=count,
            first_frame=first_frame + low,
            stop_frame=first_frame + high,
            quad=clip.quad[span],
            time_s=clip.time_s[span],
            interpolated=np.zeros(high - low, np.bool_),
        )
        pivots = clip.pivots[count : count + 1]
        yield Piece(block, own - low, numbers[inside], clip.landmarks, pivots)
