"""One call from a user's weight file to weights folders."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from svgan_ray.errors import WeightsError
from svgan_ray.files import file_sha256
from svgan_ray.stylegan.importing.networks import Imported
from svgan_ray.stylegan.importing.self_test import self_test
from svgan_ray.stylegan.importing.sniffing import read_networks
from svgan_ray.stylegan.weights import kind_of, save_weights

__all__ = ["ImportReport", "import_weights"]


@dataclass(frozen=True)
class ImportReport:
    """The result of an import: the file's format, one folder per network, and notes on guesses and tests."""

    format: str
    sha256: str
    folders: tuple[Path, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        written = (f"wrote {folder}" for folder in self.folders)
        return "\n  ".join((f"{self.format}, SHA-256 {self.sha256}", *self.notes, *written))


def import_weights(path: str | Path, out_dir: str | Path, sha256: str | None = None) -> ImportReport:
    """Read a weight file of any supported kind and write each network in it to a weights folder.

    The networks are written to `out_dir` as `generator`, `encoder`, `arc_face`, `i3d`, `inception` or
    `lpips`; networks from several files may share it. `sha256`, if given, is the hash that the file must
    have. Nothing in the file is ever run. Raises WeightsError, with file and field, if the file is damaged,
    foreign, hostile or not supported; then nothing is written. Raises MachineError if there is too little
    memory to test the networks.
    """
    path, out_dir = Path(path), Path(out_dir)
    try:
        digest = file_sha256(path)
        if sha256 is not None and digest != sha256.lower():
            raise WeightsError(f"expected SHA-256 {sha256}, got {digest}; not the file that you meant")
        found = _read(path)
        notes = found.notes + self_test(found.networks)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise WeightsError(f"{path}: this machine has not enough memory for its networks") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    source = {
        "file": path.name,
        "sha256": digest,
        "size_bytes": path.stat().st_size,
        "format": found.format,
        "notes": list(notes),
    }
    folders = tuple(out_dir / kind_of(type(network)) for network in found.networks)
    for network, folder in zip(found.networks, folders, strict=True):
        save_weights(network, folder, source)
    return ImportReport(found.format, digest, folders, notes)


def _read(path: Path) -> Imported:
    """Read the networks in a file. The file is mapped, not loaded, so only the tensors in use take memory."""
    if path.stat().st_size == 0:
        raise WeightsError("the file is empty")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return read_networks(mapped, memoryview(mapped))
