"""One suite that every backend passes: the test's own model, a folder, moto, and a real S3 server."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from svgan_ray.store.backend import Backend, ObjectNotFoundError
from tests.store.conftest import S3_PLACES

pytestmark = pytest.mark.parametrize("place", ["memory", "folder", *S3_PLACES])

KEYS = ("a-b", "a.json", "a/b-c", "a/b/c.json", "a/b0", "a0", "b/c")


def test_what_is_put_is_got(backend: Backend) -> None:
    backend.put("a/b", b"first")
    backend.put("a/b", b"second")
    backend.put("empty", b"")
    assert backend.get("a/b") == b"second"
    assert backend.get("empty") == b""
    with pytest.raises(ObjectNotFoundError, match="a/c"):
        backend.get("a/c")
    with pytest.raises(ObjectNotFoundError):
        backend.get("a")  # a folder is no object


def test_ranges(backend: Backend) -> None:
    backend.put("a", b"0123456789")
    assert backend.get("a", 2, 5) == b"234"
    assert backend.get("a", 7) == b"789"
    assert backend.get("a", 0, 99) == b"0123456789"
    assert backend.get("a", 10) == b""
    assert backend.get("a", 5, 5) == b""


def test_the_first_put_if_absent_wins(backend: Backend) -> None:
    assert backend.put_if_absent("a/b", b"first")
    assert not backend.put_if_absent("a/b", b"second")
    assert backend.get("a/b") == b"first"
    backend.delete("a/b")
    assert backend.put_if_absent("a/b", b"third")


def test_one_of_racing_writers_wins(backend: Backend) -> None:
    writers = 8
    together = threading.Barrier(writers)

    def write(number: int) -> list[int]:
        won = []
        for attempt in range(5):
            together.wait()
            if backend.put_if_absent(f"race/{attempt}", str(number).encode() * 1000):
                won.append(attempt)
        return won

    with ThreadPoolExecutor(writers) as pool:
        wins = list(pool.map(write, range(writers)))
    assert sorted(attempt for won in wins for attempt in won) == list(range(5))
    for number, won in enumerate(wins):
        assert all(backend.get(f"race/{attempt}") == str(number).encode() * 1000 for attempt in won)


def test_lists_in_the_order_of_keys(backend: Backend) -> None:
    for key in reversed(KEYS):
        backend.put(key, key.encode())
    for prefix in ("", "a", "a/", "a/b", "a/b/", "b", "zz", "a/b/c.json"):
        listed = [(entry.key, entry.size_bytes) for entry in backend.list(prefix)]
        assert listed == [(key, len(key)) for key in KEYS if key.startswith(prefix)]


def test_lists_more_than_a_page(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svgan_ray.store.s3._PAGE_OBJECTS", 7)
    keys = [f"many/{number:04d}" for number in range(30)]
    for key in keys:
        backend.put(key, b"x")
    assert [entry.key for entry in backend.list("many/")] == keys


def test_stat_tells_size_and_time(backend: Backend) -> None:
    before_s = time.time()
    backend.put("a/b", b"12345")
    entry = backend.stat("a/b")
    assert entry is not None
    assert (entry.key, entry.size_bytes) == ("a/b", 5)
    assert before_s - 2 <= entry.modified_s <= time.time() + 2
    assert entry == next(backend.list("a/b"))
    assert backend.stat("a/c") is None
    assert backend.stat("a/b/c") is None


def test_delete_takes_one_object_and_forgives(backend: Backend) -> None:
    backend.put("a/b", b"1")
    backend.put("a/bc", b"2")
    backend.delete("a/b")
    backend.delete("a/b")
    backend.delete("a/bc/d")
    assert [entry.key for entry in backend.list("")] == ["a/bc"]
