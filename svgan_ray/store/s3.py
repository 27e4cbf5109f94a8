"""Objects in an S3 bucket, Amazon's or any server's that honours `If-None-Match: *` on a plain PUT.

Endpoint, credentials, region and checksum mode come from where boto3 looks for them (AWS_ENDPOINT_URL,
AWS_PROFILE, AWS_REQUEST_CHECKSUM_CALCULATION=when_required for servers that know no checksums, ...), never
from the store's address.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.store.backend import Entry, ObjectNotFoundError

__all__ = ["S3Backend"]

_ATTEMPTS = 8
_CUT_BODY_ATTEMPTS = 5
_CONNECTIONS = 32
_ABSENT = {"NoSuchKey", "404"}
_STANDS_ALREADY = "PreconditionFailed"
_WRITTEN_AT_THE_SAME_TIME = {"ConditionalRequestConflict", "OperationAborted"}
_MISSING = "the bucket does not exist; create it or mend the name"
_FORBIDDEN = (
    "access is forbidden; the credentials need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
)
_REGION = "the bucket is in another region; set AWS_DEFAULT_REGION to the bucket's"
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

T = TypeVar("T")


class S3Backend:
    """Backend over one bucket and prefix; holds no connection, so that it can be sent to other processes."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def __repr__(self) -> str:
        return f"S3Backend({self.bucket!r}, {self.prefix!r})"

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        """See Backend.get."""
        if stop_byte is not None and stop_byte <= first_byte:
            return b""
        last = "" if stop_byte is None else stop_byte - 1
        where = {} if stop_byte is None and not first_byte else {"Range": f"bytes={first_byte}-{last}"}
        return self._call("read", key, lambda: self._body(key, where))

    def put(self, key: str, data: bytes) -> None:
        """See Backend.put."""
        self._call("write", key, lambda: _client().put_object(**self._target(key), Body=data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Backend.put_if_absent."""
        return self._call("write", key, lambda: self._put_if_absent(key, data))

    def list(self, prefix: str) -> Iterator[Entry]:
        """See Backend.list."""
        pages = (
            _client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        )
        page_iterator = iter(pages)
        while page := self._call("list", prefix, lambda: next(page_iterator, None)):
            for item in page.get("Contents", []):
                yield Entry(
                    item["Key"].removeprefix(self.prefix), item["Size"], item["LastModified"].timestamp()
                )

    def stat(self, key: str) -> Entry | None:
        """See Backend.stat."""
        try:
            head = self._call("read", key, lambda: _client().head_object(**self._target(key)))
        except ObjectNotFoundError:
            return None
        return Entry(key, head["ContentLength"], head["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        """See Backend.delete."""
        self._call("delete", key, lambda: _client().delete_object(**self._target(key)))

    def _pages(self, prefix: str) -> Iterator[Any]:
        paginator = _client().get_paginator("list_objects_v2")
        return iter(paginator.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix))

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _body(self, key: str, where: dict[str, str]) -> bytes:
        """Read a whole body; botocore repeats failed requests but not bodies that are cut off half-way."""
        from botocore.exceptions import (
            ConnectionClosedError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        cut = (ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
        for _ in range(_CUT_BODY_ATTEMPTS - 1):
            try:
                return self._body_once(key, where)
            except cut:
                continue
        return self._body_once(key, where)

    def _body_once(self, key: str, where: dict[str, str]) -> bytes:
        from botocore.exceptions import ClientError

        try:
            with _client().get_object(**self._target(key), **where)["Body"] as body:
                data: bytes = body.read()
                return data
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidRange":  # the range starts behind the object's end
                return b""
            raise

    def _put_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        for attempt in range(_ATTEMPTS):
            try:
                _client().put_object(**self._target(key), Body=data, IfNoneMatch="*")
                return True
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in (_STANDS_ALREADY, "412"):
                    return False
                if code not in _WRITTEN_AT_THE_SAME_TIME or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _call(self, verb: str, key: str, action: Callable[[], T]) -> T:
        """Run an action; every way in which a service refuses becomes one of our errors, with what to do."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )

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
                raise StoreAccessError(f"{place}: cannot {verb}: {_REFUSALS[code]} ({code})") from error
            raise StoreError(f"{place}: cannot {verb}: {error}") from error
        except (ConnectionError, HTTPClientError) as error:
            endpoint = _client().meta.endpoint_url
            raise StoreAccessError(f"{place}: cannot {verb}: no answer from {endpoint} ({error})") from error
        except BotoCoreError as error:
            raise StoreError(f"{place}: cannot {verb}: {error}") from error


def _client() -> Any:
    """The one client of this process for the present settings."""
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _new_client(os.getpid(), settings)


@cache
def _new_client(pid: int, settings: tuple[tuple[str, str], ...]) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except ValueError as error:  # botocore's word for an endpoint that is no URL
        raise StoreAccessError(f"{error}; expected a URL in AWS_ENDPOINT_URL") from error
