"""The items that travel from stage to stage of an inversion, and its units of work.

A source (one file) is tracked into clips, a clip is cut into blocks of frames, and a block becomes one chunk
in the store. Failures are items, too: a stage passes on every item that is not its input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store.records import ChunkRef, FailureRecord
from svgan_ray.stylegan.refinement import RefinementConfig
from svgan_ray.video.alignment import CropParameters
from svgan_ray.video.face_report import FaceReport
from svgan_ray.video.footage_facts import FootageFacts

__all__ = [
    "BLOCK_FRAMES",
    "SHOWN_SHEETS",
    "TYPICAL_FRAMES",
    "WORST_FRAMES",
    "Block",
    "Chunk",
    "Clip",
    "Crops",
    "Failure",
    "Inversion",
    "Item",
    "Pair",
    "Pairs",
    "Tracked",
    "block_spans",
]

BLOCK_FRAMES = 128
"""Blocks begin at multiples of this frame number. A block is one object, and 4.7 MB of W+ at 1024 px."""

SHOWN_SHEETS = 24
"""The page shows crops of this many videos, the ones with the most jitter."""

WORST_FRAMES = 16
"""The page shows this many frames, the ones with the largest reconstruction error."""

TYPICAL_FRAMES = 8
"""The page also shows typical frames of this many videos."""


@dataclass(frozen=True)
class Inversion:
    """The settings of an inversion that every worker needs."""

    store: str
    faces: str
    face_model_sha256: str | None
    """Hash of the `.task` file that mediapipe uses in place of its own model."""
    people: str
    subject: str | None
    crop: CropParameters
    generator_sha256: str
    encoder_sha256: str
    num_ws: int
    w_dim: int
    crop_side: int
    batch_frames: int
    precision: str
    error_every_frames: int
    tracking_id: str
    inversion_id: str
    cpu_memory_bytes: int
    """Peak memory of one encoder on a CPU."""
    refinement: RefinementConfig | None = None
    float16: bool = False
    tracks_only: bool = False
    """Whether the job only follows faces and encodes nothing."""
    lpips_sha256: str | None = None
    """Hash of the network whose perceptual distance the refinement also minimises."""


@dataclass(frozen=True)
class Clip:
    """A tracked span of a source, frames [first_frame, stop_frame)."""

    clip_id: str
    video_id: str
    source: Source
    subject: str
    first_frame: int
    stop_frame: int
    frame_rate_hz: float
    rules: tuple[str, ...] = ()
    """The rules by which its video was converted and tracked; see FootageFacts."""

    @property
    def block_count(self) -> int:
        """Blocks that the clip is cut into."""
        return len(list(block_spans(self.first_frame, self.stop_frame)))


@dataclass(frozen=True)
class Tracked:
    """A source that was tracked: its content, and the clips that still have to be encoded.

    `faces` and `sheet` exist only in the run that tracked the source, not if its track was in the store.
    """

    source: Source
    video_id: str
    frames: int
    skipped_frames: int
    clips: int
    open_clips: frozenset[str]
    open_frames: int
    faces: FaceReport | None = None
    sheet: npt.NDArray[np.uint8] | None = None  # [H, W, 3], crops in a row
    footage: FootageFacts = field(default_factory=FootageFacts)


def _no_quads() -> npt.NDArray[np.float32]:
    return np.empty((0, 4, 2), np.float32)


@dataclass(frozen=True, eq=False)
class Block:
    """Frames [first_frame, stop_frame) of a clip, to be encoded; T = stop_frame - first_frame.

    A refinement also fits neighbouring frames: B before the block and A after it, as far as the clip has
    them.
    """

    clip: Clip
    number: int
    first_frame: int
    stop_frame: int
    quad: npt.NDArray[np.float32]  # [T, 4, 2]
    time_s: npt.NDArray[np.float64]  # [T]
    interpolated: npt.NDArray[np.bool_]  # [T]
    quad_before: npt.NDArray[np.float32] = field(default_factory=_no_quads)  # [B, 4, 2]
    quad_after: npt.NDArray[np.float32] = field(default_factory=_no_quads)  # [A, 4, 2]


@dataclass(frozen=True, eq=False)
class Crops:
    """The aligned pictures of a block, between those of its neighbours."""

    block: Block
    frames: npt.NDArray[np.uint8]  # [B + T + A, S, S, 3]

    @property
    def own(self) -> slice:
        """The slice of the block's own frames."""
        before = len(self.block.quad_before)
        return slice(before, before + len(self.block.quad))


@dataclass(frozen=True, eq=False)
class Pair:
    """A frame as the encoder saw it and its reconstruction; error is the RMS error for pixels in 0 to 1."""

    uri: str
    frame: int
    error: float
    pixels: npt.NDArray[np.uint8]  # [2, S, S, 3]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The frames of a block that may be shown: the ones with its median and its largest error."""

    typical: Pair | None = None
    worst: Pair | None = None


def _not_rounded() -> npt.NDArray[np.float32]:
    return np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class Chunk:
    """A block that is in the store.

    `error` holds the errors of the M measured frames, `rounding` the RMS change of their pictures by float16.
    """

    clip: Clip
    number: int
    ref: ChunkRef
    error: npt.NDArray[np.float32]  # [M]
    node: str
    pairs: Pairs = Pairs()
    is_reused: bool = False
    rounding: npt.NDArray[np.float32] = field(default_factory=_not_rounded)  # [M], [0] in float32


@dataclass(frozen=True)
class Failure:
    """A source or clip that failed; `fatal` means that every other one would fail, too."""

    scope_id: str
    record: FailureRecord
    is_fatal: bool = False


Item: TypeAlias = Source | Tracked | Block | Crops | Chunk | Failure


def block_spans(first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
    """The blocks [start, stop) of frames [first_frame, stop_frame), cut at multiples of BLOCK_FRAMES."""
    for start in range(first_frame - first_frame % BLOCK_FRAMES, stop_frame, BLOCK_FRAMES):
        yield max(start, first_frame), min(start + BLOCK_FRAMES, stop_frame)
