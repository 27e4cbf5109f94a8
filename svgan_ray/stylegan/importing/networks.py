"""From a file's tensors to networks: shapes give the configuration, which then must fit every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.stylegan.encoder import Backbone, EncoderConfig, EncoderKind
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.importing.pickles import Inert, shown
from svgan_ray.stylegan.importing.tensors import State, StoredTensor
from svgan_ray.stylegan.weights import require_same_layout, suggestion

__all__ = [
    "BACKBONE_NAMES",
    "LICENCE",
    "Imported",
    "build",
    "build_generator",
    "common_average",
    "config_of_channels",
    "count",
    "empty",
    "encoder_backbone",
    "encoder_config",
    "encoder_stages",
    "fields",
    "generator_config",
    "input_channels",
    "latent_average",
    "shape",
    "without_prefix",
]

LICENCE = (
    "NVIDIA's published weights may not be used commercially, nor may encoders trained with them, "
    "which carry a converted copy: check the licence of this file"
)
BACKBONE_NAMES: dict[Backbone, str] = {"ir_se50": "IR-SE50", "resnet34": "ResNet-34"}
AVERAGED_SAMPLES = 10_000
MAX_RESOLUTION = 4096

Module = TypeVar("Module", bound=nn.Module)

# The names of a backbone's stem, of a unit's first convolution, and of the shortcut that begins a stage.
_LAYERS: dict[Backbone, tuple[str, str, str]] = {
    "ir_se50": ("input_layer.0", "res_layer.1", "shortcut_layer.0"),
    "resnet34": ("conv1", "conv1", "downsample.0"),
}
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Imported:
    """The content of a file: the name of its format, its networks, and notes on inferred settings."""

    format: str
    networks: tuple[nn.Module, ...]
    notes: tuple[str, ...] = ()


def build(kind: type[Module], config: Any, state: Mapping[str, StoredTensor | Tensor], where: str) -> Module:
    """A network with a file's weights, without gradients; WeightsError names the layers that do not fit."""
    module = empty(kind, config, where)
    state = {**state, **_counters(module.state_dict(), state)}
    require_same_layout(module.state_dict(), state, where)
    _require_own_bytes([tensor for tensor in state.values() if isinstance(tensor, StoredTensor)], where)
    tensors = {key: t.read() if isinstance(t, StoredTensor) else t for key, t in state.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def _counters(layout: Mapping[str, Tensor], state: Mapping[str, StoredTensor | Tensor]) -> dict[str, Tensor]:
    """The batch norms' counters that a file lacks, or that were cast together with its weights.

    Imported networks never use their counters; a count that half precision could not represent becomes 0.
    """
    counters = {}
    for key in (key for key in layout if key.endswith(_COUNTER)):
        stored = state.get(key)
        if stored is None:
            counters[key] = torch.zeros_like(layout[key], device="cpu")
        elif isinstance(stored, StoredTensor) and stored.dtype != torch.int64:
            counters[key] = stored.read().nan_to_num(0, 0, 0).long()
    return counters


def empty(kind: type[Module], config: Any, where: str) -> Module:
    """A network without memory for its weights; it has only names and shapes."""
    try:
        with torch.device("meta"):
            return kind(config)
    except (RuntimeError, OverflowError) as error:
        raise WeightsError(f"{where}: its shapes make no network ({shown(error)})") from error


def build_generator(
    config: GeneratorConfig, state: Mapping[str, StoredTensor | Tensor], where: str
) -> tuple[Generator, tuple[str, ...]]:
    """A generator with a file's weights, and notes; if the file lacks the average of w, it is computed."""
    if "mapping.w_avg" in state:
        return build(Generator, config, state, where), ()
    generator = build(Generator, config, {**state, "mapping.w_avg": torch.zeros(config.w_dim)}, where)
    generator.mapping.w_avg.copy_(_average_w(generator))
    return generator, (f"w_avg: not in the file, taken as the mean of {AVERAGED_SAMPLES:,} mapped z",)


def _require_own_bytes(tensors: Sequence[StoredTensor], where: str) -> None:
    """Refuse tensors that share bytes, because their copies would take more memory than the file."""
    storages = {id(tensor.storage): tensor.storage for tensor in tensors}
    held = sum(storage.count * storage.dtype.itemsize for storage in storages.values())
    if (needed := sum(tensor.stored_bytes for tensor in tensors)) > held:
        raise WeightsError(f"{where}: refused, its tensors share memory ({needed} bytes in {held})")


def generator_config(
    state: State, mapping_lr_multiplier: float = 0.01, conv_clamp: float | None = None
) -> GeneratorConfig:
    """The configuration that follows from tensors with NVIDIA's names."""
    w_dim, z_dim = shape(state, "mapping.fc0.weight", 2)
    last = [f"synthesis.b{4 << block}.conv1.weight" for block in range(count(state, "synthesis.b"))]
    return config_of_channels(
        [shape(state, key, 4)[0] for key in last],
        z_dim=z_dim,
        w_dim=w_dim,
        mapping_layers=count(state, "mapping.fc"),
        img_channels=shape(state, "synthesis.b4.torgb.weight", 4)[0],
        mapping_lr_multiplier=mapping_lr_multiplier,
        conv_clamp=conv_clamp,
    )


def config_of_channels(channels: Sequence[int], **others: Any) -> GeneratorConfig:
    """The configuration of a generator whose blocks, from 4 px upwards, have these numbers of channels."""
    resolution = 2 << len(channels)
    if resolution > MAX_RESOLUTION:
        raise WeightsError(f"synthesis: blocks up to {resolution} px, expected {MAX_RESOLUTION} at most")
    try:
        return GeneratorConfig(
            resolution, channel_base=resolution * channels[-1], channel_max=max(channels), **others
        )
    except ConfigError as error:
        raise WeightsError(f"{error}") from error


def encoder_backbone(state: State) -> Backbone:
    """The backbone of an encoder, recognised by the name of its first layer."""
    return "resnet34" if "conv1.weight" in state else "ir_se50"


def encoder_stages(state: State) -> dict[str, Any]:
    """`widths`, `units` and `stem_width` of a backbone: a stage begins where a shortcut has weights."""
    stem, convolution, shortcut = _LAYERS[backbone := encoder_backbone(state)]
    units = count(state, "body.")
    starts = [0, *(i for i in range(1, units) if f"body.{i}.{shortcut}.weight" in state)]
    if len(starts) != 4:
        raise WeightsError(
            f"body: expected the 4 stages of {BACKBONE_NAMES[backbone]}, got {len(starts)} in {units} units"
        )
    return {
        "widths": tuple(shape(state, f"body.{i}.{convolution}.weight", 4)[0] for i in starts),
        "units": tuple(stop - start for start, stop in pairwise([*starts, units])),
        "stem_width": shape(state, f"{stem}.weight", 4)[0],
    }


def input_channels(state: State) -> int:
    """The channels of the pictures that an encoder reads."""
    return shape(state, f"{_LAYERS[encoder_backbone(state)][0]}.weight", 4)[1]


def encoder_config(state: State, kind: EncoderKind) -> EncoderConfig:
    """The configuration that follows from an encoder's tensors."""
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
            backbone=encoder_backbone(state),
            **encoder_stages(state),
        )
    except ConfigError as error:
        raise WeightsError(f"encoder: {error}") from error


