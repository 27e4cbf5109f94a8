"""The working stages of one block: decode and crop, encode, store.

With one device type, torch version and thread count, results are bit-equal however the work is divided. All
batches have the same size, and a frame's number in the video decides its place in its batch; other places are
padding.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from svgan_ray.device import best_device
from svgan_ray.orchestration.invert.items import (
    TYPICAL_FRAMES,
    WORST_FRAMES,
    Block,
    Chunk,
    Clip,
    Crops,
    Inversion,
    Pair,
    Pairs,
)
from svgan_ray.orchestration.runtime.sources import Source, unchanged_copy
from svgan_ray.orchestration.runtime.telemetry import timed
from svgan_ray.store import ChunkRef, LatentStore
from svgan_ray.store.weights import local_weights
from svgan_ray.stylegan.metric_networks import Lpips, load_lpips
from svgan_ray.stylegan.refinement import refine
from svgan_ray.stylegan.resize import resize_antialiased
from svgan_ray.stylegan.weights import load_encoder, load_generator
from svgan_ray.video.cropping import crop_span
from svgan_ray.video.reading import VideoReader, open_video

__all__ = ["SYNTHESIS_BATCH", "BlockEncoder", "crop_block", "in_batches", "standing_chunk"]

SYNTHESIS_BATCH = 4


def crop_block(block: Block, side: int) -> Crops:
    """Decode a block and crop the quads of its frames and of its neighbours. Raises VideoError."""
    quad = np.concatenate([block.quad_before, block.quad, block.quad_after])
    first_frame = block.first_frame - len(block.quad_before)
    with (
        unchanged_copy(block.clip.source) as path,
        timed("decode"),
        _left_open(block.clip.source, path) as video,
    ):
        video.require_rules(block.clip.rules)
        return Crops(block, np.concatenate(list(crop_span(video, first_frame, quad, side))))


_open_videos: dict[Source, VideoReader] = {}


@contextmanager
def _left_open(source: Source, path: Path) -> Iterator[VideoReader]:
    """Keep the last video open for this process's next block, because opening one scans the whole file."""
    if source not in _open_videos:
        _close_videos()
        _open_videos[source] = open_video(path)
    try:
        yield _open_videos[source]
    except BaseException:
        _close_videos()
        raise


def _close_videos() -> None:
    while _open_videos:
        _open_videos.popitem()[1].close()


def in_batches(function: Callable[..., Tensor], batch: int, position: int, *rows: Tensor) -> Tensor:
    """function(*rows) for tensors [N, ...] in calls of exactly `batch` rows.

    Row i is at place (position + i) % batch of a call; copies of a row fill the places that are left.
    """
    before = position % batch
    after = -(before + len(rows[0])) % batch
    padded = [_padded(x, before, after).split(batch) for x in rows]
    out = torch.cat([function(*parts) for parts in zip(*padded, strict=True)])
    return out[before : len(out) - after]


def _padded(x: Tensor, before: int, after: int) -> Tensor:
    """Pad to a batch in one memory layout, because the layout decides the kernels and so the last bits."""
    copies = [x[:1].expand(before, *x.shape[1:]), x, x[-1:].expand(after, *x.shape[1:])]
    layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    return torch.cat(copies).contiguous(memory_format=layout)


