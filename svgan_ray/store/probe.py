"""A test of a store's guarantees, because a job would notice a broken one only after hours."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.store.backend import Backend
from svgan_ray.store.folder import FolderBackend
from svgan_ray.store.latent_store import backend_of

__all__ = ["probe_store"]

_FIRST, _SECOND = b"first", b"second"


def probe_store(uri: str) -> str:
    """Test create-if-absent, read, list and delete where the store `uri` is or would be; returns the result.

    The test leaves nothing behind. Raises ConfigError, StoreError, and StoreAccessError (missing, forbidden,
    unreachable, or create-if-absent not supported).
    """
    key = f"probes/{uuid.uuid4().hex}"
    with _place(uri) as backend:
        try:
            answers = backend.put_if_absent(key, _FIRST), backend.put_if_absent(key, _SECOND)
            content = backend.get(key)
            listed = [entry.key for entry in backend.list("probes/")]
        finally:
            backend.delete(key)
        if answers != (True, False) or content != _FIRST:
            raise StoreAccessError(
                f"{uri}: the server overwrites what stands instead of refusing (If-None-Match: * on a PUT); "
                "results of two jobs would mix: use Amazon S3, Ceph 16.2 or newer, or a folder"
            )
        if key not in listed:
            raise StoreError(f"{uri}: an object that was written is not listed; the server is not consistent")
        if backend.stat(key) is not None:
            raise StoreError(f"{uri}: an object that was deleted still stands")
    return f"{uri}: create-if-absent, read, list and delete work"


@contextmanager
def _place(uri: str) -> Iterator[Backend]:
    """A backend for the test: the bucket itself or, for a folder store, a folder beside the store's place."""
    backend = backend_of(uri)
    if not isinstance(backend, FolderBackend):
        yield backend
        return
    standing = next(path for path in (backend.root, *backend.root.parents) if path.exists())
    try:
        folder = Path(tempfile.mkdtemp(prefix=".svgan-ray-probe-", dir=standing))
    except OSError as error:
        raise StoreAccessError(f"{uri}: cannot write in {standing}: {error.strerror}") from error
    try:
        yield FolderBackend(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
