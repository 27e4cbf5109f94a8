"""Files of rosinality's stylegan2-pytorch: converted networks and training snapshots, with NVIDIA's names."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.generator import Generator, GeneratorConfig, StyledConv
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

_FILTERS = (".blur.kernel", ".upsample.kernel")  # not copied, after a check that they are the usual ones
# Above this energy the epsilon changes a kernel by less than a millionth, as the order of additions does.
_SMALLEST_USUAL_ENERGY = 0.01

# The ending of a tensor's name here -> in rosinality's files, and their extra dimensions of size 1.
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
    filters = {key: tensor for key, tensor in state.items() if key.endswith(_FILTERS)}
    state = {key: tensor for key, tensor in state.items() if key not in filters}
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
    notes: tuple[str, ...] = () if filters else ("filters: not in the file, taken as [1, 3, 3, 1]",)
    if not has_noise:
        weights |= _noise(config.block_resolutions)
        notes += ("noise patterns: not in the file, drawn with a fixed seed",)
    generator, more_notes = build_generator(config, weights, where)
    _require_usual_filters(filters, where)
    return generator, notes + more_notes + _fold_small_kernels(generator)


def _require_usual_filters(filters: State, where: str) -> None:
    """Raise WeightsError for a network that resamples with another filter than [1, 3, 3, 1]."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    for key, tensor in filters.items():
        if tensor.size != (4, 4) or not torch.allclose(tensor.read(), taps.outer(taps), atol=1e-3):
            raise WeightsError(
                f"{where} {key}: expected the filter [1, 3, 3, 1], got another (blur_kernel); not supported"
            )


@torch.no_grad()
def _fold_small_kernels(generator: Generator) -> tuple[str, ...]:
    """Scale kernels that are so small that the epsilon of their demodulation matters.

    The original divides kernels by sqrt(fan_in) before it demodulates them with an epsilon of 1e-8; this
    package does not divide. For kernels of the usual size both give the same result. Such kernels keep their
    bits, so that the hash of the network stays the same.
    """
    layers = [layer for layer in generator.synthesis.modules() if isinstance(layer, StyledConv)]
    small = [layer for layer in layers if _least_energy(layer) < _SMALLEST_USUAL_ENERGY]
    for layer in small:
        layer.weight.div_(math.sqrt(layer.weight[0].numel()))
    if not small:
        return ()
    return (f"small kernels: those of {len(small)} layers scaled by 1/sqrt(fan_in), as the original does",)


def _least_energy(layer: StyledConv) -> float:
    """The smallest mean square of a modulated kernel over the output channels, for w of size 1."""
    affine = layer.affine
    style = affine.weight.square().mean(dim=1) + affine.bias.square()  # [I]
    taps = layer.weight[0, 0].numel()
    # A norm needs no copy of the kernel; copies of this size leave holes in the heap after an import.
    squares = torch.linalg.vector_norm(layer.weight, dim=(2, 3)).square().div(taps)  # [O, I]
    return float((squares @ style).min() / len(style))


def _config(state: State) -> GeneratorConfig:
    """The configuration that follows from tensors with rosinality's names."""
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
    """Rosinality's name for a tensor of this package, and its extra dimensions of size 1."""
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
