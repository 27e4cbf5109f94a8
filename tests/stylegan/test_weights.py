"""Weights folders: what is written is read back to the bit, and what does not fit is refused by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan import (
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
    load_encoder,
    load_generator,
    require_pair,
    save_weights,
    weights_folders,
    weights_hash,
)
from svgan_ray.stylegan.weights import fill

GENERATOR = GeneratorConfig(16, 6, 5, 2, channel_base=128, channel_max=8)
ENCODER = EncoderConfig("e4e", 6, 5, 32, (16, 16, 16, 32), (1, 1, 2, 1), stem_width=16, head_width=8)
KEYS = tuple(Generator(GENERATOR).state_dict())

Tensors = dict[str, Tensor]
fast = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class FactorReader(nn.Module):
    """A network of a kind that this package does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(Generator(GENERATOR), tmp_path / "generator", {"file": "none"})
    return tmp_path / "generator"


def _edit_tensors(folder: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def _edit_record(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "model.json").read_text())
    edit(record)
    (folder / "model.json").write_text(json.dumps(record))


@fast
@given(
    resolution=st.sampled_from([8, 16, 32]),
    z_dim=st.integers(1, 9),
    w_dim=st.integers(1, 9),
    mapping_layers=st.integers(1, 4),
    lr_multiplier=st.floats(0.001, 1.0),
    channel_base=st.integers(32, 300),
    clamp=st.none() | st.floats(0.1, 256.0) | st.just(256),
)
def test_any_generator_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    resolution: int,
    z_dim: int,
    w_dim: int,
    mapping_layers: int,
    lr_multiplier: float,
    channel_base: int,
    clamp: float | None,
) -> None:
    config = GeneratorConfig(
        resolution, z_dim, w_dim, mapping_layers, lr_multiplier, channel_base, 12, 3, clamp
    )
    generator = Generator(config)
    folder = tmp_path_factory.mktemp("weights") / "generator"
    save_weights(generator, folder, {"seed": 1})
    loaded = load_generator(folder)
    assert loaded.config == config
    z = torch.randn(2, z_dim)
    with (
        torch.no_grad()
    ):  # torch convolves single channels in another way, and rounds so, where gradients are due
        first, second = (network.synthesis(network.mapping(z, 0.5)) for network in (generator, loaded))
    assert torch.equal(first, second)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("kind", ["psp", "e4e", "restyle"])
def test_an_encoder_comes_back_to_the_bit(tmp_path: Path, kind: Any) -> None:
    encoder = Encoder(dataclasses.replace(ENCODER, kind=kind))
    encoder.w_avg.normal_()
    save_weights(encoder, tmp_path / "encoder", {})
    loaded = load_encoder(tmp_path / "encoder")
    assert loaded.config == encoder.config
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in loaded.state_dict().items())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(
            loaded.encode(images, lambda w: images), encoder.eval().encode(images, lambda w: images)
        )
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_the_backbone_is_recorded_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    """Records of encoders that could be imported before backbones had names keep their bytes."""
    for kind, backbone in (("e4e", "ir_se50"), ("restyle", "resnet34")):
        config = dataclasses.replace(ENCODER, kind=kind, backbone=backbone)
        save_weights(Encoder(config), tmp_path / kind, {})
        assert load_encoder(tmp_path / kind).config == config
    recorded = json.loads((tmp_path / "e4e" / "model.json").read_text())["config"]
    assert list(recorded) == [
        *("kind", "num_ws", "w_dim", "input_side", "widths", "units", "stem_width", "head_width")
    ]
    assert json.loads((tmp_path / "restyle" / "model.json").read_text())["config"]["backbone"] == "resnet34"


def test_another_network_is_kept_under_its_own_kind(tmp_path: Path) -> None:
    reader = FactorReader()
    save_weights(reader, tmp_path / "reader", {})
    assert json.loads((tmp_path / "reader" / "model.json").read_text())["kind"] == "factor_reader"
    assert torch.equal(fill(FactorReader(), tmp_path / "reader").linear.weight, reader.linear.weight)
    with pytest.raises(WeightsError, match="expected kind 'generator', got 'factor_reader'"):
        load_generator(tmp_path / "reader")


