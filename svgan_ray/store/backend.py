"""The six verbs that a place for objects must know, and what they promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from svgan_ray.errors import StoreError

__all__ = ["Backend", "Entry", "ObjectNotFoundError"]


class ObjectNotFoundError(StoreError):
    """No object stands under the key."""


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it; modified_s counts from 1970 on the place's own clock."""

    key: str
    size_bytes: int
    modified_s: float


class Backend(Protocol):
    """A space of objects in which no key is also the folder of another.

    Objects appear and are replaced whole: a reader sees the bytes of exactly one put. When a writing verb
    returns, the object survives a crash of the machine. All raise StoreAccessError where the place is
    missing, forbidden or out of reach, and StoreError where it fails otherwise (a full disk).
    """

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        """Bytes [first_byte, stop_byte) of an object. Raises ObjectNotFoundError."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing what stood there."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless one stands there; of racing writers exactly one wins.

        False after a lost answer may also mean that this very call wrote it: compare the content.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key starts with the prefix, in the order of their keys."""
        ...

    def stat(self, key: str) -> Entry | None:
        """One object's entry, None where there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error where there is none."""
        ...
