"""Imported encoders answer as the file's network does, held against the naive float64 twin."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan import Encoder, import_weights, load_encoder, load_generator, require_pair
from svgan_ray.stylegan.encoder import EncoderKind

from ..naive_encoder import NaiveEncoder
from ..naive_generator import NaiveGenerator
from .writers import (
    ENCODER_TYPES,
    SMALL,
    UNITS,
    encoder_file,
    legacy,
    random_encoder,
    random_generator,
    write,
    zipped,
)

KINDS: tuple[EncoderKind, ...] = ("psp", "e4e", "restyle", "restyle_e4e")
SIDE = 32


def _pair(kind: EncoderKind) -> tuple[Encoder, Any]:
    return random_encoder(kind, SMALL.num_ws), random_generator()


def _imported(tmp_path: Path, data: bytes) -> tuple[Encoder, Any, tuple[str, ...]]:
    report = import_weights(write(tmp_path, data), tmp_path / "out")
    assert [folder.name for folder in report.folders] == ["generator", "encoder"]
    return load_encoder(tmp_path / "out"), load_generator(tmp_path / "out"), report.notes


def _assert_equals_twin(loaded: Encoder, generator: Any, original: Encoder) -> None:
    """`loaded` with the imported `generator` answers as `original` would."""
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    twin, naive = NaiveEncoder(original.state_dict(), UNITS), images.double().numpy()
    synthesis = NaiveGenerator(random_generator().state_dict()).synthesis
    expected = {
        "psp": lambda: twin.psp(naive),
        "e4e": lambda: twin.e4e(naive),
        "restyle": lambda: twin.restyle(naive, synthesis),
        "restyle_e4e": lambda: twin.restyle(naive, synthesis, shares_first_style=True),
    }[original.config.kind]()
    actual = loaded.encode(images, generator.synthesis).double().numpy()
    assert np.abs(actual - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("container", [zipped, legacy])
@pytest.mark.parametrize("kind", KINDS)
def test_imported_pair_equals_its_twins(
    tmp_path: Path, kind: EncoderKind, container: Callable[[object], bytes]
) -> None:
    encoder, generator = _pair(kind)
    loaded, loaded_generator, notes = _imported(tmp_path, container(encoder_file(encoder, generator)))
    assert loaded.config == encoder.config
    require_pair(loaded_generator, loaded)
    _assert_equals_twin(loaded, loaded_generator, encoder)
    for key, tensor in generator.state_dict().items():
        if key != "mapping.w_avg":
            assert torch.equal(loaded_generator.state_dict()[key], tensor)
    assert any("NVIDIA's published weights may not be used commercially" in note for note in notes)


@pytest.mark.parametrize("kind", ["restyle", "restyle_e4e"])
def test_restyle_on_a_resnet_equals_its_twin(tmp_path: Path, kind: EncoderKind) -> None:
    """As it was published for everything but faces."""
    encoder = random_encoder(kind, SMALL.num_ws, backbone="resnet34")
    file = encoder_file(encoder, random_generator())
    assert file["opts"]["encoder_type"].startswith("ResNet")
    loaded, generator, _ = _imported(tmp_path, zipped(file))
    assert loaded.config == encoder.config
    _assert_equals_twin(loaded, generator, encoder)
    if kind == "restyle":
        del file["opts"]["encoder_type"]
        assert _imported(tmp_path, zipped(file))[0].config == encoder.config


def test_stages_of_a_resnet_are_counted(tmp_path: Path) -> None:
    file = encoder_file(random_encoder("restyle", 8, backbone="resnet34"), random_generator())
    del file["state_dict"]["encoder.body.1.downsample.0.weight"]
    assert "expected the 4 stages of ResNet-34, got 3 in 6 units" in _refusal(tmp_path, file)


def _halved(file: dict[str, Any]) -> None:
    file["state_dict"] = {key: tensor.half() for key, tensor in file["state_dict"].items()}
    file["latent_avg"] = file["latent_avg"].half()


def _without_counters(file: dict[str, Any]) -> None:
    for key in [key for key in file["state_dict"] if key.endswith("num_batches_tracked")]:
        del file["state_dict"][key]


def _wrapped(file: dict[str, Any]) -> None:
    file["state_dict"] = {f"module.{key}": tensor for key, tensor in file["state_dict"].items()}


@pytest.mark.parametrize("edit", [_halved, _without_counters, _wrapped])
@pytest.mark.parametrize("kind", ["psp", "restyle"])
def test_what_the_original_loads_is_loaded(
    tmp_path: Path, kind: EncoderKind, edit: Callable[[dict[str, Any]], None]
) -> None:
    """Cast to half as a whole, without the counters of batch norms, or saved from a DataParallel."""
    encoder, generator = _pair(kind)
    for module in (encoder, generator):  # so that half precision holds them
        module.load_state_dict({k: t.half().to(t.dtype) for k, t in module.state_dict().items()})
    encoder.body[0].res_layer[0].num_batches_tracked.fill_(70_000)  # half precision does not hold this
    file = encoder_file(encoder, generator)
    edit(file)
    loaded, loaded_generator, _ = _imported(tmp_path, zipped(file))
    for key, tensor in encoder.state_dict().items():
        found = loaded.state_dict()[key]
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor) or key.endswith("num_batches_tracked"), key
    assert loaded.body[0].res_layer[0].num_batches_tracked == (70_000 if edit is _wrapped else 0)
    for key, tensor in generator.state_dict().items():
        assert torch.equal(loaded_generator.state_dict()[key], tensor) or key == "mapping.w_avg"


@pytest.mark.parametrize(("kind", "channels"), [("psp", 1), ("psp", 19), ("restyle", 3)])
def test_input_that_is_no_photograph_is_said(tmp_path: Path, kind: EncoderKind, channels: int) -> None:
    """pSp was published for sketches (1 channel) and segmentation maps (19), too."""
    settings = {"label_nc": channels, "input_nc": channels, "dataset_type": "celebs_seg_to_face"}
    file = encoder_file(*_pair(kind), settings)
    file["state_dict"]["encoder.input_layer.0.weight"] = torch.zeros(16, channels, 3, 3)
    message = _refusal(tmp_path, file)
    assert (
        f"its input has {channels} channels and is no photograph but a sketch or a map of labels" in message
    )
    assert f"opts.dataset_type 'celebs_seg_to_face', opts.label_nc {channels}" in message


@pytest.mark.parametrize("kind", ["e4e", "restyle"])
def test_footage_of_cars_is_said_to_be_wider_than_high(tmp_path: Path, kind: EncoderKind) -> None:
    for dataset, is_said in (("cars_encode", True), ("ffhq_encode", False), ("cartoon_encode", False)):
        file = encoder_file(*_pair(kind), {"dataset_type": dataset})
        notes = _imported(tmp_path, zipped(file))[2]
        assert any("256 px wide and 192 px high; square footage" in note for note in notes) == is_said


@pytest.mark.parametrize(("missing", "found"), [("decoder", "encoder"), ("encoder", "decoder")])
def test_half_a_pair_is_named(tmp_path: Path, missing: str, found: str) -> None:
    file = encoder_file(*_pair("e4e"))
    file["state_dict"] = {k: t for k, t in file["state_dict"].items() if k.startswith(found)}
    message = _refusal(tmp_path, file)
    assert f"the {missing} is missing ({missing}.*), the file holds the {found} alone" in message


def test_psp_and_e4e_files_differ_by_their_settings_alone(tmp_path: Path) -> None:
    psp, generator = _pair("psp")
    e4e = random_encoder("e4e", SMALL.num_ws)
    e4e.load_state_dict(psp.state_dict())
    file = encoder_file(psp, generator, {"encoder_type": "Encoder4Editing"})
    loaded, loaded_generator, _ = _imported(tmp_path, zipped(file))
    _assert_equals_twin(loaded, loaded_generator, e4e)


@pytest.mark.parametrize("shape", ["[d]", "[1, d]", "[n, d]"])
def test_every_shape_of_the_average(tmp_path: Path, shape: str) -> None:
    encoder, generator = _pair("e4e")
    encoder.w_avg.copy_(encoder.w_avg[0].clone().expand_as(encoder.w_avg))
    average = {"[d]": encoder.w_avg[0], "[1, d]": encoder.w_avg[:1], "[n, d]": encoder.w_avg}[shape]
    file = encoder_file(encoder, generator, latent_avg=average.clone())
    loaded, loaded_generator, _ = _imported(tmp_path, zipped(file))
    assert torch.equal(loaded.w_avg, encoder.w_avg)
    assert torch.equal(loaded_generator.mapping.w_avg, encoder.w_avg[0])


def test_missing_average_is_found_with_the_decoder(tmp_path: Path) -> None:
    encoder = random_encoder("psp", SMALL.num_ws)
    file = encoder_file(encoder, random_generator(), latent_avg=None)
    loaded, generator, notes = _imported(tmp_path, zipped(file))
    assert any("mean of 10,000 mapped z" in note for note in notes)
    assert torch.equal(loaded.w_avg, generator.mapping.w_avg.expand_as(loaded.w_avg))
    assert loaded.w_avg.abs().max() > 0


def test_settings_may_be_a_namespace(tmp_path: Path) -> None:
    """As argparse gives them, which some forks save."""
    file = encoder_file(*_pair("e4e"))
    file["opts"] = argparse.Namespace(**file["opts"])
    assert _imported(tmp_path, zipped(file))[0].config.kind == "e4e"


@pytest.mark.parametrize("kind", ["psp", "e4e"])
def test_encoder_that_counts_from_zero(tmp_path: Path, kind: EncoderKind) -> None:
    encoder, generator = _pair(kind)
    file = encoder_file(encoder, generator, {"start_from_latent_avg": False})
    loaded, loaded_generator, notes = _imported(tmp_path, zipped(file))
    assert any("start_from_latent_avg is off" in note for note in notes)
    encoder.w_avg.zero_()
    _assert_equals_twin(loaded, loaded_generator, encoder)


@pytest.mark.parametrize("kind", ["psp", "e4e", "restyle"])
def test_kind_without_its_name_is_taken_by_other_marks(tmp_path: Path, kind: EncoderKind) -> None:
    assert kind in ENCODER_TYPES
    file = encoder_file(*_pair(kind))
    del file["opts"]["encoder_type"]
    loaded, _, notes = _imported(tmp_path, zipped(file))
    assert loaded.config.kind == kind
    assert any("opts.encoder_type is missing" in note for note in notes)


def test_styles_are_trusted_over_the_settings(tmp_path: Path) -> None:
    encoder, generator = _pair("psp")
    loaded, _, notes = _imported(tmp_path, zipped(encoder_file(encoder, generator, {"output_size": 1024})))
    assert loaded.config.num_ws == SMALL.num_ws
    assert any("32 by the 8 styles, though opts say 1024" in note for note in notes)


def _refusal(tmp_path: Path, file: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        import_weights(write(tmp_path, zipped(file)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "ResNetBackboneEncoder",
        "ResNetProgressiveBackboneEncoder",
        "ResNetGradualStyleEncoder",
        "BackboneEncoderUsingLastLayerIntoW",
        "SingleStyleCodeEncoder",
    ],
)
def test_other_encoders_are_refused_by_name(tmp_path: Path, name: str) -> None:
    message = _refusal(tmp_path, encoder_file(*_pair("psp"), {"encoder_type": name}))
    assert f"opts.encoder_type: '{name}' is not supported, expected one of GradualStyleEncoder" in message


@pytest.mark.parametrize(
    ("key", "name"), [("residue.conv.weight", "HFGI"), ("grid_align.a", "HFGI"), ("hypernet.x", "HyperStyle")]
)
def test_feature_space_encoders_are_refused_by_name(tmp_path: Path, key: str, name: str) -> None:
    file = encoder_file(*_pair("e4e"))
    file["state_dict"][key] = torch.zeros(2)
    assert f"{name} ({key.split('.')[0]}.*): it inverts into features" in _refusal(tmp_path, file)


def test_feature_style_encoder_is_refused_by_name(tmp_path: Path) -> None:
    file = {"conv.0.weight": torch.zeros(2), "content_layer.0.weight": torch.zeros(2)}
    assert "FeatureStyleEncoder" in _refusal(tmp_path, file)


def _without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda file: file["state_dict"].pop(key)


def _with(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda file: file["state_dict"].update({key: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_without("encoder.body.2.res_layer.3.weight"), "missing 'body.2.res_layer.3.weight'"),
        (_without("encoder.body.1.shortcut_layer.0.weight"), "expected the 4 stages of IR-SE50, got 3"),
        (_with("encoder.latlayer3.weight", torch.zeros(1)), "foreign 'latlayer3.weight'"),
        (
            _with("encoder.styles.2.convs.0.weight", torch.zeros(24, 48, 1, 1)),
            "layer 'styles.2.convs.0.weight': expected float32 [24, 48, 3, 3], got float32 [24, 48, 1, 1]",
        ),
        (
            _with("encoder.input_layer.0.weight", torch.zeros(16, 19, 3, 3)),
            "layer 'input_layer.0.weight': expected float32 [16, 3, 3, 3], got float32 [16, 19, 3, 3]",
        ),
        (_without("decoder.style.2.weight"), "missing 'style.2.weight' (nearest: "),
        (
            _with("decoder.to_rgbs.0.skew", torch.zeros(1)),
            "foreign 'to_rgbs.0.skew' (nearest: 'to_rgbs.0.bias')",
        ),
        (
            _with("encodr.latlayer1.bias", torch.zeros(1)),
            "state_dict: foreign 'encodr.latlayer1.bias' (nearest: 'encoder')",
        ),
        (
            lambda file: file.update(latent_avg=torch.zeros(7)),
            "latent_avg: expected a tensor [20], [1, 20] or",
        ),
        (lambda file: file.update(opts=["a"]), "opts: expected a dict, got a list"),
        (lambda file: file.update(state_dict=3), "state_dict: expected a dict of tensors, got 3"),
    ],
)
def test_damage_is_named(tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    file = encoder_file(*_pair("psp"))
    edit(file)
    assert message in _refusal(tmp_path, file)


def test_encoder_and_decoder_must_agree(tmp_path: Path) -> None:
    file = encoder_file(random_encoder("psp", 6), random_generator())
    assert "encoder and decoder differ: w_plus [6, 20] and [8, 20]" in _refusal(tmp_path, file)
