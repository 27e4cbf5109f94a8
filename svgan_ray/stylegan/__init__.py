"""The image side: StyleGAN2 generators, encoders into their latent space, and their weights."""

from __future__ import annotations

from svgan_ray.stylegan.encoder import Encoder, EncoderConfig
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.importing import ImportReport, import_weights
from svgan_ray.stylegan.metric_networks import (
    ArcFace,
    I3d,
    Inception,
    Lpips,
    load_arcface,
    load_i3d,
    load_inception,
    load_lpips,
)
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
    "ArcFace",
    "Encoder",
    "EncoderConfig",
    "Generator",
    "GeneratorConfig",
    "I3d",
    "ImportReport",
    "Inception",
    "Lpips",
    "import_weights",
    "load_arcface",
    "load_encoder",
    "load_generator",
    "load_i3d",
    "load_inception",
    "load_lpips",
    "require_pair",
    "resize_antialiased",
    "save_weights",
    "weights_folders",
    "weights_hash",
]
