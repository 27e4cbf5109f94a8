"""Networks for metrics, which users import: ArcFace for identity, I3D for FVD, Inception for FID, LPIPS."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.errors import DataError, WeightsError
from svgan_ray.stylegan.encoder import residual_units, stem
from svgan_ray.stylegan.weights import load_network

__all__ = [
    "ArcFace",
    "ArcFaceConfig",
    "I3d",
    "Inception",
    "Lpips",
    "Program",
    "ProgramConfig",
    "load_arcface",
    "load_i3d",
    "load_inception",
    "load_lpips",
]

FACE_SIDE = 256
_ROWS, _COLUMNS = slice(35, 223), slice(32, 220)
MIN_I3D_FRAMES = 10
LPIPS_SIDE = 256


@dataclass(frozen=True)
class ArcFaceConfig:
    """Shape of an ArcFace network; the defaults are those of the published IR-SE50."""

    side: int = 112
    embedding: int = 512
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    units: tuple[int, int, int, int] = (3, 4, 14, 3)
    stem_width: int = 64


class ArcFace(nn.Module):
    """Identity of a face (Deng et al., "ArcFace", CVPR 2019, as pSp's identity loss uses it)."""

    def __init__(self, config: ArcFaceConfig) -> None:
        super().__init__()
        self.config = config
        width, map_side = config.widths[-1], config.side // 16
        self.input_layer = stem(3, config.stem_width)
        self.body = nn.Sequential(*residual_units(config.stem_width, config.widths, config.units))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(width * map_side**2, config.embedding),
            nn.BatchNorm1d(config.embedding),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Aligned faces [N, 3, S, S] in [-1, 1] -> unit vectors [N, embedding]: products are cosines."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise DataError(f"ArcFace: expected images [N, 3, S, S], got {list(images.shape)}")
        faces = F.adaptive_avg_pool2d(images, FACE_SIDE)[:, :, _ROWS, _COLUMNS]
        x = self.body(self.input_layer(F.adaptive_avg_pool2d(faces, self.config.side)))
        return F.normalize(self.output_layer(x), dim=1)


@dataclass(frozen=True)
class ProgramConfig:
    """Size and SHA-256 of a TorchScript file."""

    size_bytes: int
    sha256: str


class Program(nn.Module):
    """A TorchScript program, which is stored unchanged and checked before use."""

    program: Tensor  # [size_bytes] uint8

    def __init__(self, config: ProgramConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("program", torch.zeros(config.size_bytes, dtype=torch.uint8))
        self._loaded: Any = None

    @property
    def run(self) -> Any:
        """The program's forward. The program is no submodule, or its weights would be stored twice."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        content = self.program.cpu().numpy().tobytes()
        if (digest := hashlib.sha256(content).hexdigest()) != self.config.sha256:
            name = type(self).__name__
            raise WeightsError(f"{name}: expected SHA-256 {self.config.sha256}, got {digest}; it was not run")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # PyTorch offers no other reader of this format
            program = torch.jit.load(io.BytesIO(content), map_location=self.program.device)
        for parameter in program.parameters():
            parameter.requires_grad_(False)
        return program.eval().forward


class I3d(Program):
    """Features of motion for FVD (Unterthiner et al., 2019)."""

    def forward(self, videos: Tensor) -> Tensor:
        """Videos [N, 3, T, H, W] with values 0..255, T of 10 or more -> features [N, 400]."""
        if videos.ndim != 5 or videos.shape[1] != 3 or videos.shape[2] < MIN_I3D_FRAMES:
            raise DataError(
                f"I3D: expected videos [N, 3, T of {MIN_I3D_FRAMES} or more, H, W], got {list(videos.shape)}"
            )
        features: Tensor = self.run(videos.float(), rescale=True, resize=True, return_features=True)
        return features


class Inception(Program):
    """Features of pictures for FID (Heusel et al., 2017), the file of NVIDIA's StyleGAN repositories."""

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] -> features [N, 2048]."""
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            got = f"{images.dtype} {list(images.shape)}"
            raise DataError(f"Inception: expected uint8 images [N, 3, H, W], got {got}")
        features: Tensor = self.run(images, return_features=True)
        return features


class Lpips(Program):
    """Perceptual distance (Zhang et al., 2018), by the VGG16 that NVIDIA's projector uses (`vgg16.pt`)."""

    def forward(self, pictures: Tensor, images: Tensor) -> Tensor:
        """Two batches [N, 3, S, S] in [-1, 1] -> the distance of each pair [N], with gradients."""
        if pictures.ndim != 4 or pictures.shape != images.shape or pictures.shape[1] != 3:
            shapes = f"{list(pictures.shape)} and {list(images.shape)}"
            raise DataError(f"LPIPS: expected two batches of pictures [N, 3, S, S], got {shapes}")
        return (self._features(pictures) - self._features(images)).square().sum(dim=1)

    def _features(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-1] > LPIPS_SIDE:
            pictures = F.interpolate(pictures, size=(LPIPS_SIDE, LPIPS_SIDE), mode="area")
        features: Tensor = self.run((pictures + 1) * 127.5, resize_images=False, return_lpips=True)
        return features


def load_arcface(folder: str | Path, device: torch.device | str = "cpu") -> ArcFace:
    """The ArcFace network in a weights folder, in eval mode, without gradients."""
    return load_network(ArcFace, ArcFaceConfig, folder, device)


def load_i3d(folder: str | Path, device: torch.device | str = "cpu") -> I3d:
    """The I3D in a weights folder; the first call runs the program that was imported."""
    return load_network(I3d, ProgramConfig, folder, device)


def load_inception(folder: str | Path, device: torch.device | str = "cpu") -> Inception:
    """The Inception in a weights folder; the first call runs the program that was imported."""
    return load_network(Inception, ProgramConfig, folder, device)


def load_lpips(folder: str | Path, device: torch.device | str = "cpu") -> Lpips:
    """The LPIPS in a weights folder; the first call runs the program that was imported."""
    return load_network(Lpips, ProgramConfig, folder, device)
