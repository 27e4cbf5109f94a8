"""Tensors of a file before they are read: where their bytes lie, checked against the bytes that are there."""

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

# PyTorch's storage classes, as pickles name them.
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
# The largest networks here have 900.
MAX_TENSORS = 4096
_WRAPPER = "module."


@dataclass(slots=True)
class Storage:
    """A run of numbers in the file; `data` comes later where they follow the pickle that describes them."""

    dtype: torch.dtype
    count: int
    data: memoryview | None = None

    def attach(self, data: memoryview, where: str) -> None:
        """Give it its bytes, which must be as many as were announced."""
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
        """What `read` gives: float32 for every kind of float."""
        return torch.float32 if self.storage.dtype.is_floating_point else self.storage.dtype

    @property
    def stored_bytes(self) -> int:
        """What its elements take in the file."""
        return math.prod(self.size) * self.storage.dtype.itemsize

    def drop(self, *dimensions: int) -> StoredTensor:
        """Without some dimensions, which must be of size 1."""
        if any(dimension >= len(self.size) or self.size[dimension] != 1 for dimension in dimensions):
            raise WeightsError(f"expected size 1 in dimensions {list(dimensions)}, got {list(self.size)}")
        kept = [i for i in range(len(self.size)) if i not in dimensions]
        size, stride = (tuple(values[i] for i in kept) for values in (self.size, self.stride))
        return StoredTensor(self.storage, self.offset, size, stride)

    def read(self) -> Tensor:
        """A copy in memory of its own, contiguous."""
        if self.storage.data is None:
            raise WeightsError("a tensor's storage is missing; the file is damaged or truncated")
        itemsize = self.storage.dtype.itemsize
        stop = self.offset + _extent(self.size, self.stride)
        # Aligned and writable, which the file's own bytes need not be.
        raw = bytearray(self.storage.data[self.offset * itemsize : stop * itemsize])
        flat = torch.frombuffer(raw, dtype=self.storage.dtype)
        return flat.as_strided(self.size, self.stride).to(self.dtype).contiguous()


State = dict[str, StoredTensor]


def rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = None, hooks: Any = None, *_: Any
) -> StoredTensor:
    """`torch._utils._rebuild_tensor_v2`, but that the storage must hold what the sizes ask for."""
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple:
        raise WeightsError(f"refused tensor of {shown(storage)}, size {shown(size)}, stride {shown(stride)}")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS or not all(map(_is_count, numbers)):
        raise WeightsError(
            f"refused tensor: offset, size and stride ({', '.join(map(shown, numbers[:20]))}) make no sense"
        )
    # A stride of 0 would let a few bytes pass for a huge tensor.
    needed = max(math.prod(size), offset + _extent(size, stride))
    if needed > storage.count:
        raise WeightsError(
            f"refused tensor {list(size)}: needs {shown(needed)} elements, its storage has {storage.count}"
        )
    return StoredTensor(storage, offset, size, stride)


def tensors_of(values: object, where: str) -> State:
    """A file's dict of tensors, names without DataParallel's prefix; WeightsError names what is none."""
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
    """A dict without the `module.` before all of its names, which DataParallel puts there."""
    names = dict(values)
    while names and all(isinstance(key, str) and key.startswith(_WRAPPER) for key in names):
        names = {key.removeprefix(_WRAPPER): value for key, value in names.items()}
    return names


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _extent(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from a tensor's first to its last."""
    if 0 in size:
        return 0
    return 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
