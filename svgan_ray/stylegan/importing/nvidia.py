"""NVIDIA's StyleGAN2 pickles (stylegan2-ada-pytorch and stylegan3): `G_ema`, with modules read as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.generator import GeneratorConfig
from svgan_ray.stylegan.importing.closed_table import PersistentModule
from svgan_ray.stylegan.importing.networks import (
    LICENCE,
    Imported,
    build_generator,
    fields,
    generator_config,
)
from svgan_ray.stylegan.importing.pickles import shown
from svgan_ray.stylegan.importing.tensors import State, StoredTensor

__all__ = ["convert"]

# A generator for 1024 px has 70 modules with some ten entries each.
MAX_DEPTH = 8
MAX_ENTRIES = 1000


def convert(root: Any) -> Imported:
    """The generator in an unpickled file."""
    node = _moving_average(root)
    modules = dict(_walk(node, "", set()))
    if any(module.class_name == "SynthesisInput" for module in modules.values()):
        raise WeightsError("a StyleGAN3 generator (T or R): only StyleGAN2 is supported")
    if "synthesis.b4." not in modules:
        raise WeightsError(f"G_ema is a {shown(node.class_name)}: only StyleGAN2's Generator is supported")
    state = {key: tensor for name, module in modules.items() for key, tensor in _tensors(module, name)}
    settings = fields(node.state.get("_init_kwargs", {}), "G_ema._init_kwargs")
    if settings.get("c_dim") or any(key.startswith("mapping.embed.") for key in state):
        raise WeightsError("a class-conditional generator (c_dim above 0): its mapping needs a label")
    _require_usual_layers(modules)
    _require_usual_filter(state)
    state = {key: tensor for key, tensor in state.items() if not key.endswith("resample_filter")}
    config = generator_config(state, _lr_multiplier(modules), _clamp(modules, settings))
    _require_confirmed(config, settings)
    generator, notes = build_generator(_with_named_channels(config, settings), state, "G_ema")
    return Imported("NVIDIA StyleGAN2 pickle", (generator,), (*notes, LICENCE))


def _moving_average(root: Any) -> PersistentModule:
    if isinstance(root, tuple) and len(root) == 3:
        raise WeightsError(
            "a TensorFlow pickle (three networks); convert it with stylegan2-ada-pytorch's legacy.py first"
        )
    node = root.get("G_ema") if isinstance(root, dict) else None
    if not isinstance(node, PersistentModule):
        raise WeightsError("a pickle, but not one of NVIDIA's: expected a dict with the network 'G_ema'")
    return node


def _walk(node: PersistentModule, name: str, seen: set[int]) -> Iterator[tuple[str, PersistentModule]]:
    """The module and all modules inside it, each with its dotted name, which ends with a dot."""
    if id(node) in seen or name.count(".") > MAX_DEPTH or len(seen) > MAX_ENTRIES:
        raise WeightsError(f"G_ema.{shown(name)}: refused, modules contain each other or are too many")
    seen.add(id(node))
    yield name, node
    for key, child in _entries(node, "_modules", name):
        if isinstance(child, PersistentModule):
            yield from _walk(child, f"{name}{key}.", seen)


def _tensors(node: PersistentModule, name: str) -> Iterator[tuple[str, StoredTensor]]:
    passing = node.state.get("_non_persistent_buffers_set", [])
    if not isinstance(passing, list) or len(passing) > MAX_ENTRIES:
        raise WeightsError(f"G_ema.{name}_non_persistent_buffers_set: expected a set, got {shown(passing)}")
    for key, value in (*_entries(node, "_parameters", name), *_entries(node, "_buffers", name)):
        if not isinstance(value, StoredTensor) or 0 in value.size:
            raise WeightsError(f"G_ema.{name}{shown(key)}: expected a tensor, got {shown(value)}")
        if key not in passing:
            yield f"{name}{key}", value


def _entries(node: PersistentModule, field: str, name: str) -> list[tuple[str, Any]]:
    """The entries that a module registered under `field`, without those that are None."""
    values = node.state.get(field, {})
    if not isinstance(values, dict) or len(values) > MAX_ENTRIES or {*map(type, values)} - {str}:
        raise WeightsError(f"G_ema.{shown(name)}{field}: expected a dict by name, got {shown(values)}")
    return [(key, value) for key, value in values.items() if value is not None]


def _require_usual_layers(modules: Mapping[str, PersistentModule]) -> None:
    """Check the layers' settings that change the results but cannot be seen in the tensors."""
    for name, module in modules.items():
        if not name.startswith(("mapping.fc", "synthesis.b")):
            continue
        activation = "linear" if name.endswith(".affine.") else "lrelu"
        for field, usual in (("activation", activation), ("architecture", "skip"), ("use_noise", True)):
            if (given := module.state.get(field, usual)) != usual:
                got = shown(given)
                raise WeightsError(f"G_ema.{name}{field}: expected {usual!r}, got {got}; not supported")


def _require_usual_filter(state: State) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for key, tensor in state.items():
        if key.endswith("resample_filter") and (
            tensor.size != (4, 4) or not torch.allclose(tensor.read(), taps.outer(taps), atol=1e-6)
        ):
            raise WeightsError(f"{key}: expected the filter [1, 3, 3, 1], got another; not supported")


def _clamp(modules: Mapping[str, PersistentModule], settings: Mapping[str, Any]) -> float | None:
    """The limit of the activations, read from the layers, as the two repositories have different defaults."""
    given = _synthesis_settings(settings).get("conv_clamp")
    clamps = {
        _number_or_none(module.state.get("conv_clamp", given), f"{name}conv_clamp")
        for name, module in modules.items()
        if name.startswith("synthesis.b") and name.endswith((".conv0.", ".conv1.", ".torgb."))
    }
    if len(clamps) != 1:
        raise WeightsError("conv_clamp: expected one value for all layers, got several")
    return clamps.pop()


def _number_or_none(value: object, where: str) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < 1e9:  # type: ignore[operator]
        raise WeightsError(f"{where}: expected a number above 0, got {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def _synthesis_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the synthesis network; one repository nests them, the other one does not."""
    return {**settings, **fields(settings.get("synthesis_kwargs", {}), "synthesis_kwargs")}


def _lr_multiplier(modules: Mapping[str, PersistentModule]) -> float:
    """The learning rate multiplier of the mapping, which is the gain of its biases."""
    first = modules.get("mapping.fc0.")
    gain = _number_or_none(first.state.get("bias_gain") if first else None, "mapping.fc0.bias_gain")
    return 0.01 if gain is None else gain


def _require_confirmed(config: GeneratorConfig, settings: Mapping[str, Any]) -> None:
    """Require that the configuration found in the tensors agrees with the settings in the pickle."""
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


def _with_named_channels(config: GeneratorConfig, settings: Mapping[str, Any]) -> GeneratorConfig:
    """The configuration with the channel settings of the pickle, which must give the same channels."""
    given = {
        name: value
        for name, value in _synthesis_settings(settings).items()
        if name in ("channel_base", "channel_max") and value is not None
    }
    for name, value in given.items():
        if type(value) is not int or not 0 < value < 2**31:
            raise WeightsError(f"{name}: expected a number above 0, got {shown(value)}")
    named = dataclasses.replace(config, **given)
    for side in config.block_resolutions:
        if named.channels(side) != config.channels(side):
            raise WeightsError(
                f"{' and '.join(given)}: the tensors of b{side} have {config.channels(side)} channels, "
                f"the settings give {named.channels(side)}; damaged"
            )
    return named
