"""What tests of the file system on S3 share: writing a file, and listing objects by another client."""

from __future__ import annotations

import os

from pyarrow.fs import FileSystem

from svgan_ray.store.s3 import S3Backend

MIB = 2**20
PARTS = os.urandom(5 * MIB) * 4
"""More than one request reads, and more than is written in one part."""


def write(s3: FileSystem, path: str, data: bytes = b"weights") -> None:
    with s3.open_output_stream(path) as stream:
        stream.write(data)


def objects(place: str) -> list[str]:
    """The keys below a path, by the client of the store."""
    bucket, _, prefix = place.partition("/")
    return [entry.key for entry in S3Backend(bucket, prefix).list("")]
