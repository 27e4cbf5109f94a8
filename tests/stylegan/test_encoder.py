"""The encoders against their naive float64 twins, their gradients, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from svgan_ray.errors import ConfigError, DataError
from svgan_ray.stylegan.encoder import Encoder, EncoderConfig, EncoderKind
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.resize import resize_antialiased

from .naive_encoder import NaiveEncoder, randomised_norms
from .naive_generator import Array, NaiveGenerator, randomised

WIDTHS, UNITS = (16, 32, 48, 64), (1, 2, 3, 2)


def _encoder(kind: EncoderKind, num_ws: int, input_side: int, head_width: int = 24) -> Encoder:
    torch.manual_seed(num_ws)
    config = EncoderConfig(kind, num_ws, 20, input_side, WIDTHS, UNITS, stem_width=16, head_width=head_width)
    encoder = Encoder(config)
    randomised_norms(encoder, 1)
    encoder.w_avg.normal_()
    return encoder.eval().requires_grad_(False)


def _assert_equal(actual: Tensor, expected: Array) -> None:
    assert tuple(actual.shape) == expected.shape
    assert np.abs(actual.double().numpy() - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize(("num_ws", "input_side"), [(6, 32), (8, 64), (12, 64), (18, 128)])
def test_psp_and_e4e_equal_their_twins(num_ws: int, input_side: int) -> None:
    psp, e4e = _encoder("psp", num_ws, input_side), _encoder("e4e", num_ws, input_side)
    e4e.load_state_dict(psp.state_dict())  # the same weights: only the forward differs
    images = torch.rand(2, 3, input_side, input_side) * 2 - 1
    twin, naive_images = NaiveEncoder(psp.state_dict(), UNITS), images.double().numpy()
    _assert_equal(psp.encode(images), twin.psp(naive_images))
    _assert_equal(e4e.encode(images), twin.e4e(naive_images))
    assert not torch.allclose(psp.encode(images), e4e.encode(images), atol=1e-2)


@pytest.mark.parametrize("kind", ["restyle", "restyle_e4e"])
@pytest.mark.parametrize("input_side", [32, 64])
def test_restyle_equals_twin_over_five_iterations(input_side: int, kind: EncoderKind) -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(64, 8, 20, 1, channel_base=1024, channel_max=24))
    randomised(generator, 0)
    generator.requires_grad_(False)
    encoder = _encoder(kind, generator.config.num_ws, input_side)
    images = torch.rand(2, 3, input_side, input_side) * 2 - 1
    twin = NaiveEncoder(encoder.state_dict(), UNITS)
    synthesis, naive_images = NaiveGenerator(generator.state_dict()).synthesis, images.double().numpy()
    first, last = (
        twin.restyle(naive_images, synthesis, iterations, kind == "restyle_e4e") for iterations in (1, 5)
    )
    _assert_equal(encoder.encode(images, generator.synthesis), last)
    assert np.abs(first - last).max() > 0.1  # the later iterations matter


def test_restyle_starts_from_one_rendered_average() -> None:
    encoder = _encoder("restyle", 10, 32)
    calls: list[Tensor] = []

    def synthesis(w_plus: Tensor) -> Tensor:
        calls.append(w_plus)
        return torch.zeros(len(w_plus), 3, 32, 32)

    encoder.encode(torch.zeros(4, 3, 32, 32), synthesis)
    assert [len(call) for call in calls] == [1, 4, 4, 4, 4]
    assert torch.equal(calls[0][0], encoder.w_avg)


def test_larger_images_are_resized_with_antialiasing() -> None:
    encoder = _encoder("e4e", 12, 64)
    images = torch.rand(2, 3, 200, 200) * 2 - 1
    small = resize_antialiased(images, 64)
    assert torch.equal(encoder.encode(images), encoder.encode(small))


def test_a_picture_is_encoded_alike_alone_and_in_a_batch() -> None:
    encoder = _encoder("e4e", 12, 64)
    images = torch.rand(5, 3, 64, 64) * 2 - 1
    alone = torch.cat([encoder.encode(image[None]) for image in images])
    torch.testing.assert_close(alone, encoder.encode(images), atol=1e-5, rtol=1e-5)


def test_trains_to_read_a_number() -> None:
    torch.manual_seed(0)
    config = EncoderConfig("e4e", 12, 8, 32, (16, 16, 16, 16), (1, 1, 1, 1), stem_width=16, head_width=16)
    encoder = Encoder(config).train()
    brightness = torch.linspace(-1, 1, 16)
    images = brightness[:, None, None, None] + 0.1 * torch.randn(16, 3, 32, 32)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = (encoder.encode(images) - brightness[:, None, None]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(p.grad is not None and torch.any(p.grad) for p in encoder.parameters())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("kind", "keys", "parameters"),
    [("psp", 621, 267.14), ("e4e", 621, 267.14), ("restyle", 565, 205.59), ("restyle_e4e", 565, 205.59)],
)
def test_size_of_the_published_networks(kind: EncoderKind, keys: int, parameters: float) -> None:
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig(kind, num_ws=18))
    state = encoder.state_dict()
    assert len(state) - 1 == keys  # w_avg is stored beside the networks
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(parameters, abs=0.005)
    assert tuple(state["body.3.shortcut_layer.0.weight"].shape) == (128, 64, 1, 1)
    assert tuple(state["body.23.res_layer.5.fc1.weight"].shape) == (32, 512, 1, 1)
    assert "body.0.shortcut_layer.0.weight" not in state
    iterates = kind.startswith("restyle")
    last_convs = {0: 6, 3: 6 if iterates else 8, 7: 6 if iterates else 10}
    for style, last in last_convs.items():
        assert f"styles.{style}.convs.{last}.weight" in state
        assert f"styles.{style}.convs.{last + 2}.weight" not in state


def test_size_of_the_published_network_on_a_resnet() -> None:
    """torchvision's ResNet-34 without its classifier, six channels in, a PReLU, and 16 heads for 512 px."""
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig("restyle", num_ws=16, units=(3, 4, 6, 3), backbone="resnet34"))
    state = encoder.state_dict()
    assert len(state) - 1 == 377
    resnet34, classifier, three_more_channels, prelu = 21_797_672, 513_000, 3 * 64 * 49, 64
    head = 4 * (512 * 512 * 9 + 512) + 512 * 512 + 512
    assert sum(p.numel() for p in encoder.parameters()) == (
        resnet34 - classifier + three_more_channels + prelu + 16 * head
    )
    assert tuple(state["conv1.weight"].shape) == (64, 6, 7, 7)
    assert tuple(state["body.3.downsample.0.weight"].shape) == (128, 64, 1, 1)
    assert "body.0.downsample.0.weight" not in state and "styles.15.convs.6.weight" in state


