"""Pickles read as data: no global is imported, no object of the file is built, nothing in it is called.

This is a small interpreter of the opcodes of protocols 2 to 5. A global is only a name. Functions of this
package turn the names in a closed table into plain values; any other name is refused. A `Budget` limits the
work and the copies, so that no file can use more memory or time than its size and a fixed number of steps
allow.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from svgan_ray.errors import WeightsError

__all__ = ["Budget", "Builder", "Builders", "Global", "Inert", "PickleReader", "Stream", "shown"]

# The largest common files take about 100,000 steps.
MAX_OPCODES = 2**19
# Small strings take more bytes in memory than in the file; this allowance is for them.
SMALL_STRINGS_BYTES = 2**26
COPIES = 4
MAX_KEY_CHARACTERS = 256

Builder = Callable[..., Any]
Builders = Mapping[str, Builder | None]


class Stream(Protocol):
    """The methods that `pickletools` needs of a file; `mmap` and `BytesIO` have them."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, position: int, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Global:
    """A name that Python's own unpickler would have imported."""

    name: str


@dataclass(slots=True)
class Inert:
    """A placeholder for an object: the name of its type, its state, and its constructor's arguments."""

    name: str
    state: Any = None
    arguments: tuple[Any, ...] = ()


class Budget:
    """The limit of work for reading one file, including all pickles nested in it."""

    def __init__(self, file_bytes: int) -> None:
        self._opcodes = MAX_OPCODES
        self._copied_bytes = COPIES * file_bytes + SMALL_STRINGS_BYTES

    def spend(self, opcodes: int, value: object) -> None:
        """Count steps, and the size of a value if it is text or bytes; raises WeightsError over the limit."""
        self._opcodes -= opcodes
        if isinstance(value, str | bytes | bytearray):
            self._copied_bytes -= sys.getsizeof(value)
        if self._opcodes < 0:
            raise WeightsError(f"refused: the pickle takes more than {MAX_OPCODES} steps")
        if self._copied_bytes < 0:
            raise WeightsError(f"refused: the pickle copies its content more than {COPIES} times")


