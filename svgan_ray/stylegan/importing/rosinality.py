"""Files of rosinality's stylegan2-pytorch: converted networks and training snapshots, by NVIDIA's names."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.importing.networks import LICENCE, Imported, build_generator, generator_config
from svgan_ray.stylegan.importing.pickles import shown
from svgan_ray.stylegan.importing.tensors import State, StoredTensor, tensors_of

__all__ = ["convert", "generator_of"]

# Ending of a layer's tensor -> our ending, dimensions of size 1 to drop.
_ENDINGS: dict[str, tuple[str, tuple[int, ...]]] = {
    "conv.weight": ("weight", (0,)),
    "conv.modulation.weight": ("affine.weight", ()),
    "conv.modulation.bias": ("affine.bias", ()),
    "noise.weight": ("noise_strength", (0,)),
    "activate.bias": ("bias", ()),
    "bias": ("bias", (0, 2, 3)),
}
_LAYER = re.compile(r"(conv1|to_rgb1|convs\.(\d{1,2})|to_rgbs\.(\d{1,2}))\.(.+)")


def convert(root: dict[str, Any]) -> Imported:
    """The moving average `g_ema` of a file."""
    average = root.get("latent_avg")
    if average is not None and not isinstance(average, StoredTensor):
        raise WeightsError(f"latent_avg: expected a tensor, got {shown(average)}")
    generator, notes = generator_of(tensors_of(root["g_ema"], "g_ema"), average, "g_ema")
    return Imported("rosinality stylegan2-pytorch file", (generator,), (*notes, LICENCE))


def generator_of(
    state: State, average: StoredTensor | Tensor | None, where: str
) -> tuple[Generator, tuple[str, ...]]:
    """The generator in a state_dict with rosinality's names and the average of w [w_dim], and notes."""
    renamed = dict(entry for key, tensor in state.items() if (entry := _renamed(key, tensor, where)))
    config = generator_config(renamed)
    notes: tuple[str, ...] = ()
    weights: dict[str, StoredTensor | Tensor] = {**renamed}
    if average is not None:
        weights["mapping.w_avg"] = average
    if not any(key.endswith("noise_const") for key in weights):
        weights |= _noise(config.block_resolutions)
        notes = ("noise patterns: not in the file, drawn with a fixed seed",)
    generator, more_notes = build_generator(config, weights, where)
    return generator, notes + more_notes


def _renamed(key: str, tensor: StoredTensor, where: str) -> tuple[str, StoredTensor] | None:
    """NVIDIA's name and shape of a tensor; None for filters, which are recomputed."""
    if key.endswith((".blur.kernel", ".upsample.kernel")):
        return None
    try:
        name, ones = _name(key)
        return name, tensor.drop(*ones)
    except WeightsError as error:
        raise WeightsError(f"{where}[{shown(key)}]: {error}") from error


def _name(key: str) -> tuple[str, tuple[int, ...]]:
    """NVIDIA's name of a key, and the dimensions to drop."""
    if key == "input.input":
        return "synthesis.b4.const", (0,)
    if match := re.fullmatch(r"style\.(\d{1,3})\.(weight|bias)", key):  # style.0 is the pixel norm
        return f"mapping.fc{int(match[1]) - 1}.{match[2]}", ()
    if match := re.fullmatch(r"noises\.noise_(\d{1,2})", key):
        return f"synthesis.{_convolution(int(match[1]) - 1)}.noise_const", (0, 1)
    if (match := _LAYER.fullmatch(key)) and match[4] in _ENDINGS:
        ending, ones = _ENDINGS[match[4]]
        return f"synthesis.{_layer(match)}.{ending}", ones
    raise WeightsError("foreign: no layer of rosinality's generator has this name")


def _layer(match: re.Match[str]) -> str:
    if match[2]:
        return _convolution(int(match[2]))
    if match[3]:
        return f"b{8 << int(match[3])}.torgb"
    return "b4.conv1" if match[1] == "conv1" else "b4.torgb"


def _convolution(index: int) -> str:
    """Convolutions counted from b8.conv0; the one before is b4's."""
    return "b4.conv1" if index < 0 else f"b{8 << index // 2}.conv{index % 2}"


def _noise(sides: tuple[int, ...]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        f"synthesis.b{side}.{layer}.noise_const": torch.randn(side, side, generator=random)
        for side in sides
        for layer in (("conv0", "conv1") if side > 4 else ("conv1",))
    }
