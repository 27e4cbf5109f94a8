"""The image side: StyleGAN2 generators, encoders into their latent space, and their weights."""

from __future__ import annotations

from svgan_ray.stylegan.encoder import Encoder, EncoderConfig
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.resize import resize_antialiased
from svgan_ray.stylegan.weights import (
    load_encoder,
    load_generator,
    require_pair,
    save_weights,
    weights_folders,
    weights_hash,
)

__all__ = [
    "Encoder",
    "EncoderConfig",
    "Generator",
    "GeneratorConfig",
    "load_encoder",
    "load_generator",
    "require_pair",
    "resize_antialiased",
    "save_weights",
    "weights_folders",
    "weights_hash",
]
