"""Writers, snapshots and collectors stopped, resumed and killed between any two calls to the backend.

Every actor runs in a thread of its own that waits before each call until the state machine lets it go on, so that
hypothesis chooses the order of all calls, shrinks a failing one, and can repeat it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from svgan_ray.errors import StoreError
from svgan_ray.store import CommitRecord, LatentStore, UnequalWorkError, keys, select
from svgan_ray.store.backend import Backend, Entry
from svgan_ray.store.collection import GRACE_S, collect
from svgan_ray.store.verification import verify
from tests.store.memory import MemoryBackend
from tests.store.samples import INVERSION, chunk_tensors, commit_record

DAY_S = 86_400.0
LONGEST_WRITER_S = (
    5 * DAY_S
)  # the store's promise holds for writers that stall no longer than the grace less a day
CLIPS = ("aa" * 16, "bb" * 16)
CHUNKS = 2


class Killed(BaseException):
    """What a killed process sees instead of an answer."""


class Actor:
    """Work in a thread that stops before each call to the backend."""

    def __init__(self, name: str, backend: Backend, work: Callable[[LatentStore], object]) -> None:
        self.name = name
        self.elapsed_s = 0.0
        self.result: object = None
        self.error: BaseException | None = None
        self._state = threading.Condition()
        self._waiting = self._may_go_on = self._killed = self._done = False
        store = LatentStore(SteppedBackend(backend, self._gate), "memory")
        self._thread = threading.Thread(target=self._run, args=(work, store), daemon=True)
        self._thread.start()

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

    def _run(self, work: Callable[[LatentStore], object], store: LatentStore) -> None:
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


def take_snapshot(store: LatentStore) -> None:
    store.put_snapshot(select(store, "all", INVERSION))


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.clock = Clock()
        self.backend = MemoryBackend(self.clock.time)
        self.store = LatentStore(self.backend, "memory")
        self.actors: list[Actor] = []
        self.writers: dict[Actor, Writer] = {}
        self.variants: dict[str, set[int]] = {clip: set() for clip in CLIPS}
        self.created: dict[str, str] = {}  # clip -> node of the writer that was told "created"
        self.committed: dict[str, CommitRecord] = {}
        self.count = 0
        self.patches = [
            patch(f"svgan_ray.store.{module}.time", SimpleNamespace(time=self.clock.time))
            for module in ("objects", "latent_store", "collection")
        ]
        self.patches.append(patch("svgan_ray.store.objects._THREADS", 1))  # calls in one order
        for each in self.patches:
            each.start()

    def teardown(self) -> None:
        if not hasattr(self, "patches"):
            return
        try:
            for actor in list(self.actors):
                self.finish(actor)
            self.nothing_named_is_lost()
            self.check_readers()
            assert verify(self.store, deep=True).problems == []
            self.check_that_work_goes_on()
        finally:
            for actor in self.actors:
                actor.kill()
            for each in self.patches:
                each.stop()

    @rule(clip=st.sampled_from(CLIPS), variant=st.sampled_from((0, 0, 1)))
    def start_writer(self, clip: str, variant: int) -> None:
        self.count += 1
        writer = Writer(clip, variant, f"node-{self.count}")
        self.variants[clip].add(variant)
        actor = Actor(writer.node, self.backend, writer)
        self.writers[actor] = writer
        self.actors.append(actor)

    @rule(clip=st.sampled_from(CLIPS), variant=st.sampled_from((0, 1)))
    def find_leftovers(self, clip: str, variant: int) -> None:
        """A writer was killed before its commit, so long ago that a collector may take its chunks."""
        if clip not in self.committed and not self.actors:
            self.variants[clip].add(variant)
            for n in range(CHUNKS):
                self.store.put_chunk(INVERSION, clip, n, chunk_tensors(3 * n, 3, variant))
            self.clock.now_s += GRACE_S + DAY_S

    @rule()
    def start_snapshot(self) -> None:
        self.actors.append(Actor("snapshot", self.backend, take_snapshot))

    @rule()
    def start_collector(self) -> None:
        alone = not any(actor.name == "collector" for actor in self.actors)  # else its lock must hold
        work = partial(collect, dry_run=False, break_lock=alone)
        self.actors.append(Actor("collector", self.backend, work))

    @rule(index=st.integers(0, 99), steps=st.integers(1, 8))
    def advance(self, index: int, steps: int) -> None:
        if self.actors:
            actor = self.actors[index % len(self.actors)]
            if not all(actor.step() for _ in range(steps)):
                self.leave(actor)

    @rule(index=st.integers(0, 99))
    def kill(self, index: int) -> None:
        if self.actors:
            actor = self.actors.pop(index % len(self.actors))
            actor.kill()

    @rule(days=st.sampled_from((0.4, 1.2, 3.0, 8.0)))
    def wait(self, days: float) -> None:
        if all(actor.elapsed_s + days * DAY_S <= LONGEST_WRITER_S for actor in self.actors):
            self.clock.now_s += days * DAY_S
            for actor in self.actors:
                actor.elapsed_s += days * DAY_S

    @invariant()
    def nothing_named_is_lost(self) -> None:
        """A commit never changes or goes, and what it names stands (looked up below the store, as it is quick)."""
        for key, (data, _) in self.backend.objects.items() if hasattr(self, "backend") else ():
            if key.startswith("commits/"):
                record = self.committed.get(keys.stem(key)) or CommitRecord.from_json(data, key)
                assert self.committed.setdefault(record.clip_id, record).to_json() == data
        for record in self.committed.values() if hasattr(self, "backend") else ():
            assert keys.commit(INVERSION, record.clip_id) in self.backend.objects
            assert all(chunk.key in self.backend.objects for chunk in record.chunks)

    def check_readers(self) -> None:
        """Whoever reads sees whole clips or nothing."""
        assert self.store.committed_ids(INVERSION) == set(self.committed)
        for clip_id in self.committed:
            clip = self.store.read_clip(INVERSION, clip_id)
            for n in range(CHUNKS):
                got = clip.w_plus[3 * n : 3 * n + 3]
                assert any(torch.equal(got, chunk_tensors(3 * n, 3, v)["w_plus"]) for v in (0, 1))
        head = self.store.head_snapshot("all")
        for generation in range(1, head.generation + 1 if head else 1):
            snapshot = self.store.get_snapshot("all", generation)
            assert snapshot is not None
            assert len(list(self.store.snapshot_clips(snapshot))) == len(snapshot.clips)

    def finish(self, actor: Actor) -> None:
        while actor.step():
            pass
        self.leave(actor)

    def leave(self, actor: Actor) -> None:
        self.actors.remove(actor)
        if actor not in self.writers:
            assert actor.error is None or isinstance(actor.error, StoreError) or actor.name == "snapshot"
            return
        writer = self.writers[actor]
        standing = self.store.get_commit(INVERSION, writer.clip)
        same = standing is not None and [chunk.sha256 for chunk in standing.chunks] == writer.work
        if isinstance(actor.error, UnequalWorkError):
            assert standing is not None and not same
            assert len(self.variants[writer.clip]) > 1
        elif actor.error is None:
            assert same
            if actor.result:
                assert self.created.setdefault(writer.clip, writer.node) == writer.node
        else:
            raise actor.error

    def check_that_work_goes_on(self) -> None:
        """After any history a new writer succeeds, and a collection leaves just what is named."""
        for clip in CLIPS:
            if clip not in self.committed:
                assert Writer(clip, 0, "last")(self.store)
        self.clock.now_s += GRACE_S + DAY_S
        collect(self.store, dry_run=False, break_lock=True)
        named = {chunk.key for record in self.store.commits(INVERSION) for chunk in record.chunks}
        assert {entry.key for entry in self.backend.list("chunks/")} == named
        assert self.backend.stat(keys.LOCK) is None


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