def test_refusals_name_what_was_expected() -> None:
    encoder = _encoder("e4e", 12, 64)
    for shape in ((2, 3, 32, 32), (2, 1, 64, 64), (2, 3, 64, 80), (3, 64, 64)):
        with pytest.raises(DataError, match=r"expected square images \[N, 3, S, S\] with S of 64 or more"):
            encoder.encode(torch.zeros(shape))
    for foreign in (torch.full((1, 3, 64, 64), 200.0), torch.full((1, 3, 64, 64), float("nan"))):
        with pytest.raises(DataError, match=r"expected images in \[-1, 1\]"):
            encoder.encode(foreign)
    assert encoder.encode(torch.zeros(0, 3, 64, 64)).shape == (0, 12, 20)
    with pytest.raises(DataError, match="synthesis"):
        _encoder("restyle", 12, 64).encode(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ConfigError, match="kind"):
        EncoderConfig("feature", 12)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="encoder backbone: expected 'ir_se50' or, of ReStyle, 'resnet34'"):
        EncoderConfig("psp", 12, backbone="resnet34")
    with pytest.raises(ConfigError, match="input_side"):
        EncoderConfig("psp", 12, input_side=100)
    with pytest.raises(ConfigError, match="widths"):
        EncoderConfig("psp", 12, widths=(8, 16, 32, 64))
