"""Writers, snapshots and collectors that stop before each call to the backend until a test goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

from svgan_ray.store import LatentStore, UnequalWorkError, select
from svgan_ray.store.backend import Backend, Entry
from tests.store.samples import INVERSION, chunk_tensors, commit_record

DAY_S = 86_400.0
LONGEST_WRITER_S = 5 * DAY_S  # the store's promise holds for writers that stall no longer (grace less a day)
CLIPS = ("aa" * 16, "bb" * 16)
CHUNKS = 2


Work = Callable[[LatentStore], object]


class Killed(BaseException):
    """What a killed process sees instead of an answer."""


class Actor:
    """Work in a thread that stops before each call to the backend."""

    def __init__(self, name: str, backend: Backend, work: Work) -> None:
        self.name = name
        self.elapsed_s = 0.0
        self.result: object = None
        self.error: BaseException | None = None
        self._state = threading.Condition()
        self._waiting = self._may_go_on = self._killed = self._done = False
        store = LatentStore(SteppedBackend(backend, self._gate), "memory")
        self._thread = threading.Thread(target=self._run, args=(work, store), daemon=True)
        self._thread.start()

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()  # a thread left waiting would keep the interpreter from ending

    def step(self) -> bool:
        """Let one call happen; False when the work is done."""
        with self._state:
            self._settle()
            if self._done:
                return False
            self._may_go_on = True
            self._state.notify_all()
            self._state.wait_for(lambda: not self._may_go_on)
            self._settle()
            return not self._done

    def finish(self) -> None:
        while self.step():
            pass

    def kill(self) -> None:
        with self._state:
            self._killed = True
            self._state.notify_all()
        self._thread.join()

    def _settle(self) -> None:
        self._state.wait_for(lambda: self._waiting or self._done)

    def _gate(self) -> None:
        with self._state:
            self._waiting = True
            self._state.notify_all()
            self._state.wait_for(lambda: self._may_go_on or self._killed)
            self._waiting = self._may_go_on = False
            self._state.notify_all()
            if self._killed:
                raise Killed

    def _run(self, work: Work, store: LatentStore) -> None:
        try:
            self.result = work(store)
        except BaseException as error:
            self.error = error
        with self._state:
            self._done = True
            self._state.notify_all()


@dataclass
class SteppedBackend:
    """A backend whose every call, and every page of a listing, passes a gate first."""

    backend: Backend
    gate: Callable[[], None]

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        self.gate()
        return self.backend.get(key, first_byte, stop_byte)

    def put(self, key: str, data: bytes) -> None:
        self.gate()
        self.backend.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.gate()
        return self.backend.put_if_absent(key, data)

    def list(self, prefix: str) -> Iterator[Entry]:
        self.gate()
        for number, entry in enumerate(self.backend.list(prefix), start=1):
            yield entry
            if number % 2 == 0:
                self.gate()

    def stat(self, key: str) -> Entry | None:
        self.gate()
        return self.backend.stat(key)

    def delete(self, key: str) -> None:
        self.gate()
        self.backend.delete(key)


@dataclass
class Clock:
    now_s: float = 1_800_000_000.0

    def time(self) -> float:
        return self.now_s


@dataclass
class Writer:
    """What an inversion does for one clip: use what stands, make the rest, commit."""

    clip: str
    variant: int
    node: str
    work: list[str] = field(default_factory=list)

    def __call__(self, store: LatentStore) -> bool:
        stored = store.stored_chunks(INVERSION, self.clip)
        chunks = [
            stored.get(n) or store.put_chunk(INVERSION, self.clip, n, chunk_tensors(3 * n, 3, self.variant))
            for n in range(CHUNKS)
        ]
        self.work = [chunk.sha256 for chunk in chunks]
        return store.commit(commit_record(chunks, self.clip, self.node))

    def settle(self, store: LatentStore) -> None:
        """Whatever happened before, a clip is there afterwards."""
        with suppress(UnequalWorkError):
            self(store)


def take_snapshot(store: LatentStore) -> None:
    store.put_snapshot(select(store, "all", INVERSION))


@contextmanager
def simulated(clock: Clock) -> Iterator[None]:
    """The store's modules see this clock, and threaded reads come in one order."""
    with ExitStack() as stack:
        for module in ("objects", "collection"):
            stack.enter_context(patch(f"svgan_ray.store.{module}.time", SimpleNamespace(time=clock.time)))
        stack.enter_context(patch("svgan_ray.store.objects._THREADS", 1))
        yield
