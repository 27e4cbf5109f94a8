"""The only globals that a weight file may name, and the plain values that replace them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.importing.pickles import Builder, Inert, shown
from svgan_ray.stylegan.importing.tensors import DTYPES, StoredTensor, rebuild_tensor

__all__ = ["STORAGES", "WEIGHTS", "PersistentModule"]


@dataclass(frozen=True, slots=True)
class PersistentModule:
    """A module as NVIDIA's `torch_utils.persistence` writes it, without the source code that it includes."""

    class_name: str
    state: dict[str, Any]


def _persistent_module(meta: Any) -> PersistentModule:
    if type(meta) is not dict or meta.get("type") != "class":
        raise WeightsError("persistent object: expected a description of a class")
    name, state = meta.get("class_name"), meta.get("state")
    if type(name) is not str or type(state) is not dict:
        raise WeightsError(f"persistent object: class_name {shown(name)} with state {shown(state)}; damaged")
    return PersistentModule(name, state)


def _empty_dict() -> dict[str, Any]:
    """An empty dict without arguments, because pickles set the items later and the reader checks each one."""
    return {}


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> StoredTensor:
    if type(data) is not StoredTensor:
        raise WeightsError(f"parameter: expected a tensor, got {shown(data)}")
    return data


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes from the text of one character per byte in which pickle protocol 2 writes them."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise WeightsError(f"_codecs.encode: expected text in latin1, got {shown(text)} in {shown(encoding)}")
    return text.encode("latin-1")


def _number(kind: Any, data: Any) -> int | float | bool | Inert:
    """A numpy number as a Python number; other numpy values become inert, as nothing here needs them."""
    order = (
        kind.state[1] if type(kind) is Inert and type(kind.state) is tuple and len(kind.state) > 1 else None
    )
    letter = _ORDERS.get(order) if type(order) is str else None
    code = kind.arguments[0] if letter and kind.arguments else None
    form = _NUMBERS.get(code) if type(code) is str else None
    if letter is None or form is None or type(data) is not bytes or len(data) != struct.calcsize(f"<{form}"):
        return Inert("numpy.scalar")
    value: int | float | bool = struct.unpack(f"{letter}{form}", data)[0]
    return value


def _as_is(value: Any = ()) -> Any:
    return value


def _inert(name: str) -> Callable[..., Inert]:
    return lambda *arguments: Inert(name, arguments=arguments)


# The value None marks names for which no value is built.
STORAGES: dict[str, Builder | None] = dict.fromkeys(DTYPES)

# The codes of numpy's number types and byte orders, with the codes that `struct` uses for them.
_NUMBERS = {
    **{"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
    **{"b1": "?", "f2": "e", "f4": "f", "f8": "d"},
}
_ORDERS = {"<": "<", ">": ">", "|": "<", "=": "<"}

_INERT = (
    "argparse.Namespace",
    "numpy.dtype",
    *(
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "numeric._frombuffer")
    ),
    "torch.device",
)

WEIGHTS: dict[str, Builder | None] = {
    **STORAGES,
    **{name: _inert(name) for name in _INERT},
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    "numpy.ndarray": None,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_module,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _as_is,
    "collections.OrderedDict": _empty_dict,
    "dnnlib.util.EasyDict": _empty_dict,
    "builtins.set": _as_is,
    "__builtin__.set": _as_is,
    "_codecs.encode": _encoded,
}
