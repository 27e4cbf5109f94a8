"""Keys, records and chunk bytes: what stands in a store for years."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.errors import CorruptObjectError, DataError, StoreSchemaError
from svgan_ray.store import codec, keys
from svgan_ray.store.records import (
    ChunkRef,
    ClipRecord,
    CommitRecord,
    FailureRecord,
    ModelFile,
    ModelManifest,
    ObjectRef,
    Record,
    SkippedRecord,
    Snapshot,
    SnapshotClip,
    StoreMarker,
    TrackRecord,
)
from tests.store.samples import chunk_tensors, commit_record, failure_record, track_record

LETTERS = "abcXYZ0189"
NAMES = st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "._-", max_size=9))
SHA256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
TEXT = st.text(max_size=12)  # any text that JSON carries, as in users' paths
COUNTS = st.integers(0, 2**53)
RATES = st.floats(0.1, 1e4)
REFS = st.builds(ObjectRef, TEXT, SHA256, COUNTS)
CHUNK_REFS = st.builds(ChunkRef, TEXT, SHA256, COUNTS, COUNTS)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
MAPPINGS = st.dictionaries(TEXT, JSON_VALUES, max_size=2)


def tuples(items: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(items, max_size=3).map(tuple)


RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        TrackRecord, *[TEXT] * 5, COUNTS, RATES, COUNTS, COUNTS,
        tuples(st.builds(ClipRecord, TEXT, COUNTS, COUNTS)),
        tuples(st.builds(SkippedRecord, COUNTS, COUNTS, TEXT)),
        MAPPINGS, st.none() | REFS,
    ),
    st.builds(
        CommitRecord, *[TEXT] * 5, COUNTS, COUNTS, RATES, COUNTS, COUNTS, SHA256, SHA256, tuples(CHUNK_REFS),
        st.none() | st.floats(0, 1e3), TEXT, st.none() | st.floats(0, 1e3),
    ),
    st.builds(FailureRecord, *[TEXT] * 5, COUNTS),
    st.builds(
        Snapshot, TEXT, TEXT, SHA256, COUNTS, COUNTS,
        tuples(st.builds(SnapshotClip, TEXT, TEXT, COUNTS, RATES, SHA256)), MAPPINGS, COUNTS,
    ),
    st.builds(ModelManifest, TEXT, tuples(st.builds(ModelFile, TEXT, SHA256, COUNTS, TEXT))),
)  # fmt: skip


# Records


@given(RECORDS)
def test_records_are_read_as_they_were_written(record: Record) -> None:
    data = record.to_json()
    again = type(record).from_json(data, "key")
    assert again == record
    assert again.to_json() == data


@given(RECORDS, st.data())
def test_a_flipped_bit_in_a_record_is_found(record: Record, data: st.DataObject) -> None:
    damaged = bytearray(record.to_json())
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptObjectError, match="the/key"):
        type(record).from_json(bytes(damaged), "the/key")


def test_every_flipped_bit_in_a_record_is_found() -> None:
    """Those too that change the bytes but not the values, as of 1e+22 or of an escaped letter."""
    whole = dataclasses.replace(commit_record([]), subject="Zoë", mean_error=1e22).to_json()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptObjectError):
            CommitRecord.from_json(bytes(damaged), "key")


@given(st.binary(max_size=80))
def test_anything_else_is_no_record(data: bytes) -> None:
    with pytest.raises(CorruptObjectError):
        CommitRecord.from_json(data, "key")


@pytest.mark.parametrize("data", [b"[" * 100_000, b"null", b"{}", b"", b'{"sha256":1}'])
def test_strange_json_is_no_record(data: bytes) -> None:
    with pytest.raises(CorruptObjectError, match="key"):
        CommitRecord.from_json(data, "key")


def test_newer_records_are_refused_and_misplaced_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("svgan_ray.store.records.SCHEMA", 7)
        data = failure_record().to_json()
    with pytest.raises(StoreSchemaError, match="schema 7, this version reads up to 1; upgrade"):
        FailureRecord.from_json(data, "key")
    with pytest.raises(CorruptObjectError, match="kind 'commit'"):
        CommitRecord.from_json(failure_record().to_json(), "key")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("mean_error", float("nan"), "not JSON compliant"),
        ("mean_error", torch.tensor(1.0), "not JSON serializable"),
        ("first_frame", 1.5, "first_frame"),
        ("subject", None, "subject"),
        ("num_ws", True, "num_ws"),
    ],
)
def test_a_record_with_a_wrong_field_is_not_written(field: str, value: Any, named: str) -> None:
    with pytest.raises(CorruptObjectError, match=named):
        dataclasses.replace(commit_record([]), **{field: value}).to_json()


def test_a_record_of_other_fields_is_refused() -> None:
    document = json.loads(StoreMarker().to_json())
    del document["sha256"]
    document["more"] = 1
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    document["sha256"] = codec.sha256_of(canonical)
    sealed = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(CorruptObjectError, match="has no key 'more'; known are project"):
        StoreMarker.from_json(sealed, "key")


def test_the_bytes_of_a_record_stay_as_they_are() -> None:
    assert StoreMarker().to_json() == (
        b'{"kind":"store","project":"svgan-ray","schema":1,'
        b'"sha256":"be25213ead7e32317d023f3f3ac8c95f8f210a4a811461d90906edd44f88f7d5"}'
    )
    assert codec.sha256_of(track_record().to_json()) == (
        "8457e7c654fb25cf2d630878a7d97fdf6f61119ec23fd33e46be6a1817f43a34"
    )


# Keys


@given(NAMES, NAMES, SHA256, st.integers(0, 99999), st.integers(0, 12))
def test_chunk_keys_tell_what_they_name(
    inversion: str, clip: str, sha256: str, number: int, copy: int
) -> None:
    key = keys.copy(keys.chunk(inversion, clip, number, sha256), copy)
    assert key.startswith(keys.chunks(inversion, clip))
    assert keys.chunk_number(key) == number
    assert keys.content_sha256(key) == sha256
    assert keys.owner(key) == keys.commit(inversion, clip)
    assert keys.copy(key, 0) == keys.chunk(inversion, clip, number, sha256)


@given(NAMES, NAMES, st.sampled_from(["none", "many", "0-9_12-70"]), SHA256, st.integers(0, 3))
def test_track_keys_tell_what_they_name(
    tracking: str, video: str, spans: str, sha256: str, copy: int
) -> None:
    outline = f"0123456789abcdef.{spans}"
    key = keys.copy(keys.track_tensors(tracking, video, outline, sha256), copy)
    assert keys.content_sha256(key) == sha256
    assert keys.owner(key) == keys.track(tracking, video)
    assert keys.video_and_outline(key) == (video, outline)


@given(
    st.lists(NAMES, min_size=1, max_size=3),
    SHA256,
    st.lists(NAMES, min_size=1, max_size=3),
    st.integers(0, 3),
)
def test_model_keys_tell_what_they_name(name: list[str], sha256: str, path: list[str], copy: int) -> None:
    model = "/".join(name)
    key = keys.copy(keys.model_file(model, sha256, "/".join(path)), copy)
    assert keys.content_sha256(key) == sha256
    assert keys.owner(key) == keys.model_manifest(model)
    assert keys.model_name(keys.model_manifest(model)) == model
    assert keys.model_name(key) is None


@given(NAMES, NAMES, st.integers(1, 99_999_999))
def test_records_own_nothing_and_name_no_content(name: str, other: str, generation: int) -> None:
    for key in (
        keys.track(name, other), keys.commit(name, other), keys.failure(name, other), keys.basis(name),
        keys.snapshot(name, generation), keys.model_manifest(name), keys.source(name, other), keys.MARKER,
        keys.LOCK,
    ):  # fmt: skip
        assert keys.owner(key) is None
        assert keys.content_sha256(key) is None
    assert keys.snapshot_generation(keys.snapshot(name, generation)) == generation
    assert keys.stem(keys.commit(name, other)) == other


def test_ids_depend_on_all_that_they_are_made_of() -> None:
    ids = {
        keys.clip_id("a", "b", 0, 10),
        keys.clip_id("b", "a", 0, 10),
        keys.clip_id("a", "b", 1, 10),
        keys.clip_id("a", "b", 0, 11),
        keys.source_id("a", 1, "1"),
        keys.source_id("a", 1, "2"),
    }
    assert len(ids) == 6 and all(len(each) == 32 for each in ids)
    assert keys.content_id({"b": 1, "a": [1, 2]}) == keys.content_id({"a": [1, 2], "b": 1})
    assert keys.clip_id("a", "b", 0, 10) == "5aecad154419b6b3530e427200c0a01f"


# Tensors


def test_equal_tensors_give_equal_bytes_in_every_process() -> None:
    program = (
        "from tests.store.samples import *; from svgan_ray.store import codec;"
        "print(codec.sha256_of(codec.encode_chunk(chunk_tensors(), 'x')[0]),"
        "codec.sha256_of(codec.seal_tensors(chunk_tensors())))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
    )
    chunk, _ = codec.encode_chunk(dict(reversed(chunk_tensors().items())), "x")
    sealed = codec.seal_tensors(chunk_tensors())
    assert elsewhere.stdout.split() == [codec.sha256_of(chunk), codec.sha256_of(sealed)]


TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
    st.builds(
        lambda shape, dtype: torch.ones(shape).cumsum(0).to(dtype) if shape else torch.tensor(3).to(dtype),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bool]),
    ),
    max_size=4,
)


@given(TENSORS)
def test_the_bytes_are_those_that_safetensors_itself_writes(tensors: dict[str, torch.Tensor]) -> None:
    data = codec.encode_tensors(tensors)
    assert data == safetensors.torch.save(tensors)
    again = codec.decode_tensors(data, "key")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)


def test_the_bytes_of_a_chunk_stay_as_they_are() -> None:
    tensors = {
        "w_plus": torch.arange(12.0).reshape(2, 2, 3),
        "quad": torch.arange(16.0).reshape(2, 4, 2),
        "time_s": torch.tensor([0.0, 0.04], dtype=torch.float64),
        "error": torch.tensor([0.5, float("nan")]),
        "interpolated": torch.tensor([False, True]),
    }
    data, frames = codec.encode_chunk(tensors, "x")
    assert frames == 2
    assert codec.sha256_of(data) == "6453c480d794ee38e8927baaea4c0ea002037bcee4e4927126ed9ef52bc6b3fc"


@settings(max_examples=200)
@given(st.data())
def test_a_flipped_bit_in_sealed_tensors_is_found(data: st.DataObject) -> None:
    damaged = bytearray(
        codec.seal_tensors({"mean": torch.arange(6.0), "sigma": torch.ones(2, dtype=torch.float64)})
    )
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptObjectError, match="the/key"):
        codec.unseal_tensors(bytes(damaged), "the/key")


@given(st.binary(max_size=64))
def test_anything_else_is_no_tensors(data: bytes) -> None:
    with pytest.raises(CorruptObjectError, match="the/key"):
        codec.unseal_tensors(data, "the/key")
    with pytest.raises(CorruptObjectError, match="the/key"):
        codec.decode_tensors(data, "the/key")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"w_plus": torch.zeros(3, 32)}, r"w_plus is \[3, 32\], expected \[T >= 1, num_ws, w_dim\]"),
        ({"w_plus": torch.zeros(0, 4, 8)}, r"w_plus is \[0, 4, 8\]"),
        ({"quad": torch.zeros(2, 4, 2)}, r"quad is \[2, 4, 2\], expected \[3, 4, 2\]"),
        ({"time_s": torch.zeros(3)}, "time_s does not increase"),
        ({"w_plus": torch.full((3, 4, 8), float("inf"))}, "w_plus holds NaN or infinite"),
        ({"quad": torch.full((3, 4, 2), float("nan"))}, "quad holds NaN"),
        ({"masks": torch.zeros(3)}, "expected the tensors w_plus, quad, time_s, error, interpolated, got"),
    ],
)
def test_chunks_that_no_reader_could_use_are_refused(changes: dict[str, torch.Tensor], named: str) -> None:
    with pytest.raises(DataError, match=named):
        codec.encode_chunk({**chunk_tensors(), **changes}, "chunk 0")
