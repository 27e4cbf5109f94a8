"""The generator against its naive float64 twin, its gradients, and what it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

import svgan_ray.stylegan.generator as generator_module
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.stylegan.generator import Generator, GeneratorConfig

from .naive_generator import Array, NaiveGenerator, randomised

SMALL = GeneratorConfig(32, z_dim=24, w_dim=20, mapping_layers=2, channel_base=512, channel_max=24)


def _generator(config: GeneratorConfig, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    generator = Generator(config)
    randomised(generator, seed)
    return generator.eval().requires_grad_(False)


def _twin(generator: Generator) -> NaiveGenerator:
    config = generator.config
    return NaiveGenerator(generator.state_dict(), config.conv_clamp, config.mapping_lr_multiplier)


def _assert_equal(actual: Tensor, expected: Array) -> None:
    """The bar of the project: largest difference within 1e-4 of the output's standard deviation."""
    assert actual.dtype == torch.float32
    assert tuple(actual.shape) == expected.shape
    assert np.abs(actual.double().numpy() - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize(
    ("resolution", "channel_base"),
    [(8, 256), (32, 1024), (64, 1024), (128, 2048), (256, 2048), (512, 1024), (1024, 2048)],
)
def test_synthesis_equals_twin(resolution: int, channel_base: int, clamp: float | None) -> None:
    config = GeneratorConfig(
        resolution, 16, 24, 1, channel_base=channel_base, channel_max=48, conv_clamp=clamp
    )
    generator = _generator(config)
    w_plus = torch.randn(2, config.num_ws, config.w_dim)
    expected = _twin(generator).synthesis(w_plus.double().numpy())
    _assert_equal(generator.synthesis(w_plus), expected)
    if clamp is not None:  # which must have had something to do
        unclamped = NaiveGenerator(generator.state_dict()).synthesis(w_plus.double().numpy())
        assert np.abs(expected - unclamped).max() > 0.01


@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize(("samples", "cached_bytes"), [(1, 2**24), (3, 2**24), (3, 2**14), (3, 0)])
def test_batches_of_any_size_equal_twin(
    samples: int, cached_bytes: int, clamp: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared weights, a kernel for one sample, and the change from one to the other at every block."""
    monkeypatch.setattr(generator_module, "_CACHED_BYTES", cached_bytes)
    generator = _generator(dataclasses.replace(SMALL, conv_clamp=clamp))
    w_plus = torch.randn(samples, SMALL.num_ws, SMALL.w_dim)
    expected = _twin(generator).synthesis(w_plus.double().numpy())
    _assert_equal(generator.synthesis(w_plus), expected)
    with_gradients = w_plus.clone().requires_grad_()
    _assert_equal(generator.synthesis(with_gradients).detach(), expected)
    generator.synthesis(with_gradients).square().sum().backward()
    assert with_gradients.grad is not None
    assert with_gradients.grad.abs().amax(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("layers", [1, 2, 8])
@pytest.mark.parametrize("truncation", [1.0, 0.7, 0.0, -1.0])
def test_mapping_equals_twin(layers: int, truncation: float) -> None:
    generator = _generator(dataclasses.replace(SMALL, mapping_layers=layers, w_dim=512, z_dim=384))
    z = torch.randn(5, 384)
    _assert_equal(generator.mapping(z, truncation), _twin(generator).mapping(z.double().numpy(), truncation))


def test_z_to_image_at_full_width_equals_twin() -> None:
    config = GeneratorConfig(32, mapping_layers=8, conv_clamp=256)
    generator = _generator(config)
    z = torch.randn(2, 512)
    twin = _twin(generator)
    _assert_equal(
        generator.synthesis(generator.mapping(z, 0.5)), twin.synthesis(twin.mapping(z.double().numpy(), 0.5))
    )


def test_noise_modes() -> None:
    generator = _generator(SMALL)
    w_plus = torch.randn(2, SMALL.num_ws, SMALL.w_dim)
    twin, naive_w = _twin(generator), w_plus.double().numpy()
    _assert_equal(generator.synthesis(w_plus, noise="const"), twin.synthesis(naive_w))
    _assert_equal(generator.synthesis(w_plus, noise="none"), twin.synthesis(naive_w, with_noise=False))
    torch.manual_seed(1)
    first, second = generator.synthesis(w_plus, noise="random"), generator.synthesis(w_plus, noise="random")
    torch.manual_seed(1)
    assert torch.equal(first, generator.synthesis(w_plus, noise="random"))
    assert not torch.equal(first, second)
    same_w = generator.synthesis(w_plus[:1].repeat(2, 1, 1), noise="random")
    assert not torch.allclose(same_w[0], same_w[1], atol=1e-3)  # every sample draws its own


def test_random_noise_has_unit_variance_before_its_strength() -> None:
    generator = _generator(SMALL)
    layer = generator.synthesis.b32.conv1
    w = torch.randn(1, SMALL.w_dim).expand(64, -1)
    x = torch.randn(1, layer.weight.shape[1], 32, 32).expand(64, -1, -1, -1)
    with torch.no_grad():
        layer.bias.fill_(100.0)  # keeps the activation linear
        spread = layer(x, w, "random").std(dim=0).mean() / 2**0.5
    assert spread == pytest.approx(abs(float(layer.noise_strength)), rel=0.05)


@pytest.mark.parametrize("stop", [4, 8, 16, 32])
def test_early_stop_gives_the_blocks_picture(stop: int) -> None:
    generator = _generator(SMALL)
    w_plus = torch.randn(2, SMALL.num_ws, SMALL.w_dim)
    image = generator.synthesis(w_plus, resolution=stop)
    assert image.shape == (2, 3, stop, stop)
    _assert_equal(image, _twin(generator).synthesis(w_plus.double().numpy(), stop=stop))


def test_gradients_reach_everything_and_are_right() -> None:
    config = GeneratorConfig(
        16, z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=6, conv_clamp=50
    )
    generator = Generator(config).double()
    randomised(generator, 3)
    z = torch.randn(2, config.z_dim, dtype=torch.float64)
    generator.synthesis(generator.mapping(z)).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    w_plus = torch.randn(1, config.num_ws, config.w_dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: generator.synthesis(w).mean(dim=(1, 2)), (w_plus,), atol=1e-6)
    layer = generator.synthesis.b8.conv0
    x = torch.randn(1, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(1, config.w_dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w, _: layer(x, w, "const"), (x, w, layer.weight), atol=1e-6)


def test_a_few_steps_of_training_fit_a_picture() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL)
    target = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    z = torch.randn(1, SMALL.z_dim)
    optimiser = torch.optim.Adam(generator.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = (generator.synthesis(generator.mapping(z), noise="random") - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_starts_as_stylegan2_does() -> None:
    torch.manual_seed(0)
    state = Generator(GeneratorConfig(64, channel_base=2048)).state_dict()
    assert float(state["mapping.fc0.weight"].std()) == pytest.approx(100, rel=0.05)
    assert float(state["synthesis.b16.conv0.weight"].std()) == pytest.approx(1, rel=0.05)
    assert torch.all(state["synthesis.b16.conv0.affine.bias"] == 1)
    assert torch.all(state["synthesis.b16.torgb.affine.bias"] == 1)
    assert state["synthesis.b16.conv0.noise_strength"].shape == ()
    assert float(state["synthesis.b16.conv0.noise_strength"]) == 0
    assert float(state["synthesis.b64.conv1.noise_const"].std()) == pytest.approx(1, rel=0.05)
    assert not any(torch.any(value) for key, value in state.items() if key.endswith("w_avg"))


def test_size_of_the_published_networks() -> None:
    with torch.device("meta"):
        small, large = Generator(GeneratorConfig(256, channel_base=16384)), Generator(GeneratorConfig(1024))
    assert sum(p.numel() for p in small.parameters()) / 1e6 == pytest.approx(24.77, abs=0.005)
    assert sum(p.numel() for p in large.parameters()) / 1e6 == pytest.approx(30.37, abs=0.005)
    # NVIDIA's files hold 182 tensors at 1024 px; 26 of them are copies of the resampling filter.
    assert len(large.state_dict()) == 182 - 26
    assert large.config.num_ws == 18


def test_refusals_name_what_was_expected() -> None:
    generator = _generator(SMALL)
    w_plus = torch.zeros(1, SMALL.num_ws, SMALL.w_dim)
    with pytest.raises(DataError, match=r"\[N, 8, 20\], got \[1, 7, 20\]"):
        generator.synthesis(w_plus[:, 1:])
    with pytest.raises(DataError, match=r"\[N, 24\], got \[2, 20\]"):
        generator.mapping(torch.zeros(2, 20))
    with pytest.raises(ConfigError, match="noise"):
        generator.synthesis(w_plus, noise="constant")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resolution"):
        generator.synthesis(w_plus, resolution=64)
    with pytest.raises(ConfigError, match="power of two"):
        GeneratorConfig(100)
    with pytest.raises(ConfigError, match="channel_base"):
        GeneratorConfig(256, channel_base=128)
