"""The containers of weight files: PyTorch's zip archives, its older sequence of pickles, and plain pickles.

All of them are read in place, and only the tensors that an import needs are copied into memory. The formats
are described in PyTorch's serialization.py (`torch.save`) and in PKWARE's APPNOTE.TXT (zip).
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan.importing.closed_table import STORAGES, WEIGHTS
from svgan_ray.stylegan.importing.pickles import Budget, Global, PickleReader, Stream, shown
from svgan_ray.stylegan.importing.tensors import DTYPES, Storage

__all__ = ["Archive", "read_legacy", "read_pickle", "read_zip"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
MAX_DIRECTORY_BYTES = 2**22
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    ArithmeticError,
    LookupError,
    NotImplementedError,
    OSError,
    ValueError,
    struct.error,
)
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field


class Archive:
    """A zip archive in memory or mapped from a file; its records are views of it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        try:
            with zipfile.ZipFile(_Directory(data)) as archive:
                self._entries = {entry.filename: entry for entry in archive.infolist()}
        except _ZIP_ERRORS as error:
            raise WeightsError(f"damaged or truncated zip archive ({shown(error)}); copy it again") from error
        # Overlapping records would let a small file cause a large amount of reading.
        if sum(entry.compress_size for entry in self._entries.values()) > len(data):
            raise WeightsError("refused: the records of the zip archive take more than the file holds")

    @property
    def names(self) -> list[str]:
        """Paths of all records."""
        return list(self._entries)

    def record(self, name: str) -> memoryview:
        """The bytes of a record, which must be stored uncompressed and match their checksum."""
        entry = self._entries.get(name)
        if entry is None:
            raise WeightsError(f"record {shown(name)} is missing; the file is damaged")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f"record {shown(name)} is compressed; PyTorch stores weights as they are")
        data = self._raw(entry)
        if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
            raise WeightsError(f"record {shown(name)} does not fit its checksum; the file is damaged")
        return data

    def text(self, name: str, limit_bytes: int) -> str:
        """The beginning of a text record, compressed or not."""
        entry = self._entries[name]
        data = self._raw(entry)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            try:
                data = memoryview(zlib.decompressobj(-15).decompress(data, limit_bytes))
            except zlib.error as error:
                raise WeightsError(f"record {shown(name)} is damaged ({error})") from error
        return bytes(data[:limit_bytes]).decode("utf-8", "replace")

    def _raw(self, entry: zipfile.ZipInfo) -> memoryview:
        header = self._data[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
        if len(header) < _LOCAL_HEADER.size or bytes(header[:4]) != b"PK\3\4":
            raise WeightsError(f"record {shown(entry.filename)} has no header; the file is damaged")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        start = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        return self._data[start : start + entry.compress_size]


class _Directory:
    """The file object that `zipfile` reads; it limits the size of the record list, which costs memory."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise OSError("seek before the start")  # real files raise this too, and zipfile relies on it
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = len(self._data) if size < 0 else self._position + size
        view = self._data[self._position : stop]
        if len(view) > MAX_DIRECTORY_BYTES:
            raise WeightsError(f"refused: a zip directory of {len(view)} bytes")
        self._position += len(view)
        return bytes(view)


def read_zip(archive: Archive, budget: Budget) -> Any:
    """The object in a zip archive of `torch.save`."""
    prefix = _prefix(archive)
    if f"{prefix}byteorder" in archive.names and bytes(archive.record(f"{prefix}byteorder")) != b"little":
        raise WeightsError("byteorder: expected little, got another; save it on a little-endian machine")
    storages: dict[str, Storage] = {}

    def resolve(identity: Any) -> Storage:
        storage, key = _announced(identity, fields=5)
        if key not in storages:
            storage.attach(archive.record(f"{prefix}data/{key}"), f"storage {shown(key)}")
            storages[key] = storage
        return _same(storages[key], storage, key)

    stream = io.BytesIO(archive.record(f"{prefix}data.pkl"))
    return PickleReader(stream, WEIGHTS, budget, resolve).read()


def _prefix(archive: Archive) -> str:
    """The folder that all records lie in."""
    pickles = [name for name in archive.names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError("a zip archive, but not one of PyTorch's: expected one <name>/data.pkl in it")
    return pickles[0].removesuffix("data.pkl")


def read_pickle(stream: Stream, budget: Budget) -> Any:
    """The object in a plain pickle, PyTorch tensors included."""

    def load_from_bytes(data: Any) -> Storage:
        if type(data) is not bytes:
            raise WeightsError(f"nested storage: expected bytes, got {shown(data)}")
        # A nested file holds a single storage, so its reader supports no further nesting.
        storage = _read_sequence(io.BytesIO(data), memoryview(data), budget, STORAGES)
        if type(storage) is not Storage:
            raise WeightsError(f"nested storage: expected a storage, got {shown(storage)}")
        return storage

    return PickleReader(stream, WEIGHTS | {"torch.storage._load_from_bytes": load_from_bytes}, budget).read()


def read_legacy(stream: Stream, data: memoryview, budget: Budget) -> Any:
    """The object in a file of `torch.save` before PyTorch 1.6."""
    return _read_sequence(stream, data, budget, WEIGHTS)


def _read_sequence(stream: Stream, data: memoryview, budget: Budget, builders: Any) -> Any:
    """Read pickles (magic number, version, machine, the object, keys of the storages), then the storages."""
    storages: dict[str, Storage] = {}

    def resolve(identity: Any) -> Storage:
        storage, key = _announced(identity, fields=6)
        return _same(storages.setdefault(key, storage), storage, key)

    reader = PickleReader(stream, builders, budget, resolve)
    if reader.read() != LEGACY_MAGIC or reader.read() != LEGACY_VERSION:
        raise WeightsError("damaged: expected PyTorch's magic number and version 1001")
    machine = reader.read()
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise WeightsError("little_endian: expected True; save it on a little-endian machine")
    value, keys = reader.read(), reader.read()
    if type(keys) is not list or not all(type(key) is str and key in storages for key in keys):
        raise WeightsError("damaged: the list of storages does not fit the tensors")
    for key, view in zip(keys, _runs(data, stream.tell(), [storages[key] for key in keys]), strict=True):
        storages[key].attach(view, f"storage {shown(key)}")
    return value


def _runs(data: memoryview, position: int, storages: list[Storage]) -> Iterator[memoryview]:
    """The bytes of consecutive storages; each is preceded by its number of elements."""
    for storage in storages:
        count = int.from_bytes(data[position : position + 8], "little")
        if count != storage.count:
            raise WeightsError(f"storage: expected {storage.count} elements, the file says {count}; damaged")
        stop = position + 8 + count * storage.dtype.itemsize
        yield data[position + 8 : stop]
        position = stop


def _announced(identity: Any, fields: int) -> tuple[Storage, str]:
    """("storage", class, key, device, count[, view of another]) -> (storage without its bytes, its key)."""
    if type(identity) is not tuple or len(identity) != fields or identity[0] != "storage":
        raise WeightsError("persistent id: expected a description of a storage")
    kind, key, count, view = identity[1], identity[2], identity[4], identity[5:]
    if type(kind) is not Global or kind.name not in DTYPES:
        raise WeightsError(f"storage: expected a storage class, got {shown(kind)}")
    if type(key) is not str or type(count) is not int or not 0 <= count < 2**60 or view not in ((), (None,)):
        raise WeightsError(f"storage {shown(key)}: its description makes no sense")
    return Storage(DTYPES[kind.name], count), key


def _same(known: Storage, storage: Storage, key: str) -> Storage:
    if (known.dtype, known.count) != (storage.dtype, storage.count):
        raise WeightsError(f"storage {shown(key)} is described in two ways; the file is damaged")
    return known
