"""Two inner parts of botocore that make a store on S3 fast; `tests/test_compat.py` tells when they moved."""

from __future__ import annotations

from base64 import b64decode
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

__all__ = ["quick_session", "sign_known_content"]

_SIGNER = "svgan-ray-content"


def quick_session() -> Any:
    """Botocore's session without its guessing of date formats, which takes most of the time of a listing.

    Sessions have no setting for that; the parser's factory takes another function.
    """
    import botocore.session

    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    return session


def sign_known_content(client: Any) -> None:
    """Let a client of S3 sign objects by the sha256 that comes with them, instead of hashing them again.

    Signers are looked up in a map of botocore's by their name, which an event of the client may choose.
    """
    from botocore.auth import AUTH_TYPE_MAPS

    AUTH_TYPE_MAPS[_SIGNER] = _content_signer()
    client.meta.events.register("choose-signer.s3.PutObject", lambda **_: _SIGNER)


def _timestamp(text: str) -> datetime:
    """A time in a listing (ISO 8601) or in a header (RFC 9110)."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)


@cache
def _content_signer() -> type[Any]:
    from botocore.auth import S3SigV4Auth

    class ContentSigner(S3SigV4Auth):  # type: ignore[misc]
        """Takes the sha256 of a body from its header where there is one."""

        def payload(self, request: Any) -> str:
            """The sha256 of the body in hex."""
            known = request.headers.get("x-amz-checksum-sha256")
            return b64decode(known).hex() if known else str(super().payload(request))

    return ContentSigner