def test_record_says_what_it_is(folder: Path) -> None:
    assert json.loads((folder / "model.json").read_text()) == {
        "schema": 1,
        "kind": "generator",
        "config": dataclasses.asdict(GENERATOR),
        "source": {"file": "none"},
    }
    assert {path.name for path in folder.iterdir()} == {"model.json", "model.safetensors"}


def test_hash_is_the_files_and_follows_the_weights_alone(tmp_path: Path) -> None:
    generator = Generator(GENERATOR)
    for name in ("one", "two"):
        save_weights(generator, tmp_path / name, {"name": name})
    expected = hashlib.sha256((tmp_path / "one" / "model.safetensors").read_bytes()).hexdigest()
    assert weights_hash(tmp_path / "one") == weights_hash(tmp_path / "two") == expected
    generator.synthesis.b8.conv0.weight.data[0, 0, 0, 0] += 1
    save_weights(generator, tmp_path / "two", {})
    assert weights_hash(tmp_path / "two") != expected


def test_saving_again_replaces_and_leaves_nothing_behind(folder: Path) -> None:
    changed = Generator(dataclasses.replace(GENERATOR, mapping_layers=1))
    save_weights(changed, folder, {})
    assert load_generator(folder).config.mapping_layers == 1
    assert [path.name for path in folder.parent.iterdir()] == ["generator"]


def test_network_is_found_by_its_kind_in_a_folder_of_several(tmp_path: Path) -> None:
    save_weights(Generator(GENERATOR), tmp_path / "generator", {})
    save_weights(Encoder(ENCODER), tmp_path / "encoder", {})
    assert load_generator(tmp_path).config == GENERATOR
    assert load_encoder(tmp_path).config == ENCODER
    with pytest.raises(WeightsError, match="no weights folder"):
        load_generator(tmp_path / "encoder" / "nothing")


def test_a_failed_save_shows_nothing_and_keeps_the_old(folder: Path) -> None:
    before = weights_hash(folder)
    broken = Generator(GENERATOR)
    broken.synthesis.b4.const = nn.Parameter(torch.empty(8, 4, 4, device="meta"))  # cannot be written
    with pytest.raises(NotImplementedError):
        save_weights(broken, folder, {})
    assert weights_hash(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["generator"]
    with pytest.raises(TypeError):
        save_weights(Generator(GENERATOR), folder, {"not": {"JSON"}})
    assert load_generator(folder).config == GENERATOR


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(WeightsError, match="is not a weights folder; nothing was written"):
        save_weights(Generator(GENERATOR), tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@fast
@given(key=st.sampled_from(KEYS), position=st.integers(0, 60))
def test_misspelt_key_is_named_with_the_nearest(folder: Path, key: str, position: int) -> None:
    original = (folder / "model.safetensors").read_bytes()
    position %= len(key)
    misspelt = key[:position] + "Q" + key[position + 1 :]
    _edit_tensors(folder, lambda tensors: tensors.update({misspelt: tensors.pop(key)}))
    with pytest.raises(WeightsError) as caught:
        load_generator(folder)
    (folder / "model.safetensors").write_bytes(original)
    message = str(caught.value)
    assert f"missing {key!r} (nearest: {misspelt!r})" in message
    assert f"foreign {misspelt!r} (nearest: {key!r})" in message
    assert str(folder / "model.safetensors") in message


@fast
@given(key=st.sampled_from(KEYS), data=st.data())
def test_misshaped_layer_is_named_with_both_shapes(folder: Path, key: str, data: st.DataObject) -> None:
    original = (folder / "model.safetensors").read_bytes()
    right = list(load_file(folder / "model.safetensors")[key].shape)
    wrong = data.draw(st.lists(st.integers(1, 5), max_size=4).filter(lambda shape: shape != right))
    _edit_tensors(folder, lambda tensors: tensors.update({key: torch.zeros(wrong)}))
    with pytest.raises(WeightsError) as caught:
        load_generator(folder)
    (folder / "model.safetensors").write_bytes(original)
    assert f"layer {key!r}: expected float32 {right}, got float32 {wrong}" in str(caught.value)


def test_half_precision_and_many_problems(folder: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors["mapping.w_avg"] = tensors["mapping.w_avg"].half()
        for key in KEYS[3:]:
            del tensors[key]

    _edit_tensors(folder, spoil)
    with pytest.raises(WeightsError) as caught:
        load_generator(folder)
    assert "layer 'mapping.w_avg': expected float32 [5], got float16 [5]" in str(caught.value)
    assert f"and {len(KEYS) - 3 + 1 - 8} more" in str(caught.value)


def test_config_that_disagrees_with_the_tensors(folder: Path) -> None:
    _edit_record(folder, lambda record: record["config"].update(w_dim=7))
    with pytest.raises(WeightsError, match=r"'mapping.w_avg': expected float32 \[7\], got float32 \[5\]"):
        load_generator(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("resolution", "16", "config.resolution: expected int, got '16'"),
        ("resolution", True, "config.resolution: expected int, got True"),
        ("resolution", 100, "power of two"),
        ("conv_clamp", [1], "config.conv_clamp: expected float"),
        ("mapping_layer", 2, "config has no key 'mapping_layer'; did you mean 'mapping_layers'?"),
    ],
)
def test_wrong_config_field_is_named(folder: Path, field: str, value: object, message: str) -> None:
    _edit_record(folder, lambda record: record["config"].update({field: value}))
    with pytest.raises(WeightsError) as caught:
        load_generator(folder)
    assert message in str(caught.value)
    assert "model.json" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "kind",
            "w-space",
            "config.kind: expected one of psp, e4e, restyle, restyle_e4e, got 'w-space'",
        ),
        (
            "widths",
            [16, 16, 16],
            "config.widths: expected tuple[int, int, int, int], got [16, 16, 16]",
        ),
    ],
)
def test_wrong_encoder_config_field_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    save_weights(Encoder(ENCODER), tmp_path / "encoder", {})
    _edit_record(tmp_path / "encoder", lambda record: record["config"].update({field: value}))
    with pytest.raises(WeightsError) as caught:
        load_encoder(tmp_path / "encoder")
    assert message in str(caught.value)


