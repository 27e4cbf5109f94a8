"""Recognises the kind of a weight file by its content."""

from __future__ import annotations

from typing import Any

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.importing import encoders, metric_networks, nvidia, rosinality
from svgan_ray.stylegan.importing.closed_table import PersistentModule
from svgan_ray.stylegan.importing.containers import LEGACY_MAGIC, Archive, read_legacy, read_pickle, read_zip
from svgan_ray.stylegan.importing.networks import Imported
from svgan_ray.stylegan.importing.pickles import Budget, Stream, shown
from svgan_ray.stylegan.importing.tensors import StoredTensor, without_wrapper

__all__ = ["read_networks"]

KNOWN = (
    "an NVIDIA StyleGAN2 pickle, a rosinality file, pSp, e4e, ReStyle, ArcFace IR-SE50, or the TorchScript "
    "of I3D, Inception or LPIPS"
)


def read_networks(stream: Stream, data: memoryview) -> Imported:
    """The networks in a file, given as a stream and as a view of the same bytes."""
    budget = Budget(len(data))
    start = bytes(data[:8])
    if start[:4] == b"PK\3\4":
        archive = Archive(data)
        if any(name.endswith("/constants.pkl") for name in archive.names):
            return metric_networks.convert_program(archive, data)
        return _of_torch(read_zip(archive, budget))
    if start[:1] != b"\x80":
        raise WeightsError(f"not a weight file: it begins with {start!r}; expected {KNOWN}")
    value = read_pickle(stream, budget)
    if type(value) is int and value == LEGACY_MAGIC:
        stream.seek(0)
        return _of_torch(read_legacy(stream, data, budget))
    _refuse_tuned(value)
    return nvidia.convert(value)


def _refuse_tuned(root: Any) -> None:
    """Raise WeightsError for a single module without a name; NVIDIA's own files name their networks."""
    is_bundle = isinstance(root, dict) and root.keys().isdisjoint(("G", "D", "G_ema"))
    values = root.values() if is_bundle else (root,)
    if any(isinstance(value, PersistentModule) for value in values):
        raise WeightsError(
            "a generator tuned to one clip, as PTI and STIT save it: encoders do not answer in its latents; "
            "import the generator and the encoder that it was made from"
        )


def _of_torch(root: Any) -> Imported:
    """The networks in a file of `torch.save`, whose kind is recognised by typical keys."""
    _refuse_tuned(root)
    if not isinstance(root, dict):
        raise WeightsError(f"a PyTorch file with {shown(root)}; expected {KNOWN}")
    root = without_wrapper(root)
    if "state_dict" in root:
        return encoders.convert(root)
    if "g_ema" in root:
        return rosinality.convert(root)
    if "input_layer.0.weight" in root and "output_layer.3.weight" in root:
        return metric_networks.convert_arcface(root)
    encoders.refuse_feature_space([key for key in root if isinstance(key, str)])
    holds = ", ".join(shown(key) for key in list(root)[:4])
    tensors = "tensors" if any(isinstance(value, StoredTensor) for value in root.values()) else "values"
    raise WeightsError(f"a PyTorch file with the {tensors} {holds}, ...; expected {KNOWN}")
