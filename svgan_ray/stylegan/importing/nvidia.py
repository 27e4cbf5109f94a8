"""NVIDIA's StyleGAN2 pickles (stylegan2-ada-pytorch and stylegan3): `G_ema`, its modules taken as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.importing.closed_table import PersistentModule
from svgan_ray.stylegan.importing.networks import (
    LICENCE,
    Imported,
    average_w,
    build,
    fields,
    generator_config,
    shape,
)
from svgan_ray.stylegan.importing.pickles import shown
from svgan_ray.stylegan.importing.tensors import State, StoredTensor

__all__ = ["convert"]

MAX_DEPTH = 8


def convert(root: Any) -> Imported:
    """The generator in an unpickled file."""
    node = _moving_average(root)
    modules = dict(_walk(node, "", set()))
    if any(module.class_name == "SynthesisInput" for module in modules.values()):
        raise WeightsError("a StyleGAN3 generator (T or R); only StyleGAN2 is supported")
    state = {key: tensor for name, module in modules.items() for key, tensor in _tensors(module, name)}
    settings = fields(node.state.get("_init_kwargs", {}), "G_ema._init_kwargs")
    if settings.get("c_dim") or any(key.startswith("mapping.embed.") for key in state):
        raise WeightsError("a class-conditional generator (c_dim above 0); only unconditional ones are supported")
    _require_usual_filter(state)
    state = {key: tensor for key, tensor in state.items() if not key.endswith("resample_filter")}
    config = _confirmed(generator_config(state, _lr_multiplier(modules), _clamp(modules, settings)), settings)
    return _with_average(config, state)


def _moving_average(root: Any) -> PersistentModule:
    if isinstance(root, tuple) and len(root) == 3:
        raise WeightsError(
            "a TensorFlow pickle (three networks); convert it with stylegan2-ada-pytorch's legacy.py first"
        )
    if not isinstance(root, dict) or not isinstance(root.get("G_ema"), PersistentModule):
        raise WeightsError("a pickle, but not one of NVIDIA's: expected a dict with the network 'G_ema'")
    return root["G_ema"]


def _walk(node: PersistentModule, name: str, seen: set[int]) -> Iterator[tuple[str, PersistentModule]]:
    """The module and those inside it, by dotted name with a dot at the end."""
    if id(node) in seen or name.count(".") > MAX_DEPTH:
        raise WeightsError(f"G_ema.{shown(name)}: refused, modules contain each other")
    seen.add(id(node))
    yield name, node
    for key, child in _entries(node, "_modules", name):
        if isinstance(child, PersistentModule):
            yield from _walk(child, f"{name}{key}.", seen)


def _tensors(node: PersistentModule, name: str) -> Iterator[tuple[str, StoredTensor]]:
    passing = node.state.get("_non_persistent_buffers_set", ())
    for key, value in (*_entries(node, "_parameters", name), *_entries(node, "_buffers", name)):
        if not isinstance(value, StoredTensor) or 0 in value.size:
            raise WeightsError(f"G_ema.{name}{shown(key)}: expected a tensor, got {shown(value)}")
        if not isinstance(passing, list | tuple) or key not in passing:
            yield f"{name}{key}", value


def _entries(node: PersistentModule, field: str, name: str) -> list[tuple[str, Any]]:
    """What a module registered under `field`; None stands for what it could have had and has not."""
    values = node.state.get(field, {})
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise WeightsError(f"G_ema.{shown(name)}{field}: expected a dict by name, got {shown(values)}")
    return [(key, value) for key, value in values.items() if value is not None]


def _require_usual_filter(state: State) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for key, tensor in state.items():
        if key.endswith("resample_filter") and (
            tensor.size != (4, 4) or not torch.allclose(tensor.read(), taps.outer(taps), atol=1e-6)
        ):
            raise WeightsError(f"{key}: expected the filter [1, 3, 3, 1], got another; not supported")


def _clamp(modules: Mapping[str, PersistentModule], settings: Mapping[str, Any]) -> float | None:
    """The bound of activations: what the layers say, since the default differs between the two repositories."""
    given = {**settings, **fields(settings.get("synthesis_kwargs", {}), "synthesis_kwargs")}.get("conv_clamp")
    layers = [module.state.get("conv_clamp", given) for name, module in modules.items() if _is_layer(name)]
    clamps = [layer for i, layer in enumerate(layers) if layer not in layers[:i]]
    if len(clamps) > 1:
        raise WeightsError("conv_clamp: expected one value for all layers, got several")
    clamp = clamps[0] if clamps else given
    if clamp is None:
        return None
    if type(clamp) not in (int, float) or not 0 < clamp < 1e9:
        raise WeightsError(f"conv_clamp: expected None or a number above 0, got {shown(clamp)}")
    return float(clamp)


def _is_layer(name: str) -> bool:
    return name.startswith("synthesis.b") and name.endswith((".conv0.", ".conv1.", ".torgb."))


def _lr_multiplier(modules: Mapping[str, PersistentModule]) -> float:
    """The learning rate multiplier of the mapping, which is the gain of its biases."""
    gain = modules["mapping.fc0."].state.get("bias_gain", 0.01) if "mapping.fc0." in modules else 0.01
    if type(gain) not in (int, float) or not 0 < gain < 1e3:
        raise WeightsError(f"mapping.fc0.bias_gain: expected a number above 0, got {shown(gain)}")
    return float(gain)


def _confirmed(config: GeneratorConfig, settings: Mapping[str, Any]) -> GeneratorConfig:
    """The configuration found in the tensors, which the one that was pickled may not contradict."""
    synthesis = {**settings, **fields(settings.get("synthesis_kwargs", {}), "synthesis_kwargs")}
    mapping = fields(settings.get("mapping_kwargs", {}), "mapping_kwargs")
    for field, given, found in (
        ("img_resolution", settings.get("img_resolution"), config.resolution),
        ("img_channels", settings.get("img_channels"), config.img_channels),
        ("z_dim", settings.get("z_dim"), config.z_dim),
        ("w_dim", settings.get("w_dim"), config.w_dim),
        ("mapping_kwargs.num_layers", mapping.get("num_layers"), config.mapping_layers),
    ):
        if given is not None and (type(given) is not int or given != found):
            raise WeightsError(f"{field}: the tensors say {found}, the settings {shown(given)}; damaged")
    given = {name: synthesis[name] for name in ("channel_base", "channel_max") if synthesis.get(name) is not None}
    if any(type(value) is not int or not 0 < value < 2**31 for value in given.values()):
        raise WeightsError(f"{' and '.join(given)}: expected numbers above 0")
    named = dataclasses.replace(config, **given)
    for side in config.block_resolutions:
        if named.channels(side) != config.channels(side):
            raise WeightsError(
                f"{' and '.join(given)}: the tensors of b{side} have {config.channels(side)} channels, "
                f"the settings say {named.channels(side)}; damaged"
            )
    return named


def _with_average(config: GeneratorConfig, state: State) -> Imported:
    name, where = "NVIDIA StyleGAN2 pickle", "G_ema"
    if "mapping.w_avg" in state:
        return Imported(name, (build(Generator, config, state, where),), (LICENCE,))
    generator = build(Generator, config, {**state, "mapping.w_avg": torch.zeros(config.w_dim)}, where)
    generator.mapping.w_avg.copy_(average_w(generator))
    return Imported(name, (generator,), ("w_avg is missing: the mean of 10,000 mapped z, seeded", LICENCE))
