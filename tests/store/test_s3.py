"""What S3 services answer when something is wrong, and what they do on bad days."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.store import LatentStore, keys, open_store
from svgan_ray.store.s3 import S3Backend
from tests.s3_servers import FaultProxy, deny, fault_proxy, make_bucket
from tests.store.samples import CLIP, INVERSION, chunk_tensors, commit_record, put_chunks, put_clip

MOTO = pytest.mark.parametrize("place", ["moto"])
RGW = pytest.mark.parametrize("place", [pytest.param("rgw", marks=pytest.mark.cluster)])
BOTH = pytest.mark.parametrize("place", ["moto", pytest.param("rgw", marks=pytest.mark.cluster)])


@pytest.fixture
def proxy(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server, through which the clients of the test go."""
    with fault_proxy(s3_environment["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def backend(proxy: FaultProxy) -> S3Backend:
    return S3Backend("tests", uuid.uuid4().hex)


# Refusals


@BOTH
def test_a_missing_bucket(s3_environment: dict[str, str]) -> None:
    with pytest.raises(StoreAccessError, match=r"s3://nowhere/x/store.json: .*the bucket does not exist"):
        open_store("s3://nowhere/x", create=True)
    with pytest.raises(StoreAccessError, match="the bucket does not exist"):
        list(S3Backend("nowhere").list(""))


@BOTH
def test_no_store_under_the_prefix(s3_environment: dict[str, str]) -> None:
    with pytest.raises(StoreAccessError, match="no latent store here"):
        open_store("s3://tests/nothing")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
@RGW
def test_wrong_credentials(
    s3_environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "wrong")
    with pytest.raises(StoreAccessError, match="the credentials are wrong") as raised:
        open_store("s3://tests/x", create=True)
    assert "svgan-ray-test-secret" not in str(raised.value)


@BOTH
def test_no_credentials(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(StoreAccessError, match="no complete credentials found; set AWS_ACCESS_KEY_ID"):
        open_store("s3://tests/x")


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("AWS_ENDPOINT_URL", "nonsense", "Invalid endpoint: nonsense; check AWS_ENDPOINT_URL"),
        ("AWS_DEFAULT_REGION", "eu west", "check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "no answer from http://127.0.0.1:9"),
    ],
)
@MOTO
def test_settings_that_lead_nowhere(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setattr("svgan_ray.store.s3._ATTEMPTS", 2)
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreAccessError, match=named):
        open_store("s3://tests/x")


@pytest.mark.parametrize(
    ("status", "code", "named"),
    [
        (403, "AccessDenied", "access is forbidden; the credentials need s3:ListBucket"),
        (400, "ExpiredToken", "the credentials have expired; renew them and run the same command again"),
        (400, "AuthorizationHeaderMalformed", "the bucket is in another region, eu-west-1; set AWS_DEFAULT"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
    ],
)
@BOTH
def test_each_refusal_says_what_to_do(
    proxy: FaultProxy, backend: S3Backend, status: int, code: str, named: str
) -> None:
    calls = (
        lambda: backend.get("a"), lambda: backend.put("a", b""), lambda: backend.put_if_absent("a", b""),
        lambda: list(backend.list("")), lambda: backend.delete("a"),
    )  # fmt: skip
    for call in calls:
        proxy.refuse(status, code, times=9)  # botocore asks for the region first
        with pytest.raises(StoreAccessError, match=named):
            call()
        proxy.clear()
    backend.put("a", b"1")  # and works again afterwards
    assert backend.get("a") == b"1"


@pytest.fixture
def closing_store(s3_environment: dict[str, str]) -> LatentStore:
    """A store with one clip, in a bucket of its own, which the test then closes."""
    bucket = f"closing-{uuid.uuid4().hex}"
    make_bucket(s3_environment, bucket)
    store = open_store(f"s3://{bucket}/x", create=True)
    put_clip(store)
    return store


@RGW
def test_a_bucket_that_can_only_be_read(closing_store: LatentStore, s3_environment: dict[str, str]) -> None:
    """Reading goes on; the first write says what is missing."""
    deny(s3_environment, closing_store.uri, "s3:PutObject", "s3:DeleteObject")
    store = open_store(closing_store.uri, create=True)
    assert store.read_clip(INVERSION, CLIP).frames == 6
    with pytest.raises(StoreAccessError, match=r"cannot write: access is forbidden.*s3:PutObject"):
        store.put_chunk(INVERSION, "44" * 16, 0, chunk_tensors())
    with pytest.raises(StoreAccessError, match=r"cannot delete: access is forbidden.*s3:DeleteObject"):
        store.clear_failure(INVERSION, CLIP)


@RGW
def test_a_forbidden_bucket(closing_store: LatentStore, s3_environment: dict[str, str]) -> None:
    deny(s3_environment, closing_store.uri, "s3:GetObject", "s3:PutObject", "s3:ListBucket")
    with pytest.raises(StoreAccessError, match=r"store.json: cannot read: access is forbidden"):
        open_store(closing_store.uri)
    with pytest.raises(StoreAccessError, match=r"commits/.*: cannot list: access is forbidden"):
        closing_store.committed_ids(INVERSION)


@BOTH
def test_credentials_that_expire_in_the_middle_leave_no_half_clip(proxy: FaultProxy) -> None:
    store = open_store(f"s3://tests/{uuid.uuid4().hex}", create=True)
    chunks = put_chunks(store)
    proxy.refuse(400, "ExpiredToken", times=99)
    with pytest.raises(StoreAccessError, match="renew them and run the same command again"):
        store.commit(commit_record(chunks))
    proxy.clear()
    assert store.committed_ids(INVERSION) == set()
    assert store.commit(commit_record(list(store.stored_chunks(INVERSION, CLIP).values())))


# Content


@RGW
def test_the_server_refuses_bytes_that_are_not_those_of_the_key(s3_environment: dict[str, str]) -> None:
    backend, data = S3Backend("tests", uuid.uuid4().hex), b"content"
    key = keys.chunk(INVERSION, CLIP, 0, hashlib.sha256(data).hexdigest())
    with pytest.raises(StoreError, match="XAmzContentSHA256Mismatch"):
        backend.put_if_absent(key, b"Content")
    assert backend.stat(key) is None
    assert backend.put_if_absent(key, data)
    assert backend.get(key) == data


@BOTH
def test_content_is_hashed_once(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the store, for its key; signing a request takes that hash."""
    backend, data = S3Backend("tests", uuid.uuid4().hex), b"content" * 1000
    hashed: list[bytes] = []

    def sha256(text: bytes = b"") -> Any:
        hashed.append(text)
        return hashlib.sha256(text)

    monkeypatch.setattr("botocore.auth.sha256", sha256)
    assert backend.put_if_absent(keys.chunk(INVERSION, CLIP, 0, hashlib.sha256(data).hexdigest()), data)
    assert hashed and data not in hashed


# Bad days


SLOWED = pytest.param("slow_down", marks=pytest.mark.cluster)  # the client then holds back for seconds


@pytest.mark.parametrize("fault", [SLOWED, "reset", "lose_answer"])
@BOTH
def test_calls_are_repeated(proxy: FaultProxy, backend: S3Backend, fault: str) -> None:
    proxy.break_next(fault, times=2)
    backend.put("a", b"1")
    proxy.break_next(fault)
    assert backend.get("a") == b"1"
    proxy.break_next(fault)
    assert [entry.key for entry in backend.list("")] == ["a"]
    assert proxy.broken == 4


@pytest.mark.parametrize("times", [1, 4])
@BOTH
def test_bodies_cut_off_half_way_are_read_again(proxy: FaultProxy, backend: S3Backend, times: int) -> None:
    data = bytes(range(256)) * 1024
    backend.put("a", data)
    proxy.break_next("cut_body", times=times)
    assert backend.get("a") == data
    assert proxy.broken == times


@MOTO
def test_every_repeated_request_is_told(
    proxy: FaultProxy, backend: S3Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries: list[bool] = []
    monkeypatch.setattr("svgan_ray.store.retries._watchers", [lambda: retries.append(True)])
    backend.put("a", b"1" * 1000)
    assert not retries
    proxy.break_next("reset", times=2)
    proxy.break_next("cut_body")
    assert backend.get("a") == b"1" * 1000
    assert len(retries) == 3
    proxy.refuse(409, "ConditionalRequestConflict")
    assert not backend.put_if_absent("a", b"2")
    assert len(retries) == 4


@MOTO
def test_a_body_that_is_always_cut_off_is_an_error(proxy: FaultProxy, backend: S3Backend) -> None:
    backend.put("a", b"x" * 1000)
    proxy.break_next("cut_body", times=99)
    with pytest.raises(StoreError, match="cannot read"):
        backend.get("a")


@BOTH
def test_a_lost_answer_to_a_won_race_reads_as_lost(proxy: FaultProxy, backend: S3Backend) -> None:
    """The reason why the store compares content instead of trusting False."""
    proxy.break_next("lose_answer", times=1)
    assert backend.put_if_absent("a", b"mine") is False
    assert backend.get("a") == b"mine"


@MOTO
def test_a_conflict_of_writers_is_asked_again(proxy: FaultProxy, backend: S3Backend) -> None:
    proxy.refuse(409, "ConditionalRequestConflict", times=2)
    assert backend.put_if_absent("a", b"1")
    proxy.refuse(409, "ConditionalRequestConflict", times=2)
    assert not backend.put_if_absent("a", b"2")


@MOTO
def test_a_commit_survives_a_lost_answer(proxy: FaultProxy) -> None:
    store = open_store(f"s3://tests/{uuid.uuid4().hex}", create=True)
    chunks = put_chunks(store)
    proxy.break_next("lose_answer", times=1, method="PUT")
    assert store.commit(commit_record(chunks)) is False  # "equal work stands": its own
    assert store.read_clip(INVERSION, CLIP).frames == 6
