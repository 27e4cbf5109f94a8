"""From a file's tensors to our networks: shapes give the configuration, which then has to fit every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.stylegan.encoder import EncoderConfig, EncoderKind
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.importing.pickles import Inert, shown
from svgan_ray.stylegan.importing.tensors import State, StoredTensor
from svgan_ray.stylegan.weights import require_same_layout

__all__ = [
    "LICENCE",
    "Imported",
    "build",
    "build_generator",
    "count",
    "encoder_config",
    "encoder_stages",
    "fields",
    "generator_config",
    "shape",
    "without_prefix",
]

LICENCE = (
    "NVIDIA's published weights may not be used commercially, nor may encoders trained with them, "
    "which carry a converted copy: check the licence of this file"
)
AVERAGED_SAMPLES = 10_000
MAX_RESOLUTION = 4096

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Imported:
    """What a file held: the name of its format, its networks, and what had to be inferred."""

    format: str
    networks: tuple[nn.Module, ...]
    notes: tuple[str, ...] = ()


def build(kind: type[Module], config: Any, state: Mapping[str, StoredTensor | Tensor], where: str) -> Module:
    """A network with a file's weights, without gradients; WeightsError names the layers that do not fit."""
    try:
        with torch.device("meta"):
            module = kind(config)
    except (RuntimeError, OverflowError) as error:
        raise WeightsError(f"{where}: its shapes make no network ({shown(error)})") from error
    require_same_layout(module.state_dict(), state, where)
    _require_own_bytes([tensor for tensor in state.values() if isinstance(tensor, StoredTensor)], where)
    tensors = {key: t.read() if isinstance(t, StoredTensor) else t for key, t in state.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def build_generator(
    config: GeneratorConfig, state: Mapping[str, StoredTensor | Tensor], where: str
) -> tuple[Generator, tuple[str, ...]]:
    """A generator with a file's weights, and notes; a file without the average of w has it found."""
    if "mapping.w_avg" in state:
        return build(Generator, config, state, where), ()
    generator = build(Generator, config, {**state, "mapping.w_avg": torch.zeros(config.w_dim)}, where)
    generator.mapping.w_avg.copy_(_average_w(generator))
    return generator, (f"w_avg: not in the file, taken as the mean of {AVERAGED_SAMPLES:,} mapped z",)


def _require_own_bytes(tensors: Sequence[StoredTensor], where: str) -> None:
    """Tensors that share their bytes would take more memory than the file."""
    storages = {id(tensor.storage): tensor.storage for tensor in tensors}
    held = sum(storage.count * storage.dtype.itemsize for storage in storages.values())
    if (needed := sum(tensor.stored_bytes for tensor in tensors)) > held:
        raise WeightsError(f"{where}: refused, its tensors share memory ({needed} bytes in {held})")


def generator_config(
    state: State, mapping_lr_multiplier: float = 0.01, conv_clamp: float | None = None
) -> GeneratorConfig:
    """The configuration that tensors with NVIDIA's names speak of."""
    channels = {4: shape(state, "synthesis.b4.conv1.weight", 4)[0]}
    while f"synthesis.b{2 * max(channels)}.conv1.weight" in state:
        side = 2 * max(channels)
        channels[side] = shape(state, f"synthesis.b{side}.conv1.weight", 4)[0]
    w_dim, z_dim = shape(state, "mapping.fc0.weight", 2)
    resolution = max(channels)
    if resolution > MAX_RESOLUTION:
        raise WeightsError(f"synthesis: blocks up to {resolution} px, expected {MAX_RESOLUTION} at most")
    try:
        return GeneratorConfig(
            resolution,
            z_dim=z_dim,
            w_dim=w_dim,
            mapping_layers=count(state, "mapping.fc"),
            mapping_lr_multiplier=mapping_lr_multiplier,
            channel_base=resolution * channels[resolution],
            channel_max=max(channels.values()),
            img_channels=shape(state, "synthesis.b4.torgb.weight", 4)[0],
            conv_clamp=conv_clamp,
        )
    except ConfigError as error:
        raise WeightsError(f"{error}") from error


def encoder_stages(state: State) -> dict[str, Any]:
    """`widths`, `units` and `stem_width` of an IR-SE50 body: a stage begins where the width changes."""
    units = count(state, "body.")
    starts = [0, *(i for i in range(1, units) if f"body.{i}.shortcut_layer.0.weight" in state)]
    if len(starts) != 4:
        raise WeightsError(f"body: expected the 4 stages of IR-SE50, got {len(starts)} in {units} units")
    return {
        "widths": tuple(shape(state, f"body.{i}.res_layer.1.weight", 4)[0] for i in starts),
        "units": tuple(stop - start for start, stop in pairwise([*starts, units])),
        "stem_width": shape(state, "input_layer.0.weight", 4)[0],
    }


def encoder_config(state: State, kind: EncoderKind) -> EncoderConfig:
    """The configuration that an encoder's tensors speak of."""
    w_dim, head_width = shape(state, "styles.0.linear.weight", 2)
    halvings = count(state, "styles.0.convs.", "weight")
    if halvings > 8:
        raise WeightsError(f"styles.0.convs: expected 8 convolutions at most, got {halvings}")
    try:
        return EncoderConfig(
            kind,
            num_ws=count(state, "styles."),
            w_dim=w_dim,
            input_side=16 << halvings,
            head_width=head_width,
            **encoder_stages(state),
        )
    except ConfigError as error:
        raise WeightsError(f"encoder: {error}") from error


def _average_w(generator: Generator) -> Tensor:
    """The mean of mapped z, seeded: what a file without `latent_avg` leaves to be found."""
    random, batch = torch.Generator().manual_seed(0), AVERAGED_SAMPLES // 10
    total = torch.zeros(generator.config.w_dim, dtype=torch.float64)
    for _ in range(10):
        z = torch.randn(batch, generator.config.z_dim, generator=random)
        total += generator.mapping(z)[:, 0].double().sum(dim=0)
    return (total / AVERAGED_SAMPLES).float()


def shape(state: State, key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there, with so many dimensions."""
    if key not in state:
        raise WeightsError(f"missing {key!r}; the file holds {', '.join(map(shown, list(state)[:4]))}, ...")
    size = state[key].size
    if len(size) != dimensions:
        raise WeightsError(f"layer {key!r}: expected {dimensions} dimensions, got {list(size)}")
    return size


def count(state: State, prefix: str, suffix: str = "") -> int:
    """How many different names follow a prefix, up to the next dot."""
    return len(
        {key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix) and key.endswith(suffix)}
    )


def without_prefix(state: State, prefix: str) -> State:
    """The tensors under a prefix, which their names lose."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def fields(values: object, where: str) -> dict[str, Any]:
    """A dict of settings, or a namespace of them."""
    if isinstance(values, Inert) and values.name == "argparse.Namespace":
        values = values.state
    if not isinstance(values, dict):
        raise WeightsError(f"{where}: expected a dict, got {shown(values)}")
    return values
