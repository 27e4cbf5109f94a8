"""Files of pSp, e4e and ReStyle: an encoder, and the generator it was trained with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.encoder import Encoder, EncoderConfig, EncoderKind
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.importing.networks import (
    LICENCE,
    Imported,
    build,
    common_average,
    encoder_config,
    fields,
    latent_average,
    shape,
    without_prefix,
)
from svgan_ray.stylegan.importing.pickles import shown
from svgan_ray.stylegan.importing.rosinality import generator_of
from svgan_ray.stylegan.importing.tensors import State, tensors_of
from svgan_ray.stylegan.weights import suggestion

__all__ = ["convert", "refuse_feature_space"]

_KINDS: dict[str, tuple[EncoderKind, str]] = {
    "GradualStyleEncoder": ("psp", "pSp"),
    "Encoder4Editing": ("e4e", "e4e"),
    "BackboneEncoder": ("restyle", "ReStyle-pSp"),
    "ProgressiveBackboneEncoder": ("restyle_e4e", "ReStyle-e4e"),
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
    kind, name, notes = _kind(opts, encoder_state)
    config = encoder_config(encoder_state, kind)
    notes += _resolution_notes(opts, config)
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
    """WeightsError for encoders that change the generator's features or weights beside W+."""
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


def _kind(opts: dict[str, Any], state: State) -> tuple[EncoderKind, str, tuple[str, ...]]:
    """The kind of encoder, its name, and a note where the file does not name it."""
    given = opts.get("encoder_type")
    if given is not None:
        if not isinstance(given, str) or given not in _KINDS:
            raise WeightsError(
                f"opts.encoder_type: {shown(given)} is not supported, expected one of {', '.join(_KINDS)}"
            )
        return *_KINDS[given], ()
    # pSp and e4e have the same layers; only e4e calls its size stylegan_size.
    if shape(state, "input_layer.0.weight", 4)[1] == 6:
        kind, name = _KINDS["BackboneEncoder"]
    else:
        kind, name = _KINDS["Encoder4Editing" if "stylegan_size" in opts else "GradualStyleEncoder"]
    return kind, name, (f"kind: opts.encoder_type is missing, taken as {name} by its other marks",)


def _resolution_notes(opts: dict[str, Any], config: EncoderConfig) -> tuple[str, ...]:
    given = opts.get("output_size", opts.get("stylegan_size"))
    resolution = 2 ** (config.num_ws // 2 + 1)
    if given is None or given == resolution:
        return ()
    return (f"resolution: {resolution} by the {config.num_ws} styles, though opts say {shown(given)}",)


def _require_pair(config: EncoderConfig, generator: Generator) -> None:
    ours, theirs = (config.num_ws, config.w_dim), (generator.config.num_ws, generator.config.w_dim)
    if ours != theirs:
        raise WeightsError(f"encoder and decoder differ: w_plus {list(ours)} and {list(theirs)}; damaged")
