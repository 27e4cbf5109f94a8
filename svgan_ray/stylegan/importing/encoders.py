"""Files of pSp, e4e and ReStyle, which hold an encoder and the generator with which it was trained."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.encoder import Backbone, Encoder, EncoderConfig, EncoderKind
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.importing.networks import (
    BACKBONE_NAMES,
    LICENCE,
    Imported,
    build,
    common_average,
    encoder_backbone,
    encoder_config,
    fields,
    input_channels,
    latent_average,
    without_prefix,
)
from svgan_ray.stylegan.importing.pickles import shown
from svgan_ray.stylegan.importing.rosinality import generator_of
from svgan_ray.stylegan.importing.tensors import State, tensors_of
from svgan_ray.stylegan.weights import suggestion

__all__ = ["convert", "refuse_feature_space"]

_KINDS: dict[str, tuple[EncoderKind, Backbone, str]] = {
    "GradualStyleEncoder": ("psp", "ir_se50", "pSp"),
    "Encoder4Editing": ("e4e", "ir_se50", "e4e"),
    "BackboneEncoder": ("restyle", "ir_se50", "ReStyle-pSp"),
    "ProgressiveBackboneEncoder": ("restyle_e4e", "ir_se50", "ReStyle-e4e"),
    "ResNetBackboneEncoder": ("restyle", "resnet34", "ReStyle-pSp (ResNet-34)"),
    "ResNetProgressiveBackboneEncoder": ("restyle_e4e", "resnet34", "ReStyle-e4e (ResNet-34)"),
}
_PREFIXES = ("encoder", "decoder")
_FEATURE_SPACE = {
    "residue.": "HFGI",
    "grid_align.": "HFGI",
    "content_layer.": "FeatureStyleEncoder",
    "hypernet.": "HyperStyle",
}


def convert(root: dict[str, Any]) -> Imported:
    """Encoder and generator in a file."""
    state = tensors_of(root["state_dict"], "state_dict")
    refuse_feature_space(state)
    _refuse_foreign(state)
    opts = fields(root.get("opts", {}), "opts")
    encoder_state, decoder_state = without_prefix(state, "encoder."), without_prefix(state, "decoder.")
    _require_both(encoder_state, decoder_state)
    kind, name, notes = _kind(opts, encoder_state)
    config = encoder_config(encoder_state, kind)
    _require_photographs(encoder_state, config, opts)
    notes += (*_resolution_notes(opts, config), *_shape_notes(opts))
    average = latent_average(root.get("latent_avg"), config.num_ws, config.w_dim)
    generator, generator_notes = generator_of(decoder_state, common_average(average), "state_dict decoder")
    _require_pair(config, generator)
    if average is None:
        average = generator.mapping.w_avg.expand(config.num_ws, -1).contiguous()
    if kind in ("psp", "e4e") and opts.get("start_from_latent_avg") is False:
        average = torch.zeros_like(average)
        notes += ("opts.start_from_latent_avg is off: the encoder's answer counts from zero",)
    encoder = build(Encoder, config, {**encoder_state, "w_avg": average}, "state_dict encoder")
    return Imported(f"{name} file", (generator, encoder), (*notes, *generator_notes, LICENCE))


def refuse_feature_space(keys: Collection[str]) -> None:
    """Raise WeightsError for encoders that, besides W+, change the generator's features or weights."""
    for prefix, name in _FEATURE_SPACE.items():
        if any(key.startswith(prefix) for key in keys):
            raise WeightsError(
                f"{name} ({prefix}*): it inverts into features or weights of the generator beside W+, "
                "so its W+ would not show the picture; use pSp, e4e or ReStyle"
            )


def _refuse_foreign(keys: Collection[str]) -> None:
    for key in keys:
        if (prefix := key.partition(".")[0]) not in _PREFIXES:
            raise WeightsError(
                f"state_dict: foreign {shown(key)}{suggestion(prefix, _PREFIXES)}; "
                "expected encoder.* and decoder.* alone"
            )


def _require_both(encoder: State, decoder: State) -> None:
    for state, missing, found in ((decoder, "decoder", "encoder"), (encoder, "encoder", "decoder")):
        if not state:
            raise WeightsError(
                f"state_dict: the {missing} is missing ({missing}.*), the file holds the {found} alone; "
                "export both together, as the original training saves them"
            )


def _require_photographs(state: State, config: EncoderConfig, opts: dict[str, Any]) -> None:
    """Raise WeightsError for an encoder of sketches or segmentation maps, which pSp also offers."""
    if (got := input_channels(state)) == config.input_channels:
        return
    layer = "conv1.weight" if config.backbone == "resnet34" else "input_layer.0.weight"
    size = list(state[layer].size)
    expected = [size[0], config.input_channels, *size[2:]]
    settings = {name: opts[name] for name in ("dataset_type", "label_nc", "input_nc") if name in opts}
    options = ", ".join(f"opts.{name} {shown(value)}" for name, value in settings.items())
    raise WeightsError(
        f"state_dict encoder: layer {layer!r}: expected float32 {expected}, got float32 {size}; "
        f"its input has {got} channels and is no photograph but a sketch or a map of labels"
        f"{f' ({options})' if options else ''}; import an encoder of photographs"
    )


def _kind(opts: dict[str, Any], state: State) -> tuple[EncoderKind, str, tuple[str, ...]]:
    """The kind of encoder, its name, and a note where the file does not name it."""
    given = opts.get("encoder_type")
    backbone = encoder_backbone(state)
    if given is None:
        # pSp and e4e have the same layers; only e4e calls its size stylegan_size.
        if backbone == "resnet34":
            given = "ResNetBackboneEncoder"
        elif input_channels(state) == 6:
            given = "BackboneEncoder"
        else:
            given = "Encoder4Editing" if "stylegan_size" in opts else "GradualStyleEncoder"
        kind, _, name = _KINDS[given]
        return kind, name, (f"kind: opts.encoder_type is missing, taken as {name} by its other marks",)
    known = [name for name, (_, its_backbone, _) in _KINDS.items() if its_backbone == backbone]
    if not isinstance(given, str) or given not in known:
        raise WeightsError(
            f"opts.encoder_type: {shown(given)} is not supported, expected one of {', '.join(known)} "
            f"for the layers in this file ({BACKBONE_NAMES[backbone]})"
        )
    kind, _, name = _KINDS[given]
    return kind, name, ()


def _resolution_notes(opts: dict[str, Any], config: EncoderConfig) -> tuple[str, ...]:
    given = opts.get("output_size", opts.get("stylegan_size"))
    resolution = 2 ** (config.num_ws // 2 + 1)
    if given is None or given == resolution:
        return ()
    return (f"resolution: {resolution} by the {config.num_ws} styles, though opts say {shown(given)}",)


def _shape_notes(opts: dict[str, Any]) -> tuple[str, ...]:
    """A note for encoders of cars, which were trained on pictures that are wider than high."""
    if not re.search(r"cars?(_|$)", str(opts.get("dataset_type", ""))):
        return ()
    return (
        f"opts.dataset_type {shown(opts['dataset_type'])}: trained on pictures 256 px wide and 192 px high; "
        "square footage, which every inversion gives it, is not what it was trained on",
    )


def _require_pair(config: EncoderConfig, generator: Generator) -> None:
    ours, theirs = (config.num_ws, config.w_dim), (generator.config.num_ws, generator.config.w_dim)
    if ours != theirs:
        raise WeightsError(f"encoder and decoder differ: w_plus {list(ours)} and {list(theirs)}; damaged")
