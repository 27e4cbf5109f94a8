"""A test of imported networks: weights are finite, a picture is generated, encoded and generated again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.memory import require_memory, synthesis_bytes
from svgan_ray.stylegan.metric_networks import ArcFace

__all__ = ["self_test"]


def self_test(networks: Sequence[nn.Module]) -> tuple[str, ...]:
    """Run the networks that can be run; returns one line about the result of each.

    Raises WeightsError if a value is not finite, and MachineError if there is too little memory.
    """
    for network in networks:
        _require_finite(network.state_dict(), type(network).__name__)
    results = [_test_generator(network) for network in networks if isinstance(network, Generator)]
    picture = results[0][0] if results else None
    notes = [note for _, note in results]
    notes += [_test_arcface(network) for network in networks if isinstance(network, ArcFace)]
    for encoder in networks:
        if isinstance(encoder, Encoder) and picture is not None:
            generator = next(network for network in networks if isinstance(network, Generator))
            notes.append(_test_encoder(encoder, generator, picture))
    return tuple(f"self-test: {note}" for note in notes)


def _test_generator(generator: Generator) -> tuple[Tensor, str]:
    side = generator.config.resolution
    require_memory(synthesis_bytes(generator.config, batch=1), f"a picture of {side} px")
    z = torch.randn(1, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    picture = generator.synthesis(generator.mapping(z))
    _require_finite({"picture": picture}, "Generator")
    spread, mean = torch.std_mean(picture)
    return picture, f"a picture of {picture.shape[-1]} px, mean {mean:.2f}, standard deviation {spread:.2f}"


def _test_encoder(encoder: Encoder, generator: Generator, picture: Tensor) -> str:
    side = encoder.config.input_side
    target = F.adaptive_avg_pool2d(picture, side).clamp(-1, 1)
    w_plus = encoder.encode(target, generator.synthesis)
    _require_finite({"w_plus": w_plus}, "Encoder")
    shown_again = F.adaptive_avg_pool2d(generator.synthesis(w_plus), side).clamp(-1, 1)
    error = (shown_again - target).square().mean().sqrt()
    return f"the picture encoded and shown again differs by {error:.2f} (root mean square, of 2)"


def _test_arcface(network: ArcFace) -> str:
    faces = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    embedding = network(faces)
    _require_finite({"embedding": embedding}, "ArcFace")
    return f"two pictures of noise have a cosine of {embedding[0] @ embedding[1]:.2f}"


def _require_finite(tensors: dict[str, Tensor], name: str) -> None:
    for key, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"{name} {key}: holds values that are not finite; the file is damaged")
