"""Networks for metrics only: ArcFace IR-SE50 (identity), the I3D of FVD, the Inception of FID, LPIPS."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.importing.containers import Archive
from svgan_ray.stylegan.importing.networks import Imported, build, encoder_stages, shape
from svgan_ray.stylegan.importing.tensors import tensors_of
from svgan_ray.stylegan.metric_networks import (
    ArcFace,
    ArcFaceConfig,
    I3d,
    Inception,
    Lpips,
    Program,
    ProgramConfig,
)

__all__ = ["convert_arcface", "convert_program"]

_CODE_BYTES = 2**22
_PROGRAMS: dict[type[Program], tuple[str, tuple[str, ...]]] = {
    I3d: ("I3d", ("rescale", "resize", "return_features")),
    Lpips: ("Lpips", ("resize_images", "return_lpips")),
    Inception: ("Inception", ("return_features",)),
}


def convert_arcface(root: dict[str, Any]) -> Imported:
    """A plain state_dict of ArcFace on IR-SE50."""
    state = tensors_of(root, "state_dict")
    embedding, flat = shape(state, "output_layer.3.weight", 2)
    stages = encoder_stages(state)
    map_side = round((flat / stages["widths"][-1]) ** 0.5)
    config = ArcFaceConfig(side=16 * map_side, embedding=embedding, **stages)
    return Imported("ArcFace IR-SE50 state_dict", (build(ArcFace, config, state, "state_dict"),))


def convert_program(archive: Archive, data: memoryview) -> Imported:
    """A TorchScript program, recognised by its arguments; it is stored unchanged and is not run."""
    sources = [name for name in archive.names if "/code/" in name and name.endswith(".py")]
    code = "".join(archive.text(name, _CODE_BYTES // len(sources)) for name in sources)
    for kind, (name, arguments) in _PROGRAMS.items():
        if all(argument in code for argument in arguments):
            digest = hashlib.sha256(data).hexdigest()
            module = kind(ProgramConfig(len(data), digest))
            module.program.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            note = f"TorchScript is a program: it was not run, and will be only while its SHA-256 is {digest}"
            return Imported(f"{name} TorchScript", (module,), (note,))
    known = " or ".join(f"{name}, forward(..., {', '.join(given)})" for name, given in _PROGRAMS.values())
    raise WeightsError(f"a TorchScript program, but not one that is known: expected {known}")
