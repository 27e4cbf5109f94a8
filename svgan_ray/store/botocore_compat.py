"""Two internals of botocore that make a store on S3 fast; `tests/test_compat.py` fails when they change."""

from __future__ import annotations

from base64 import b64decode
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

__all__ = ["quick_session", "sign_known_content"]

_SIGNER = "svgan-ray-content"


def quick_session() -> Any:
    """A botocore session that does not guess date formats, which would take most of the time of a listing.

    A session has no setting for this, but its parser factory accepts another function for dates.
    """
    import botocore.session

    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    return session


def sign_known_content(client: Any) -> None:
    """Let an S3 client sign objects with the sha256 that is passed along, instead of hashing them again.

    Botocore looks up signers by name in a map, and an event handler of the client may choose the name.
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
        """Uses the sha256 in the request's header, if there is one."""

        def payload(self, request: Any) -> str:
            """The sha256 of the body in hex."""
            known = request.headers.get("x-amz-checksum-sha256")
            return b64decode(known).hex() if known else str(super().payload(request))

    return ContentSigner