class PickleReader:
    """Reads one pickle after the other from a stream.

    `builders` maps the names of globals to functions that turn their arguments into a value, or to None if
    only the name is needed. `persistent` resolves persistent ids; without it they are refused.
    """

    def __init__(
        self,
        stream: Stream,
        builders: Builders,
        budget: Budget,
        persistent: Callable[[Any], object] | None = None,
    ) -> None:
        self._stream = stream
        self._builders = builders
        self._budget = budget
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """The value of the next pickle; a WeightsError names the refused or damaged part and its position."""
        self._stack, self._marks, self._memo = [], [], {}
        step = f"at byte {self._stream.tell()}"
        try:
            for opcode, argument, position in pickletools.genops(self._stream):  # type: ignore[arg-type]
                step = f"opcode {opcode.name} at byte {position}"
                self._budget.spend(1, argument)
                self._step(opcode.name, argument)
            return self._stack.pop()
        except WeightsError as error:
            raise WeightsError(f"{error} (pickle, {step})") from error
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            raise WeightsError(f"damaged or truncated pickle, {step}: {shown(error)}") from error

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _NEW:
            self._stack.append(_NEW[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _SKIPPED:
            raise WeightsError(f"refused pickle opcode {name}: no weight file needs it")

    def _protocol(self, protocol: int) -> None:
        if not 2 <= protocol <= 5:
            raise WeightsError(f"pickle protocol {protocol}: expected 2 to 5")

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _to_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _tuple(self, length: int) -> None:
        items = [self._stack.pop() for _ in range(length)]
        self._stack.append(tuple(reversed(items)))

    def _append(self, items: Iterable[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise WeightsError(f"APPEND to {type(target).__name__}: expected a list")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise WeightsError(f"SETITEM on {type(target).__name__}: expected a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _is_cheap_key(key):
                raise WeightsError(f"refused dict key: expected a short text or number, got {shown(key)}")
            target[key] = value

    def _name(self, name: str) -> None:
        if name not in self._builders:
            raise WeightsError(f"refused global {shown(name)}{_reason(name)}")
        self._stack.append(Global(name))

    def _global(self, argument: str) -> None:
        self._name(argument.replace(" ", ".", 1))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise WeightsError(f"refused global {shown(module)}.{shown(name)}: expected two names")
        self._name(f"{module}.{name}")

    def _reduce(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        builder = self._builders[function.name] if type(function) is Global else None
        if builder is None or type(arguments) is not tuple:
            raise WeightsError(f"refused call of {shown(function)}")
        value = builder(*arguments)
        self._budget.spend(0, value)
        self._stack.append(value)

    def _build(self, _: None) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is Inert:
            target.state = state
        elif type(target) is not dict:  # the attributes of a dict are not needed and are dropped
            raise WeightsError(f"refused state of {shown(target)}")

    def _persistent_id(self, _: None) -> None:
        if self._persistent is None:
            raise WeightsError("refused persistent id: only PyTorch's own files have them")
        self._stack.append(self._persistent(self._stack.pop()))


def shown(value: object) -> str:
    """A short text for messages: clipped names and numbers, and only the type of any other value."""
    if isinstance(value, Global):
        return shown(value.name)
    if not isinstance(value, str | int | Exception):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    text = repr(value[:101]) if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _is_cheap_key(key: object) -> bool:
    """Whether a key is hashed and compared in constant time, unlike nested tuples or crafted numbers."""
    if type(key) is str:
        return len(key) <= MAX_KEY_CHARACTERS
    return type(key) is int and abs(key) < 2**31


_FOREIGN = (
    (
        "dnnlib.tflib.",
        "a TensorFlow pickle; convert it with stylegan2-ada-pytorch's legacy.py first",
    ),
    ("torch_utils.persistence.", "only whole NVIDIA networks are read"),
    ("torch.storage._load_from_bytes", "a PyTorch storage nested in another PyTorch file"),
    ("torch.nn.", "a whole pickled module; save its state_dict() instead"),
    ("training.", "a whole pickled module; save its state_dict() instead"),
    ("models.", "a whole pickled module; save its state_dict() instead"),
    ("model.", "a whole pickled module; save its state_dict() instead"),
)


def _reason(name: str) -> str:
    known = next((reason for prefix, reason in _FOREIGN if name.startswith(prefix)), None)
    return f": {known}" if known else ": no weight file needs it, and nothing in this one was run"


_PUSHED = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_SKIPPED = frozenset(("FRAME", "STOP"))
# Sets become lists, because hashing values from a hostile file could take forever.
_NEW: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_ACTIONS: dict[str, Callable[[PickleReader, Any], None]] = {
    "PROTO": PickleReader._protocol,
    "MARK": PickleReader._mark,
    "EMPTY_TUPLE": lambda reader, _: reader._tuple(0),
    "TUPLE1": lambda reader, _: reader._tuple(1),
    "TUPLE2": lambda reader, _: reader._tuple(2),
    "TUPLE3": lambda reader, _: reader._tuple(3),
    "TUPLE": lambda reader, _: reader._stack.append(tuple(reader._to_mark())),
    "APPEND": lambda reader, _: reader._append([reader._stack.pop()]),
    "APPENDS": lambda reader, _: reader._append(reader._to_mark()),
    "ADDITEMS": lambda reader, _: reader._append(reader._to_mark()),
    "SETITEM": lambda reader, _: reader._set_items([reader._stack.pop(-2), reader._stack.pop()]),
    "SETITEMS": lambda reader, _: reader._set_items(reader._to_mark()),
    "GLOBAL": PickleReader._global,
    "STACK_GLOBAL": PickleReader._stack_global,
    "REDUCE": PickleReader._reduce,
    "NEWOBJ": PickleReader._reduce,
    "BUILD": PickleReader._build,
    "BINPERSID": PickleReader._persistent_id,
    "BINGET": lambda reader, index: reader._stack.append(reader._memo[index]),
    "LONG_BINGET": lambda reader, index: reader._stack.append(reader._memo[index]),
    "BINPUT": lambda reader, index: reader._memo.__setitem__(index, reader._stack[-1]),
    "LONG_BINPUT": lambda reader, index: reader._memo.__setitem__(index, reader._stack[-1]),
    "MEMOIZE": lambda reader, _: reader._memo.__setitem__(len(reader._memo), reader._stack[-1]),
}
