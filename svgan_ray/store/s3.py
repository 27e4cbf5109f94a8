"""Objects in an S3 bucket, Amazon's or any server's that honours `If-None-Match: *` on a plain PUT.

Boto3 looks for endpoint, credentials, region and checksum mode in its usual places (AWS_ENDPOINT_URL,
AWS_PROFILE, AWS_REQUEST_CHECKSUM_CALCULATION=when_required for servers without checksums, ...). They are
never part of the store's address.
"""

from __future__ import annotations

import os
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import cache
from typing import IO, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from svgan_ray import __version__
from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.store import keys
from svgan_ray.store.backend import Entry, ObjectNotFoundError
from svgan_ray.store.botocore_compat import quick_session, sign_known_content
from svgan_ray.store.retries import tell_retry

__all__ = ["S3Backend"]

_ATTEMPTS = 8
_BODY_ATTEMPTS = 5
_CONNECTIONS = 32
_PAGE_OBJECTS = 1000  # the maximum of S3
_ABSENT = {"NoSuchKey", "404"}
_STANDS_ALREADY = {"PreconditionFailed", "412"}
_WRITTEN_AT_THE_SAME_TIME = {"ConditionalRequestConflict", "OperationAborted", "409"}
_MISSING = "the bucket does not exist; create it or mend the name"
_FORBIDDEN = (
    "access is forbidden; the credentials need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
)
_REGION = "the bucket is in another region{region}; set AWS_DEFAULT_REGION to the bucket's"
_WRONG_KEYS = "the credentials are wrong; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile"
_EXPIRED = "the credentials have expired; renew them and run the same command again"
_NO_KEYS = (
    "no complete credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
)
_REFUSALS = {
    "NoSuchBucket": _MISSING,
    "AccessDenied": _FORBIDDEN,
    "AllAccessDisabled": _FORBIDDEN,
    "403": _FORBIDDEN,
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "InvalidAccessKeyId": _WRONG_KEYS,
    "SignatureDoesNotMatch": _WRONG_KEYS,
    "InvalidToken": _WRONG_KEYS,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than 15 minutes; set it",
}

