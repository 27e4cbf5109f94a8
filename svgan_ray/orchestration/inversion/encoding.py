"""The working stages of one block: decode and crop, encode, store.

Results are the same bits however the work is divided, on one device type, torch version and thread count:
blocks lie at absolute frame positions, and every network call has the same batch size, a short one padded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from svgan_ray.orchestration.inversion.items import Block, Chunk, Crops, Inversion
from svgan_ray.orchestration.inversion.sources import local_copy
from svgan_ray.store import LatentStore
from svgan_ray.stylegan.refinement import refine
from svgan_ray.stylegan.resize import resize_antialiased
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.reading import open_video

__all__ = ["BlockEncoder", "crop_block", "in_batches"]

_DECODED_FRAMES = 16
"""Full frames in memory at once: 100 MB at 1080p."""
_SYNTHESIS_BATCH = 4


def crop_block(block: Block, side: int) -> Crops:
    """Decode a block and cut out its quads and its neighbours'. Raises VideoError."""
    quad = np.concatenate([block.quad_before, block.quad, block.quad_after])
    first_frame = block.first_frame - len(block.quad_before)
    crops = np.empty((len(quad), side, side, 3), np.uint8)
    with open_video(local_copy(block.clip.source)) as video:
        for start in range(0, len(crops), _DECODED_FRAMES):
            part = slice(start, min(start + _DECODED_FRAMES, len(crops)))
            frames = video.read(first_frame + part.start, first_frame + part.stop)
            crops[part] = crop_quads(frames, quad[part], side)
    return Crops(block, crops)


def in_batches(network: Callable[[Tensor], Tensor], x: Tensor, batch: int) -> Tensor:
    """network(x) for x [N, ...] in calls of exactly `batch`, the last padded with copies of its last row."""
    parts = [_padded(part, batch) for part in x.split(batch)]
    return torch.cat([network(part) for part in parts])[: len(x)]


def _padded(x: Tensor, batch: int) -> Tensor:
    missing = batch - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x


class BlockEncoder:
    """Both networks, loaded once for each process, on its GPU if it was given one."""

    def __init__(self, job: Inversion, store: LatentStore, node: str) -> None:
        self.job = job
        self.store = store
        self.node = node
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.deterministic = True
        generator_folder, encoder_folder = weights_folders(job.weights)
        self.encoder = load_encoder(encoder_folder, self.device)
        self.generator = load_generator(generator_folder, self.device)

    @torch.inference_mode()
    def __call__(self, crops: Crops) -> Chunk:
        """Encode a block, refine it if asked to, and put its chunk into the store."""
        block, images = crops.block, self._images(crops.frames)
        w_plus = in_batches(self._encode, images, self.job.batch_frames)  # [B + T + A, num_ws, w_dim]
        if self.job.refinement is not None:
            w_plus = refine(images, w_plus, self.generator.synthesis, self.job.refinement, _SYNTHESIS_BATCH)
        own = slice(len(block.quad_before), len(block.quad_before) + len(block.quad))
        frames, images, w_plus = crops.frames[own], images[own], w_plus[own]
        measured = self._measured_frames(block)
        error, reconstruction = self._reconstruction_error(images[measured], w_plus[measured])
        ref = self.store.put_chunk(
            self.job.inversion_id,
            block.clip.clip_id,
            block.number,
            chunk_tensors(block, w_plus, measured, error),
        )
        pictures = _pair(frames[measured[0]], reconstruction[0]) if block.number == 0 and measured else None
        return Chunk(block.clip, block.number, ref, error.numpy(), self.node, pictures)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder.encode(images, self.generator.synthesis)

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

    def _reconstruction_error(self, images: Tensor, w_plus: Tensor) -> tuple[Tensor, Tensor]:
        """Images [M, 3, S, S] against what their latents give: RMS of pixels of 0 to 1 [M], pictures."""
        if len(images) == 0:
            return torch.empty(0), images.cpu()
        reconstruction = in_batches(self.generator.synthesis, w_plus, _SYNTHESIS_BATCH)
        side = min(images.shape[-1], reconstruction.shape[-1])
        reconstruction = resize_antialiased(reconstruction, side)
        difference = reconstruction - resize_antialiased(images, side)
        return difference.square().mean(dim=(1, 2, 3)).sqrt().div(2).cpu(), reconstruction.cpu()


def chunk_tensors(block: Block, w_plus: Tensor, measured: list[int], error: Tensor) -> dict[str, Tensor]:
    """What the store keeps of a block; frames whose error was not measured hold NaN."""
    all_errors = torch.full((len(w_plus),), torch.nan)
    all_errors[measured] = error
    return {
        "w_plus": w_plus.cpu(),
        "quad": torch.tensor(block.quad),
        "time_s": torch.tensor(block.time_s),
        "error": all_errors,
        "interpolated": torch.tensor(block.interpolated),
    }


def _pair(crop: npt.NDArray[np.uint8], reconstruction: Tensor) -> npt.NDArray[np.uint8]:
    """A crop [S, S, 3] and its reconstruction [3, R, R] in [-1, 1] as one uint8 [2, S, S, 3]."""
    picture = F.interpolate(reconstruction[None], crop.shape[:2], mode="nearest")[0].clamp(-1, 1)
    pixels = picture.permute(1, 2, 0).add(1).mul(127.5).round().byte().numpy()
    return np.stack([crop, pixels])