def latent_average(value: object, num_ws: int, w_dim: int) -> Tensor | None:
    """A file's `latent_avg` [d], [1, d] or [n, d] -> [n, d]; None if the file has none."""
    if value is None:
        return None
    n, d = num_ws, w_dim
    if not isinstance(value, StoredTensor) or value.size not in ((d,), (1, d), (n, d)):
        got = list(value.size) if isinstance(value, StoredTensor) else shown(value)
        raise WeightsError(f"latent_avg: expected a tensor [{d}], [1, {d}] or [{n}, {d}], got {got}")
    return value.read().expand(n, d).contiguous()


def common_average(average: Tensor | None) -> Tensor | None:
    """The single average that a generator has, [n, d] -> [d]; None if the averages of the layers differ."""
    if average is None or not torch.equal(average, average[:1].expand_as(average)):
        return None
    return average[0].clone()


def _average_w(generator: Generator) -> Tensor:
    """The average of w for a file without `latent_avg`: the mean of mapped z, with a fixed seed."""
    random, batch = torch.Generator().manual_seed(0), AVERAGED_SAMPLES // 10
    total = torch.zeros(generator.config.w_dim, dtype=torch.float64)
    for _ in range(10):
        z = torch.randn(batch, generator.config.z_dim, generator=random)
        total += generator.mapping(z)[:, 0].double().sum(dim=0)
    return (total / AVERAGED_SAMPLES).float()


def shape(state: State, key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a required tensor, which must have this number of dimensions."""
    if key not in state:
        found = (
            f"; the file holds {', '.join(map(shown, list(state)[:4]))}, ..."
            if state
            else "; the file holds no tensors there"
        )
        raise WeightsError(f"missing {key!r}{suggestion(key, state) or found}")
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
    """The tensors under a prefix, with the prefix removed from their names."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def fields(values: object, where: str) -> dict[str, Any]:
    """Settings as a dict; a file holds them as a dict or a namespace."""
    if isinstance(values, Inert) and values.name == "argparse.Namespace":
        values = values.state
    if not isinstance(values, dict):
        raise WeightsError(f"{where}: expected a dict, got {shown(values)}")
    return values