@contextmanager
def deterministic_convolutions() -> Iterator[None]:
    """During the block, cuDNN uses only methods with a fixed order of summation, in the whole process."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def standing_chunk(store: LatentStore, clip: Clip, number: int, ref: ChunkRef) -> Chunk:
    """The chunk of a block that is already in the store."""
    tensors = store.read_chunk(ref)
    error, rounding = _measured(tensors, "error"), _measured(tensors, "rounding")
    return Chunk(clip, number, ref, error, node="", is_reused=True, rounding=rounding)


class BlockEncoder:
    """Both networks, loaded once for each process, on its GPU if it was given one.

    It is thread-safe: one thread at a time computes while others communicate with the store.
    """

    def __init__(self, job: Inversion, store: LatentStore, node: str) -> None:
        self.job = job
        self.store = store
        self.node = node
        self.device = best_device()
        self.encoder = load_encoder(local_weights(store, job.encoder_sha256), self.device)
        self.generator = load_generator(local_weights(store, job.generator_sha256), self.device)
        self.lpips: Lpips | None = None
        if job.lpips_sha256:
            self.lpips = load_lpips(local_weights(store, job.lpips_sha256), self.device)
        self._computing = threading.Lock()
        self._shown_videos: set[str] = set()
        self._worst_errors: list[float] = []  # errors of the pictures sent on so far, ascending

    def __call__(self, crops: Crops) -> Chunk:
        """Encode a block and put its chunk into the store, unless its clip was committed meanwhile."""
        block = crops.block
        standing = self.store.get_commit(self.job.inversion_id, block.clip.clip_id)
        if standing is not None:
            return standing_chunk(self.store, block.clip, block.number, standing.chunks[block.number])
        with self._computing, timed("encode"):
            tensors, error, pairs = self.compute(crops)
        ref = self.store.put_chunk(self.job.inversion_id, block.clip.clip_id, block.number, tensors)
        rounding = _measured(tensors, "rounding")
        return Chunk(block.clip, block.number, ref, error, self.node, pairs, rounding=rounding)

    @torch.inference_mode()
    @deterministic_convolutions()
    def compute(self, crops: Crops) -> tuple[dict[str, Tensor], npt.NDArray[np.float32], Pairs]:
        """The tensors of a block that are stored, its measured errors [M], and the pairs to show."""
        block = crops.block
        images, exact = self._latents(crops)
        w_plus = exact.half() if self.job.float16 else exact
        measured = self._measured_frames(block)
        if not measured:
            tensors = chunk_tensors(block, w_plus, measured, torch.empty(0), torch.empty(0))
            return tensors, np.empty(0, np.float32), Pairs()
        position = (block.first_frame + measured[0]) // self.job.error_every_frames
        rows = w_plus[measured].float()
        shown = in_batches(self._reconstruct, SYNTHESIS_BATCH, position, rows)
        error = in_batches(_rms_error, SYNTHESIS_BATCH, position, shown, images[measured]).cpu()
        rounding = torch.empty(0)
        if self.job.float16:
            rounding = in_batches(self._rounding, SYNTHESIS_BATCH, position, rows, exact[measured]).cpu()
        tensors = chunk_tensors(block, w_plus, measured, error, rounding)

        def pair(at: int) -> Pair:
            return _pair(crops, measured[at], float(error[at]), shown[at].cpu())

        typical = pair(int(error.median(0).indices)) if self._is_first_of_video(block) else None
        at = int(error.argmax())
        worst = pair(at) if self._is_among_the_worst(float(error[at])) else None
        return tensors, error.numpy(), Pairs(typical, worst)

    def _latents(self, crops: Crops) -> tuple[Tensor, Tensor]:
        """The block's own images [B, 3, S, S] and their latents, refined with its neighbours if asked to."""
        images, first_frame = self._images(crops.frames), crops.block.first_frame - crops.own.start
        w_plus = in_batches(self._encode, self.job.batch_frames, first_frame, images)
        if self.job.refinement is not None:
            w_plus = refine(
                images,
                w_plus,
                self.generator.synthesis,
                self.job.refinement,
                SYNTHESIS_BATCH,
                perceptual=self.lpips,
            )
        return images[crops.own], w_plus[crops.own]

    def _encode(self, images: Tensor) -> Tensor:
        with self._precision(self.job.precision == "bfloat16"):
            return self.encoder.encode(images, self._synthesis).float()

    def _synthesis(self, w_plus: Tensor) -> Tensor:
        """Pictures in float32, whatever precision the encoder that needs them computes in."""
        with self._precision(is_half=False):
            pictures: Tensor = self.generator.synthesis(w_plus.float())
            return pictures

    def _precision(self, is_half: bool) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)

    def _reconstruct(self, w_plus: Tensor) -> Tensor:
        """[M, num_ws, w_dim] -> [M, 3, S, S]; S is the smaller of the encoder's and the generator's size."""
        pictures = self.generator.synthesis(w_plus)
        return resize_antialiased(pictures, min(self.job.crop_side, pictures.shape[-1]))

    def _rounding(self, w_plus: Tensor, exact: Tensor) -> Tensor:
        """RMS change of the generator's pictures by rounding, for pixels in 0 to 1 [M]."""
        change: Tensor = self.generator.synthesis(w_plus) - self.generator.synthesis(exact)
        return change.square().mean(dim=(1, 2, 3)).sqrt().div(2)

    def _is_first_of_video(self, block: Block) -> bool:
        """Whether to send a typical frame: only from this process's first block of each of a few videos."""
        uri = block.clip.source.uri
        if uri in self._shown_videos or len(self._shown_videos) == TYPICAL_FRAMES:
            return False
        self._shown_videos.add(uri)
        return True

    def _is_among_the_worst(self, error: float) -> bool:
        """Whether to send the worst frame: only if it is among the worst that this process has seen."""
        bisect.insort(self._worst_errors, error)
        del self._worst_errors[:-WORST_FRAMES]
        return error >= self._worst_errors[0]

    def _images(self, frames: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 [T, S, S, 3] -> [T, 3, S, S] in [-1, 1] on the device."""
        on_device = torch.tensor(frames).to(self.device)
        return on_device.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def _measured_frames(self, block: Block) -> list[int]:
        """Frames at multiples of error_every_frames in the video, counted from the block's first."""
        every = self.job.error_every_frames
        return [
            frame - block.first_frame
            for frame in range(block.first_frame, block.stop_frame)
            if frame % every == 0
        ]


def _rms_error(shown: Tensor, images: Tensor) -> Tensor:
    """RMS error of reconstructions [M, 3, R, R] of images [M, 3, S, S], for pixels in 0 to 1 [M]."""
    difference = shown - resize_antialiased(images, shown.shape[-1])
    return difference.square().mean(dim=(1, 2, 3)).sqrt().div(2)


def chunk_tensors(
    block: Block, w_plus: Tensor, measured: list[int], error: Tensor, rounding: Tensor
) -> dict[str, Tensor]:
    """The tensors of a block that are stored; the error of frames that were not measured is NaN."""
    nothing, at = torch.full((len(w_plus),), torch.nan), torch.tensor(measured, dtype=torch.long)
    tensors = {
        "w_plus": w_plus.cpu(),
        "quad": torch.tensor(block.quad),
        "time_s": torch.tensor(block.time_s),
        "error": nothing.index_put((at,), error),
        "interpolated": torch.tensor(block.interpolated),
    }
    if w_plus.dtype == torch.float16:
        tensors["rounding"] = nothing.index_put((at,), rounding)
    return tensors


def _measured(tensors: dict[str, Tensor], name: str) -> npt.NDArray[np.float32]:
    """The values of the measured frames [M]."""
    values: npt.NDArray[np.float32] = tensors.get(name, torch.empty(0)).numpy()
    return values[~np.isnan(values)]


def _pair(crops: Crops, at: int, error: float, shown: Tensor) -> Pair:
    """Frame `at` of the block beside its reconstruction [3, R, R] in [-1, 1]."""
    block, crop = crops.block, crops.frames[crops.own][at]
    picture = F.interpolate(shown[None], crop.shape[:2], mode="nearest")[0].clamp(-1, 1)
    pixels = picture.permute(1, 2, 0).add(1).mul(127.5).round().byte().numpy()
    return Pair(block.clip.source.uri, block.first_frame + at, error, np.stack([crop, pixels]))
