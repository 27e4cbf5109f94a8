"""Tensors to bytes and back: safetensors, with equal bytes for equal tensors and a sha256 over every byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from svgan_ray.errors import CorruptObjectError, DataError

__all__ = ["decode_tensors", "encode_chunk", "encode_tensors", "seal_tensors", "sha256_of", "unseal_tensors"]

_DTYPES = {
    "w_plus": torch.float32,
    "quad": torch.float32,
    "time_s": torch.float64,
    "error": torch.float32,
    "interpolated": torch.bool,
}
_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_UNSEALED = "0" * 64


def sha256_of(data: bytes) -> str:
    """The sha256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def encode_chunk(tensors: Mapping[str, Tensor], where: str) -> tuple[bytes, int]:
    """A chunk's bytes and its number of frames.

    Expects w_plus [T, num_ws, w_dim] (float16 is kept, any other type becomes float32), quad [T, 4, 2],
    time_s [T], error [T] (NaN: not measured), interpolated [T] and, only with float16, rounding [T] (NaN: not
    measured). Raises DataError if a tensor is missing, unknown, of another shape or not finite, or if time_s
    does not increase.
    """
    half = "w_plus" in tensors and tensors["w_plus"].dtype == torch.float16
    dtypes = _DTYPES | ({"w_plus": torch.float16, "rounding": torch.float32} if half else {})
    if tensors.keys() != dtypes.keys():
        raise DataError(
            f"{where}: expected the tensors {', '.join(dtypes)}, got {', '.join(tensors) or 'none'}"
        )
    w_plus = tensors["w_plus"]
    frames = len(w_plus) if w_plus.ndim == 3 else 0
    a_frame = dict.fromkeys(("time_s", "error", "interpolated", *(["rounding"] if half else [])), (frames,))
    shapes = {"quad": (frames, 4, 2), **a_frame}
    if not frames:
        raise DataError(f"{where}: w_plus is {list(w_plus.shape)}, expected [T >= 1, num_ws, w_dim]")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise DataError(f"{where}: {name} is {list(tensors[name].shape)}, expected {list(shape)}")
    for name in ("w_plus", "quad", "time_s"):
        if not all(bool(end.isfinite()) for end in tensors[name].aminmax()):  # passes once over the data
            raise DataError(f"{where}: {name} holds NaN or infinite values")
    if not bool((tensors["time_s"].diff() > 0).all()):
        raise DataError(f"{where}: time_s does not increase from frame to frame")
    return encode_tensors({name: tensors[name].to(dtype) for name, dtype in dtypes.items()}), frames


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Safetensors bytes, like its own `save`, which copies twice and writes metadata in random order."""
    flat = {name: tensor.detach().cpu().contiguous().reshape(-1) for name, tensor in tensors.items()}
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    stop_byte = 0
    names = sorted(flat, key=lambda name: (-flat[name].itemsize, name))  # so that all is aligned
    for name in names:
        first_byte, stop_byte = stop_byte, stop_byte + flat[name].nbytes
        shape, code = list(tensors[name].shape), _CODES[flat[name].dtype]
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [first_byte, stop_byte]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(flat[name].numpy().data for name in names)])


def decode_tensors(data: bytes, key: str) -> dict[str, Tensor]:
    """The tensors in safetensors bytes. Raises a CorruptObjectError that names the key."""
    try:
        return load(data)
    except (SafetensorError, ValueError) as error:
        raise CorruptObjectError(f"{key}: is no safetensors file ({error}); it was damaged") from error


def seal_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes that contain their own sha256, which is computed with zeros in its place."""
    data = encode_tensors(tensors, {"sha256": _UNSEALED})
    return data.replace(_UNSEALED.encode(), sha256_of(data).encode(), 1)


def unseal_tensors(data: bytes, key: str) -> dict[str, Tensor]:
    """The tensors in sealed bytes. Raises CorruptObjectError."""
    try:
        header_bytes = int.from_bytes(data[:8], "little")
        seal = str(json.loads(data[8 : 8 + header_bytes])["__metadata__"]["sha256"])
        unsealed = data.replace(seal.encode(), _UNSEALED.encode(), 1)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptObjectError(f"{key}: is no sealed safetensors file ({error}); it was damaged") from error
    if sha256_of(unsealed) != seal:
        raise CorruptObjectError(f"{key}: its content differs from its own sha256; it was damaged")
    return decode_tensors(data, key)
