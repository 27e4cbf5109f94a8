"""Tensors of a file before they are read: the place of their bytes, checked against the file's size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.importing.pickles import shown

__all__ = ["DTYPES", "State", "Storage", "StoredTensor", "rebuild_tensor", "tensors_of", "without_wrapper"]

# PyTorch's storage classes, with the names that pickles use.
DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
MAX_DIMENSIONS = 8
# The largest supported networks have 900 tensors.
MAX_TENSORS = 4096
_WRAPPER = "module."


@dataclass(slots=True)
class Storage:
    """A sequence of numbers in the file; `data` is set later if the numbers follow the pickle."""

    dtype: torch.dtype
    count: int
    data: memoryview | None = None

    def attach(self, data: memoryview, where: str) -> None:
        """Set the storage's bytes; their number must be the one that the file announced."""
        if len(data) != self.count * self.dtype.itemsize:
            raise WeightsError(
                f"{where}: expected {self.count * self.dtype.itemsize} bytes, got {len(data)}; "
                "the file is damaged or truncated"
            )
        self.data = data


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place in its storage, in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def shape(self) -> torch.Size:
        """As a tensor's."""
        return torch.Size(self.size)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that `read` returns: float32 for every kind of float."""
        return torch.float32 if self.storage.dtype.is_floating_point else self.storage.dtype

    @property
    def stored_bytes(self) -> int:
        """The bytes that the tensor's elements take in the file."""
        return math.prod(self.size) * self.storage.dtype.itemsize

    def drop(self, *dimensions: int) -> StoredTensor:
        """The tensor without the given dimensions, which must be of size 1."""
        if any(dimension >= len(self.size) or self.size[dimension] != 1 for dimension in dimensions):
            raise WeightsError(f"expected size 1 in dimensions {list(dimensions)}, got {list(self.size)}")
        kept = [i for i in range(len(self.size)) if i not in dimensions]
        size, stride = (tuple(values[i] for i in kept) for values in (self.size, self.stride))
        return StoredTensor(self.storage, self.offset, size, stride)

    def read(self) -> Tensor:
        """A contiguous copy in its own memory."""
        if self.storage.data is None:
            raise WeightsError("a tensor's storage is missing; the file is damaged or truncated")
        itemsize = self.storage.dtype.itemsize
        stop = self.offset + _extent(self.size, self.stride)
        # The copy is aligned and writable; the bytes of the file may be neither.
        raw = bytearray(self.storage.data[self.offset * itemsize : stop * itemsize])
        flat = torch.frombuffer(raw, dtype=self.storage.dtype)
        return flat.as_strided(self.size, self.stride).to(self.dtype).contiguous()


State = dict[str, StoredTensor]


def rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = None, hooks: Any = None, *_: Any
) -> StoredTensor:
    """Does what `torch._utils._rebuild_tensor_v2` does, after checking that the storage is large enough."""
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple:
        raise WeightsError(f"refused tensor of {shown(storage)}, size {shown(size)}, stride {shown(stride)}")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS or not all(map(_is_count, numbers)):
        raise WeightsError(
            f"refused tensor: offset, size and stride ({', '.join(map(shown, numbers[:20]))}) make no sense"
        )
    # With a stride of 0, a few bytes could claim to be a huge tensor.
    needed = max(math.prod(size), offset + _extent(size, stride))
    if needed > storage.count:
        raise WeightsError(
            f"refused tensor {list(size)}: needs {shown(needed)} elements, its storage has {storage.count}"
        )
    return StoredTensor(storage, offset, size, stride)


def tensors_of(values: object, where: str) -> State:
    """A file's dict of tensors, without DataParallel's prefix; a WeightsError names any other value."""
    if not isinstance(values, Mapping):
        raise WeightsError(f"{where}: expected a dict of tensors, got {shown(values)}")
    if len(values) > MAX_TENSORS:
        raise WeightsError(f"{where}: expected {MAX_TENSORS} tensors at most, got {len(values)}")
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise WeightsError(f"{where}[{shown(key)}]: expected a tensor, got {shown(value)}")
        if 0 in value.size:
            raise WeightsError(f"{where}[{shown(key)}]: the tensor is empty, {list(value.size)}")
    return without_wrapper(values)


def without_wrapper(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """A dict without the prefix `module.`, which DataParallel adds to all names."""
    names = dict(values)
    while names and all(isinstance(key, str) and key.startswith(_WRAPPER) for key in names):
        names = {key.removeprefix(_WRAPPER): value for key, value in names.items()}
    return names


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _extent(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """The number of elements between a tensor's first and last one, both included."""
    if 0 in size:
        return 0
    return 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
