"""The six operations of a storage backend, and their guarantees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from svgan_ray.errors import StoreError

__all__ = ["Backend", "Entry", "ObjectNotFoundError"]


class ObjectNotFoundError(StoreError):
    """There is no object with this key."""


@dataclass(frozen=True)
class Entry:
    """An object in a listing; modified_s is in seconds since 1970 by the backend's own clock."""

    key: str
    size_bytes: int
    modified_s: float


class Backend(Protocol):
    """A space of objects in which no key is also the folder of another.

    Objects appear and are replaced as a whole: a reader sees the bytes of exactly one put. After a write
    operation has returned, the object survives a crash of the machine. All operations raise StoreAccessError
    if the store is missing, forbidden or unreachable, and StoreError for other failures (such as a full
    disk).
    """

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        """Bytes [first_byte, stop_byte) of an object. Raises ObjectNotFoundError."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write an object; an existing object with the same key is replaced."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key exists; if several writers race, exactly one of them wins.

        If the server's answer was lost and the request was repeated, False may also mean that this call
        itself wrote the object. So the caller must compare the content.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key starts with the prefix, in the order of their keys."""
        ...

    def stat(self, key: str) -> Entry | None:
        """The entry of one object; None if the object does not exist."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if the object does not exist."""
        ...
