"""Files of rosinality's stylegan2-pytorch: converted networks and training snapshots, by NVIDIA's names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.importing.networks import (
    LICENCE,
    Imported,
    build_generator,
    common_average,
    config_of_channels,
    count,
    empty,
    latent_average,
    shape,
)
from svgan_ray.stylegan.importing.tensors import State, StoredTensor, tensors_of
from svgan_ray.stylegan.weights import require_same_layout

__all__ = ["convert", "generator_of"]

_FILTERS = (".blur.kernel", ".upsample.kernel")  # recomputed

# Our ending of a layer's tensor -> theirs, and the dimensions of size 1 that theirs has besides.
_CONVOLUTION: dict[str, tuple[str, tuple[int, ...]]] = {
    "weight": ("conv.weight", (0,)),
    "affine.weight": ("conv.modulation.weight", ()),
    "affine.bias": ("conv.modulation.bias", ()),
    "noise_strength": ("noise.weight", (0,)),
    "bias": ("activate.bias", ()),
}
_TO_RGB = {**_CONVOLUTION, "bias": ("bias", (0, 2, 3))}


def convert(root: dict[str, Any]) -> Imported:
    """The moving average `g_ema` of a file."""
    state = tensors_of(root["g_ema"], "g_ema")
    config = _config(state)
    average = latent_average(root.get("latent_avg"), config.num_ws, config.w_dim)
    generator, notes = generator_of(state, common_average(average), "g_ema")
    return Imported("rosinality stylegan2-pytorch file", (generator,), (*notes, LICENCE))


def generator_of(state: State, average: Tensor | None, where: str) -> tuple[Generator, tuple[str, ...]]:
    """The generator in a state_dict with rosinality's names and the average of w [w_dim], and notes."""
    state = {key: tensor for key, tensor in state.items() if not key.endswith(_FILTERS)}
    has_noise = any(key.startswith("noises.") for key in state)
    config = _config(state)
    layout = empty(Generator, config, where).state_dict()
    names = {ours: _their_name(ours) for ours in layout if ours != "mapping.w_avg"}
    if not has_noise:
        names = {ours: theirs for ours, theirs in names.items() if not ours.endswith("noise_const")}
    expected = {theirs: _with_ones(layout[ours], ones) for ours, (theirs, ones) in names.items()}
    require_same_layout(expected, state, where)
    weights: dict[str, StoredTensor | Tensor] = {
        ours: state[theirs].drop(*ones) for ours, (theirs, ones) in names.items()
    }
    if average is not None:
        weights["mapping.w_avg"] = average
    notes: tuple[str, ...] = ()
    if not has_noise:
        weights |= _noise(config.block_resolutions)
        notes = ("noise patterns: not in the file, drawn with a fixed seed",)
    generator, more_notes = build_generator(config, weights, where)
    return generator, notes + more_notes


def _config(state: State) -> GeneratorConfig:
    """The configuration that tensors with rosinality's names speak of."""
    w_dim, z_dim = shape(state, "style.1.weight", 2)
    last = ("conv1", *(f"convs.{2 * block + 1}" for block in range(count(state, "to_rgbs."))))
    return config_of_channels(
        [shape(state, f"{layer}.conv.weight", 5)[1] for layer in last],
        z_dim=z_dim,
        w_dim=w_dim,
        mapping_layers=count(state, "style."),
        img_channels=shape(state, "to_rgb1.conv.weight", 5)[1],
    )


def _their_name(ours: str) -> tuple[str, tuple[int, ...]]:
    """Rosinality's name of a tensor of ours, and the dimensions of size 1 that it has besides."""
    network, layer, rest = ours.split(".", 2)
    if network == "mapping":  # style.0 is the pixel norm
        return f"style.{int(layer.removeprefix('fc')) + 1}.{rest}", ()
    if rest == "const":
        return "input.input", (0,)
    part, ending = rest.split(".", 1)
    block = int(layer.removeprefix("b")).bit_length() - 4  # 0 at 8 px, -1 at 4
    index = 2 * block + (part == "conv1")  # of the convolutions from 8 px on
    if ending == "noise_const":
        return f"noises.noise_{index + 1}", (0, 1)
    if part == "torgb":
        theirs, ones = _TO_RGB[ending]
        return f"{'to_rgb1' if block < 0 else f'to_rgbs.{block}'}.{theirs}", ones
    theirs, ones = _CONVOLUTION[ending]
    return f"{'conv1' if block < 0 else f'convs.{index}'}.{theirs}", ones


def _with_ones(tensor: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    for dimension in dimensions:
        tensor = tensor.unsqueeze(dimension)
    return tensor


def _noise(sides: tuple[int, ...]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        f"synthesis.b{side}.{layer}.noise_const": torch.randn(side, side, generator=random)
        for side in sides
        for layer in (("conv0", "conv1") if side > 4 else ("conv1",))
    }
