"""Scores of pictures by the user's networks: FVD, FID, identity and ACD.

FVD (Unterthiner et al., 2019) compares I3D features of clips, FID (Heusel et al., 2017) Inception features of
pictures, both by the Frechet distance of Gaussians with covariances over N - 1. Identity is ArcFace's cosine
between frames of a clip and to the footage's mean; ACD, the average content distance (Tulyakov et al.,
"MoCoGAN", 2018), is the mean Euclidean distance between its vectors of two frames of a clip. Such scores
depend on many choices, so each row of the table lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svgan_ray.metrics.evaluation import Row
from svgan_ray.metrics.frechet import frechet_distance

__all__ = [
    "FVD_CLIPS",
    "Networks",
    "SnippetFeatures",
    "SnippetShape",
    "acd",
    "fid",
    "fvd",
    "identity_rows",
    "see",
    "similarity",
]

Clip = NDArray[np.uint8]
"""Frames [T, S, S, 3]."""
Network = Callable[[Tensor], Tensor]

BATCH_CLIPS = 4


@dataclass(frozen=True)
class SnippetShape:
    """How many frames a clip has, of every how-many-th frame of the video."""

    frames: int
    stride: int = 1

    @property
    def span_frames(self) -> int:
        """Frames of video from the first to the last one."""
        return (self.frames - 1) * self.stride + 1


FVD_CLIPS = {"16": SnippetShape(16), "128": SnippetShape(128), "16x8": SnippetShape(16, 8)}


@dataclass(frozen=True)
class Networks:
    """The user's networks; any of them may be missing."""

    i3d: Network | None = None
    """Videos [N, 3, T, H, W] in 0 to 255 -> features [N, 400]."""
    inception: Network | None = None
    """Pictures uint8 [N, 3, H, W] -> features [N, 2048]."""
    arc_face: Network | None = None
    """Aligned faces [N, 3, H, W] in [-1, 1] -> unit vectors [N, E]."""


@dataclass(frozen=True)
class SnippetFeatures:
    """What the networks see in N clips of T frames; empty for a network that is not there."""

    motion: Tensor  # [N, 400]
    pictures: Tensor  # [N * T, 2048]
    faces: Tensor  # [N, T, E]


@torch.no_grad()
def see(clips: Iterable[Clip], networks: Networks, device: torch.device | str = "cpu") -> SnippetFeatures:
    """Show clips to the networks, a few at a time; features come back as float64 on the CPU."""
    seen: dict[str, list[Tensor]] = {"motion": [], "pictures": [], "faces": []}
    rest = iter(clips)
    while batch := list(islice(rest, BATCH_CLIPS)):
        frames = torch.from_numpy(np.stack(batch)).to(device).permute(0, 1, 4, 2, 3)  # [N, T, 3, S, S] uint8
        flat = frames.flatten(0, 1)
        if networks.i3d is not None:
            seen["motion"].append(networks.i3d(frames.transpose(1, 2).contiguous()))
        if networks.inception is not None:
            seen["pictures"].append(networks.inception(flat.contiguous()))
        if networks.arc_face is not None:
            faces = networks.arc_face(flat.float() / 127.5 - 1)
            seen["faces"].append(faces.unflatten(0, frames.shape[:2]))
    empty = torch.empty(0)
    return SnippetFeatures(*(torch.cat(parts).double().cpu() if parts else empty for parts in seen.values()))


def fvd(shape: SnippetShape, real: Tensor, generated: Tensor, protocol: str) -> Row:
    """Between features of clips [N, F]."""
    of = f"{shape.frames} frames" + (f", stride {shape.stride}" if shape.stride > 1 else "")
    return _frechet_row("FVD", of, real, generated, protocol)


def fid(real: Tensor, generated: Tensor, protocol: str) -> Row:
    """Between features of pictures [N, F]."""
    return _frechet_row("FID", "frames of clips", real, generated, protocol)


def _frechet_row(measure: str, of: str, real: Tensor, generated: Tensor, protocol: str) -> Row:
    count, features = min(len(real), len(generated)), real.shape[1]
    verdict = "" if count > features else f"{count} samples, {features} features: singular covariances"
    return Row(measure, of, float(frechet_distance(real, generated)), "1", count, features, verdict, protocol)


def similarity(faces: Tensor, person: Tensor) -> Tensor:
    """Cosine [N, T] of each face [N, T, E] to a person's mean direction, of faces [M, T, E]."""
    direction: Tensor = torch.nn.functional.normalize(person.flatten(0, 1).mean(0), dim=0)
    return faces @ direction


def acd(faces: Tensor) -> Tensor:
    """Average content distance [N]: mean distance of two frames of a clip, from unit vectors [N, T, E]."""
    first, second = torch.triu_indices(faces.shape[1], faces.shape[1], offset=1)
    distance: Tensor = torch.linalg.vector_norm(faces[:, first] - faces[:, second], dim=-1)
    return distance.mean(1)


def identity_rows(real: Tensor, generated: Tensor, protocol: str) -> list[Row]:
    """Rows on whether a face keeps its own identity, and the subject's, from unit vectors [N, T, E]."""
    rows = []
    for side, faces in (("footage", real), ("generated", generated)):
        within = 1 - (faces[:, :, None] - faces[:, None]).square().sum(-1) / 2  # [N, T, T] cosines
        frames = faces.shape[1]
        between = float((within.sum((1, 2)) - frames).mean()) / (frames * (frames - 1))
        values = (
            ("identity", f"{side}, between frames of a clip", between, "cosine"),
            ("identity", f"{side}, to the subject", float(similarity(faces, real).mean()), "cosine"),
            ("ACD", side, float(acd(faces).mean()), "1"),
        )
        rows += [Row(*value, len(faces), None, "", protocol) for value in values]
    return rows