_CUT_BODY = (ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

_making_client = threading.Lock()

T = TypeVar("T")


class S3Backend:
    """Backend over one bucket and prefix; it holds no connection and can be sent to other processes."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def __repr__(self) -> str:
        return f"S3Backend({self.bucket!r}, {self.prefix!r})"

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        """See Backend.get."""
        if stop_byte is not None and stop_byte <= first_byte:
            return b""
        span = f"bytes={first_byte}-{'' if stop_byte is None else stop_byte - 1}"
        where = {} if span == "bytes=0-" else {"Range": span}
        return self._call("read", key, lambda: self._body({**self._target(key), **where}))

    def put(self, key: str, data: bytes) -> None:
        """See Backend.put."""
        self._call("write", key, lambda: _client().put_object(**self._target(key), Body=data))

    def put_file(self, key: str, file: IO[bytes]) -> None:
        """Like `put`, for a seekable file of any size: its memory is bounded, since it goes in parts."""
        self._call("write", key, lambda: _client().upload_fileobj(file, **self._target(key)))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Backend.put_if_absent."""
        return self._call("write", key, lambda: self._put_if_absent(key, data))

    def list(self, prefix: str) -> Iterator[Entry]:
        """See Backend.list."""
        pages = self._call("list", prefix, lambda: self._pages(prefix))
        while page := self._call("list", prefix, lambda: next(pages, None)):
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self.prefix)
                yield _entry(key, item["Size"], item["LastModified"])

    def stat(self, key: str) -> Entry | None:
        """See Backend.stat."""
        try:
            facts = self._call("read", key, lambda: _client().head_object(**self._target(key)))
        except ObjectNotFoundError:
            return None
        return _entry(key, facts["ContentLength"], facts["LastModified"])

    def delete(self, key: str) -> None:
        """See Backend.delete."""
        self._call("delete", key, lambda: _client().delete_object(**self._target(key)))

    def _pages(self, prefix: str) -> Iterator[Any]:
        paginator = _client().get_paginator("list_objects_v2")
        where = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        return iter(paginator.paginate(**where, PaginationConfig={"PageSize": _PAGE_OBJECTS}))

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _body(self, request: dict[str, str]) -> bytes:
        """Read a whole body, again if it is cut off half-way; botocore repeats failed requests only."""
        for attempt in range(_BODY_ATTEMPTS):
            try:
                with closing(_client().get_object(**request)["Body"]) as body:
                    data: bytes = body.read()
                    return data
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvalidRange":
                    raise
                return b""  # the range starts after the object's end
            except _CUT_BODY:
                if attempt == _BODY_ATTEMPTS - 1:
                    raise
                tell_retry()
        raise AssertionError("unreachable")

    def _put_if_absent(self, key: str, data: bytes) -> bool:
        """Send content with the sha256 in its key, so that the server refuses bytes that were damaged."""
        sha256 = keys.content_sha256(key)
        hashed = {"ChecksumSHA256": b64encode(bytes.fromhex(sha256)).decode()} if sha256 else {}
        for attempt in range(_ATTEMPTS):
            try:
                _client().put_object(**self._target(key), Body=data, IfNoneMatch="*", **hashed)
                return True
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _STANDS_ALREADY:
                    return False
                if code not in _WRITTEN_AT_THE_SAME_TIME or attempt == _ATTEMPTS - 1:
                    raise
            tell_retry()
            time.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")

    def _call(self, verb: str, key: str, action: Callable[[], T]) -> T:
        """Run an action; any refusal by the service becomes a store error that says what to do."""
        place = f"s3://{self.bucket}/{self.prefix}{key}"
        try:
            return action()
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StoreAccessError(f"{place}: cannot {verb}: {_NO_KEYS}") from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _ABSENT:
                raise ObjectNotFoundError(f"{place}: no such object") from None
            if code in _REFUSALS:
                what = _REFUSALS[code].format(region=_bucket_region(error))
                raise StoreAccessError(f"{place}: cannot {verb}: {what} ({code})") from error
            raise StoreError(f"{place}: cannot {verb}: {error}") from error
        except (ConnectionError, HTTPClientError) as error:
            endpoint = _client().meta.endpoint_url
            raise StoreAccessError(f"{place}: cannot {verb}: no answer from {endpoint} ({error})") from error
        except BotoCoreError as error:
            raise StoreError(f"{place}: cannot {verb}: {error}") from error


def _bucket_region(error: ClientError) -> str:
    """The region of the bucket, if the service reports it."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or error.response["Error"].get("Region")
    return f", {region}" if region else ""


def _entry(key: str, size_bytes: int, modified: datetime) -> Entry:
    """A listing's entry, in whole seconds, because some servers show fractions only in listings."""
    return Entry(key, size_bytes, float(int(modified.timestamp())))


def _client() -> Any:
    """The one client of this process for the present settings."""
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    with _making_client:  # boto3 must not create clients in two threads at once
        return _new_client(os.getpid(), settings)


@cache
def _new_client(pid: int, settings: tuple[tuple[str, str], ...]) -> Any:
    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        response_checksum_validation="when_required",  # all content is checked against its sha256
        user_agent=f"svgan-ray/{__version__}",  # botocore's own takes a tenth of a small request
    )
    try:
        client = boto3.session.Session(botocore_session=quick_session()).client("s3", config=config)
    except ValueError as error:  # botocore raises this for an invalid endpoint or region
        raise StoreAccessError(f"{error}; check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION") from error
    sign_known_content(client)
    client.meta.events.register("before-send.s3", _note_retry)
    return client


def _note_retry(request: Any, **_: Any) -> None:
    """Report a repetition; botocore numbers the attempts in a header, such as `attempt=2; max=8`."""
    if not re.search(r"attempt=1\b", str(request.headers.get("amz-sdk-request", "attempt=1"))):
        tell_retry()