def test_missing_config_field_is_named(folder: Path) -> None:
    _edit_record(folder, lambda record: record["config"].pop("resolution"))
    with pytest.raises(WeightsError, match="resolution"):
        load_generator(folder)


@fast
@given(data=st.data())
def test_damaged_files_give_weights_errors(folder: Path, data: st.DataObject) -> None:
    """Cut anywhere, either file is refused; nothing else than WeightsError comes out."""
    path = folder / data.draw(st.sampled_from(["model.safetensors", "model.json"]))
    original = path.read_bytes()
    path.write_bytes(original[: data.draw(st.integers(0, len(original) - 3))])
    with pytest.raises(WeightsError, match="damaged"):
        load_generator(folder)
    path.write_bytes(original)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "expected an object"), ("{}", "expected an object"), ("\udcff", "not JSON")],
)
def test_foreign_record(folder: Path, content: str, message: str) -> None:
    (folder / "model.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(WeightsError, match=message):
        load_generator(folder)


def test_newer_schema_and_missing_folder(folder: Path) -> None:
    with pytest.raises(WeightsError, match="no weights folder"):
        load_encoder(folder.parent / "nowhere")
    with pytest.raises(WeightsError, match="no weights folder"):
        weights_hash(folder.parent / "nowhere")
    _edit_record(folder, lambda record: record.update(schema=2))
    with pytest.raises(WeightsError, match="expected schema 1, got 2"):
        load_generator(folder)


def test_missing_tensors_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="no weights folder"):
        load_generator(folder)


def test_weights_setting_names_both_folders() -> None:
    assert weights_folders("models/mine") == (Path("models/mine/generator"), Path("models/mine/encoder"))
    generator, encoder = weights_folders("demo")
    assert generator.parts[-4:] == ("svgan_ray", "demo", "weights", "generator")
    assert encoder.parent == generator.parent


def test_pair_must_fit() -> None:
    generator = Generator(GENERATOR)
    require_pair(generator, Encoder(ENCODER))
    for change in ({"num_ws": 8}, {"w_dim": 6}):
        with pytest.raises(WeightsError, match=r"takes w_plus \[6, 5\], the other gives"):
            require_pair(generator, Encoder(dataclasses.replace(ENCODER, **change)))
