"""Imported generators give what the file's network gives, held against the naive float64 twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan import Generator, GeneratorConfig, import_weights, load_generator

from ..naive_generator import Array, NaiveGenerator
from .writers import (
    SMALL,
    legacy,
    nvidia_pickle,
    random_generator,
    rosinality_file,
    rosinality_snapshot,
    write,
    zipped,
)

Writer = Callable[[Generator], bytes]
WRITERS: dict[str, Writer] = {
    **{f"nvidia-{n}": lambda g, n=n: nvidia_pickle(g, protocol=n) for n in (2, 3, 4, 5)},  # type: ignore[misc]
    "nvidia-flat": lambda g: nvidia_pickle(g, flat_settings=True),
    "rosinality": lambda g: zipped(rosinality_file(g)),
    "rosinality-legacy": lambda g: legacy(rosinality_file(g)),
}


def _imported(tmp_path: Path, data: bytes) -> Generator:
    import_weights(write(tmp_path, data), tmp_path / "out")
    return load_generator(tmp_path / "out")


def _assert_equal(actual: torch.Tensor, expected: Array) -> None:
    assert tuple(actual.shape) == expected.shape
    assert np.abs(actual.double().numpy() - expected).max() <= 1e-4 * expected.std()


def _assert_equals_twin(loaded: Generator, original: Generator) -> None:
    config = original.config
    twin = NaiveGenerator(original.state_dict(), config.conv_clamp, config.mapping_lr_multiplier)
    z = torch.randn(2, config.z_dim, generator=torch.Generator().manual_seed(3))
    for truncation in (1.0, 0.6):
        _assert_equal(loaded.mapping(z, truncation), twin.mapping(z.double().numpy(), truncation))
    w_plus = torch.randn(2, config.num_ws, config.w_dim, generator=torch.Generator().manual_seed(4))
    for noise in ("const", "none"):
        expected = twin.synthesis(w_plus.double().numpy(), with_noise=noise == "const")
        _assert_equal(loaded.synthesis(w_plus, noise=noise), expected)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_imported_generator_equals_its_twin(tmp_path: Path, writer: Writer) -> None:
    original = random_generator()
    loaded = _imported(tmp_path, writer(original))
    _assert_equals_twin(loaded, original)
    assert not Path("trap").exists()
    if "channel_base" in str(writer):  # the numbers that were pickled are kept
        assert loaded.config == original.config


@pytest.mark.parametrize("flat_settings", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(SMALL, conv_clamp=0.8),
        dataclasses.replace(SMALL, mapping_layers=8, z_dim=20, mapping_lr_multiplier=0.1),
        GeneratorConfig(64, 8, 24, 2, channel_base=1024, channel_max=16, conv_clamp=256.0),
        GeneratorConfig(8, 8, 24, 2, channel_base=64, channel_max=512),
    ],
)
def test_every_shape_of_an_nvidia_network(
    tmp_path: Path, config: GeneratorConfig, flat_settings: bool
) -> None:
    original = random_generator(config)
    loaded = _imported(tmp_path, nvidia_pickle(original, flat_settings=flat_settings))
    assert loaded.config == config
    _assert_equals_twin(loaded, original)


@pytest.mark.parametrize("resolution", [16, 64, 128])
def test_rosinality_resolution_and_depth_are_counted(tmp_path: Path, resolution: int) -> None:
    config = GeneratorConfig(resolution, 20, 20, 5, channel_base=512, channel_max=12)
    original = random_generator(config)
    loaded = _imported(tmp_path, zipped(rosinality_file(original)))
    assert (loaded.config.resolution, loaded.config.mapping_layers) == (resolution, 5)
    _assert_equals_twin(loaded, original)


@pytest.mark.parametrize("container", [zipped, legacy])
def test_rosinality_snapshot_without_average_has_it_found(
    tmp_path: Path, container: Callable[[object], bytes]
) -> None:
    original = random_generator(dataclasses.replace(SMALL, z_dim=20))
    path = write(tmp_path, container(rosinality_snapshot(original)))
    first, second = (import_weights(path, tmp_path / name) for name in ("a", "b"))
    assert any("w_avg: not in the file, taken as the mean of 10,000" in note for note in first.notes)
    loaded = load_generator(tmp_path / "a")
    assert torch.equal(loaded.mapping.w_avg, load_generator(second.folders[0]).mapping.w_avg)
    w = original.mapping(torch.randn(20_000, 20))[:, 0]
    assert (loaded.mapping.w_avg - w.mean(0)).abs().max() < 6 * w.std(0).max() / 100
    original.mapping.w_avg.copy_(loaded.mapping.w_avg)
    _assert_equals_twin(loaded, original)


@pytest.mark.parametrize("shape", [(1, 20), (8, 20)])
def test_rosinality_average_may_come_as_rows(tmp_path: Path, shape: tuple[int, int]) -> None:
    original = random_generator()
    file = rosinality_file(original)
    file["latent_avg"] = file["latent_avg"].expand(shape).contiguous()
    assert torch.equal(_imported(tmp_path, zipped(file)).mapping.w_avg, original.mapping.w_avg)


def test_nvidia_without_average_has_it_found(tmp_path: Path) -> None:
    original = random_generator()
    loaded = _imported(tmp_path, nvidia_pickle(original, without="w_avg"))
    original.mapping.w_avg.copy_(loaded.mapping.w_avg)
    _assert_equals_twin(loaded, original)
    assert loaded.mapping.w_avg.abs().max() > 0


def test_rosinality_without_noise_draws_it_once(tmp_path: Path) -> None:
    original = random_generator()
    loaded = _imported(tmp_path, zipped(rosinality_file(original, with_noises=False)))
    again = _imported(tmp_path, zipped(rosinality_file(original, with_noises=False)))
    patterns = [(k, t) for k, t in loaded.state_dict().items() if k.endswith("noise_const")]
    assert len(patterns) == 7
    for key, pattern in patterns:
        assert torch.equal(pattern, again.state_dict()[key])
        original.state_dict()[key].copy_(pattern)
    assert torch.stack([p.std() for k, p in patterns if p.numel() > 100]).sub(1).abs().max() < 0.2
    _assert_equals_twin(loaded, original)


@pytest.mark.parametrize("size", [1.0, 0.1, 0.03, 0.01, 0.001])
def test_rosinality_kernels_of_any_size_demodulate_as_in_the_original(tmp_path: Path, size: float) -> None:
    """The original divides by sqrt(fan_in) first, so that its epsilon counts for more in small kernels."""
    original = random_generator()
    for key, tensor in original.state_dict().items():
        if "synthesis" in key and key.endswith(("conv0.weight", "conv1.weight")):
            tensor *= size
    report = import_weights(write(tmp_path, zipped(rosinality_file(original))), tmp_path / "out")
    loaded = load_generator(tmp_path / "out")
    twin = NaiveGenerator(original.state_dict(), scaled=True)
    w_plus = torch.randn(2, SMALL.num_ws, SMALL.w_dim, generator=torch.Generator().manual_seed(4))
    expected = twin.synthesis(w_plus.double().numpy())
    assert np.abs(loaded.synthesis(w_plus).double().numpy() - expected).max() <= 1e-5 * expected.std()
    assert any("layers scaled by 1/sqrt(fan_in)" in note for note in report.notes) == (size < 0.1)
    if size == 1:  # what needs no change keeps its bits, and so the identity of what is made with it
        for key, tensor in original.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor)


def test_rosinality_small_styles_demodulate_as_in_the_original(tmp_path: Path) -> None:
    original = random_generator()
    for key, tensor in original.state_dict().items():
        if "affine" in key:
            tensor *= 0.01
    loaded = _imported(tmp_path, zipped(rosinality_file(original)))
    w_plus = torch.randn(2, SMALL.num_ws, SMALL.w_dim, generator=torch.Generator().manual_seed(4))
    expected = NaiveGenerator(original.state_dict(), scaled=True).synthesis(w_plus.double().numpy())
    assert np.abs(loaded.synthesis(w_plus).double().numpy() - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 1, 1, 1), (1, 3, 3, 1, 0)])
@pytest.mark.parametrize("ending", ["convs.2.conv.blur.kernel", "to_rgbs.0.upsample.kernel"])
def test_rosinality_with_another_filter_is_refused_by_name(
    tmp_path: Path, taps: tuple[int, ...], ending: str
) -> None:
    """Such a network loads, and gives other pictures."""
    file = rosinality_file(random_generator())
    kernel = torch.tensor(taps, dtype=torch.float32)
    file["g_ema"][ending] = 4 * kernel.outer(kernel) / kernel.sum() ** 2
    with pytest.raises(
        WeightsError, match=rf"g_ema {ending}: expected the filter \[1, 3, 3, 1\], got another"
    ):
        import_weights(write(tmp_path, zipped(file)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rosinality_file_without_tensors_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing '.*'; the file holds no tensors there"):
        import_weights(write(tmp_path, zipped({"g_ema": {}})), tmp_path / "out")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia_settings_may_be_numbers_of_numpy(tmp_path: Path, protocol: int) -> None:
    original = random_generator(dataclasses.replace(SMALL, conv_clamp=0.5))
    settings = {
        "c_dim": np.int64(0),
        "z_dim": np.int32(SMALL.z_dim),
        "img_resolution": np.uint16(SMALL.resolution),
        "mapping_kwargs": {"num_layers": np.int64(SMALL.mapping_layers)},
        "synthesis_kwargs": {"channel_base": np.int64(512), "channel_max": np.int64(24)},
    }

    def edit(node: Any) -> None:
        for block in (8, 16, 32):
            _in_block_of(block, node, np.float64(0.5), np.bool_(True))

    loaded = _imported(tmp_path, nvidia_pickle(original, protocol, settings=settings, edit=edit))
    assert loaded.config == original.config
    _assert_equals_twin(loaded, original)


def _in_block_of(side: int, node: Any, clamp: Any, use_noise: Any) -> None:
    layers = node.state["_modules"]["synthesis"].state["_modules"][f"b{side}"].state["_modules"]
    for name in ("conv0", "conv1"):
        layers[name].state |= {"conv_clamp": clamp, "use_noise": use_noise}


def test_nvidia_number_of_numpy_that_is_wrong_is_refused(tmp_path: Path) -> None:
    for settings, message in (
        ({"c_dim": np.int64(10)}, "class-conditional"),
        ({"img_resolution": np.int64(64)}, "img_resolution: the tensors say 32, the settings 64"),
    ):
        with pytest.raises(WeightsError, match=message):
            _imported(tmp_path, nvidia_pickle(random_generator(), settings=settings))


def test_rosinality_names_may_have_a_wrapper(tmp_path: Path) -> None:
    """As a DataParallel saves them."""
    original = random_generator()
    file = rosinality_file(original)
    file["g_ema"] = {f"module.{key}": tensor for key, tensor in file["g_ema"].items()}
    loaded = _imported(tmp_path, zipped(file))
    assert all(torch.equal(loaded.state_dict()[key], tensor) for key, tensor in original.state_dict().items())


def test_half_precision_and_strides_are_read(tmp_path: Path) -> None:
    original = random_generator()
    file = rosinality_file(original)
    for key, tensor in file["g_ema"].items():
        half = tensor.to(torch.bfloat16)
        original_key = half.to(memory_format=torch.channels_last) if half.ndim == 4 else half
        file["g_ema"][key] = original_key[..., :]
    loaded = _imported(tmp_path, zipped(file))
    assert all(t.dtype == torch.float32 for t in loaded.state_dict().values())
    rounded = {k: t.to(torch.bfloat16).float() for k, t in original.state_dict().items()}
    rounded["mapping.w_avg"] = original.mapping.w_avg
    original.load_state_dict(rounded)
    _assert_equals_twin(loaded, original)


def _generator_pickle(**options: Any) -> bytes:
    return nvidia_pickle(random_generator(), **options)


def _stylegan3(node: Any) -> None:
    node.state["_modules"]["synthesis"].state["_modules"]["input"] = type(node)("SynthesisInput")


def _cycle(node: Any) -> None:
    block = node.state["_modules"]["synthesis"].state["_modules"]["b8"]
    block.state["_modules"]["again"] = node.state["_modules"]["mapping"]


def _clamps(node: Any) -> None:
    block = node.state["_modules"]["synthesis"].state["_modules"]["b8"]
    block.state["_modules"]["conv0"].state["conv_clamp"] = 17.0


def _in_block(layer: str, field: str, value: object) -> Callable[[Any], None]:
    def edit(node: Any) -> None:
        block = node.state["_modules"]["synthesis"].state["_modules"]["b8"]
        (block.state["_modules"][layer] if layer else block).state[field] = value

    return edit


def _class_name(node: Any) -> None:
    node.class_name = "TriPlaneGenerator"
    del node.state["_modules"]["synthesis"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edit": _stylegan3}, "StyleGAN3 generator"),
        ({"edit": _class_name}, "'TriPlaneGenerator': only StyleGAN2's Generator"),
        ({"edit": _cycle}, "modules contain each other"),
        (
            {"edit": _in_block("", "architecture", "resnet")},
            r"synthesis.b8.architecture: expected 'skip', got 'resnet'",
        ),
        (
            {"edit": _in_block("conv1", "activation", "relu")},
            "conv1.activation: expected 'lrelu', got 'relu'",
        ),
        ({"edit": _in_block("conv0", "use_noise", False)}, "conv0.use_noise: expected True, got False"),
        ({"edit": _clamps}, "conv_clamp: expected one value for all layers"),
        ({"settings": {"c_dim": 10}}, "class-conditional"),
        ({"extra": {"mapping.embed.weight": torch.zeros(2, 2)}}, "class-conditional"),
        ({"settings": {"img_resolution": 64}}, "img_resolution: the tensors say 32, the settings 64"),
        ({"settings": {"w_dim": "20"}}, "w_dim: the tensors say 20, the settings '20'"),
        (
            {"settings": {"synthesis_kwargs": {"channel_base": 256}}},
            "channel_base: the tensors of b16 have 24",
        ),
        ({"settings": {"mapping_kwargs": {"num_layers": 8}}}, "num_layers: the tensors say 3"),
        (
            {"extra": {"synthesis.b8.resample_filter": torch.ones(4, 4)}},
            r"expected the filter \[1, 3, 3, 1\]",
        ),
        ({"without": "b16.conv0.affine.bias"}, "missing 'synthesis.b16.conv0.affine.bias'"),
        ({"extra": {"synthesis.b8.conv0.wieght": torch.zeros(1)}}, "foreign 'synthesis.b8.conv0.wieght'"),
        (
            {"extra": {"synthesis.b8.conv0.weight": torch.zeros(24, 24, 5, 5)}},
            r"layer 'synthesis.b8.conv0.weight': expected float32 \[24, 24, 3, 3\], got .* 5, 5\]",
        ),
        (
            {"extra": {"mapping.fc0.bias": torch.full((20,), torch.nan)}},
            "mapping.fc0.bias: holds values that are",
        ),
    ],
)
def test_nvidia_refusals_name_the_field(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path, _generator_pickle(**options), "network.pkl")
    with pytest.raises(WeightsError, match=message) as caught:
        import_weights(path, tmp_path / "out")
    assert str(caught.value).startswith(str(path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("convs.0.conv.weight", None, r"missing 'convs.0.conv.weight' \(nearest: "),
        ("convs.5.conv.weight", None, r"missing 'convs.5.conv.weight' \(nearest: "),
        ("style.1.weight", torch.zeros(3), "layer 'style.1.weight': expected 2 dimensions, got"),
        (
            "to_rgbs.1.bias",
            torch.zeros(1, 3, 2, 1),
            r"layer 'to_rgbs.1.bias': expected float32 \[1, 3, 1, 1\], got float32 \[1, 3, 2, 1\]",
        ),
        (
            "convs.1.conv.wait",
            torch.zeros(1),
            r"foreign 'convs.1.conv.wait' \(nearest: 'convs.1.conv.weight'\)",
        ),
        ("convs.1.activate.bias", "text", r"g_ema\['convs.1.activate.bias'\]: expected a tensor"),
        (
            "noises.noise_3",
            torch.zeros(1, 1, 8, 8),
            r"layer 'noises.noise_3': expected float32 \[1, 1, 16, 16\], got float32 \[1, 1, 8, 8\]",
        ),
    ],
)
def test_rosinality_refusals_name_the_field(tmp_path: Path, key: str, value: Any, message: str) -> None:
    file = rosinality_file(random_generator())
    file["g_ema"][key] = value
    if value is None:
        del file["g_ema"][key]
    with pytest.raises(WeightsError, match=message):
        import_weights(write(tmp_path, zipped(file)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
