"""Actors stopped, resumed and killed between any two calls to the backend.

Hypothesis chooses the orders of many actors; of two, all orders with two switches are run.
"""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from svgan_ray.errors import StoreError
from svgan_ray.store import CommitRecord, LatentStore, UnequalWorkError, keys
from svgan_ray.store.collection import GRACE_S, collect
from svgan_ray.store.verification import verify
from tests.store.actors import (
    CHUNKS,
    CLIPS,
    DAY_S,
    LONGEST_WRITER_S,
    Actor,
    Clock,
    Work,
    Writer,
    simulated,
    take_snapshot,
)
from tests.store.memory import MemoryBackend
from tests.store.samples import INVERSION, chunk_tensors


def leave_old_chunks(store: LatentStore, clock: Clock, clip: str, variant: int = 0) -> None:
    """What a writer leaves that was killed before its commit, so long ago that a collector may take it."""
    for n in range(CHUNKS):
        store.put_chunk(INVERSION, clip, n, chunk_tensors(3 * n, 3, variant))
    clock.now_s += GRACE_S + DAY_S


def read_all(store: LatentStore) -> None:
    """What a reader sees is whole: all chunks of a clip, each as some writer made it."""
    for clip_id in sorted(store.committed_ids(INVERSION)):
        clip = store.read_clip(INVERSION, clip_id)
        assert clip.frames == 3 * CHUNKS
        for n in range(CHUNKS):
            got = clip.w_plus[3 * n : 3 * n + 3]
            assert any(torch.equal(got, chunk_tensors(3 * n, 3, v)["w_plus"]) for v in (0, 1))


def check_told(store: LatentStore, writer: Writer, actor: Actor) -> None:
    """A writer that ended was told the truth: its work stands, or other work stood before."""
    standing = store.get_commit(INVERSION, writer.clip)
    assert standing is not None
    same = [chunk.sha256 for chunk in standing.chunks] == writer.work
    if isinstance(actor.error, UnequalWorkError):
        assert not same
    elif actor.error is not None:
        raise actor.error
    else:
        assert same
        assert (standing.node == writer.node) == bool(actor.result)


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
        self.simulation = simulated(self.clock)
        self.simulation.__enter__()

    def teardown(self) -> None:
        if not hasattr(self, "simulation"):
            return
        try:
            for actor in list(self.actors):
                actor.finish()
                self.leave(actor)
            self.nothing_named_is_lost()
            self.check_readers()
            assert verify(self.store, deep=True).problems == []
            self.check_that_work_goes_on()
        finally:
            for actor in self.actors:
                actor.kill()
            self.simulation.__exit__(None, None, None)

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
        if clip not in self.committed and not self.actors:
            self.variants[clip].add(variant)
            leave_old_chunks(self.store, self.clock, clip, variant)

    @rule()
    def start_reader(self) -> None:
        self.actors.append(Actor("reader", self.backend, read_all))

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

    @rule(data=st.data())
    def flip_a_bit(self, data: st.DataObject) -> None:
        """Whatever is going on, a thorough look names the damaged object."""
        key = data.draw(st.sampled_from(sorted(self.backend.objects) or [""]))
        if not key:
            return
        content, modified_s = self.backend.objects[key]
        damaged = bytearray(content)
        bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
        damaged[bit // 8] ^= 1 << bit % 8
        self.backend.objects[key] = (bytes(damaged), modified_s)
        assert key in {problem.key for problem in verify(self.store, deep=True).problems}
        self.backend.objects[key] = (content, modified_s)

    @invariant()
    def nothing_named_is_lost(self) -> None:
        """A commit never changes or goes, and what it names stands: seen below the store, which is quick."""
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
        read_all(self.store)
        latest = self.store.latest_snapshot("all")
        for generation in range(1, latest.generation + 1 if latest else 1):
            snapshot = self.store.get_snapshot("all", generation)
            assert snapshot is not None
            assert len(list(self.store.snapshot_clips(snapshot))) == len(snapshot.clips)

    def leave(self, actor: Actor) -> None:
        self.actors.remove(actor)
        if actor.name == "reader" and actor.error is not None:
            raise actor.error
        if actor not in self.writers:
            assert actor.error is None or isinstance(actor.error, StoreError) or actor.name == "snapshot"
            return
        writer = self.writers[actor]
        check_told(self.store, writer, actor)
        if isinstance(actor.error, UnequalWorkError):
            assert len(self.variants[writer.clip]) > 1
        elif actor.result:
            assert self.created.setdefault(writer.clip, writer.node) == writer.node

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


WRITER = Writer(CLIPS[0], 0, "node-1")
EQUAL_WRITER = Writer(CLIPS[0], 0, "node-2")
OTHER_WRITER = Writer(CLIPS[0], 1, "node-3")
COLLECTOR = partial(collect, dry_run=False)
ORDERS: dict[str, tuple[Work, Work, bool]] = {  # first, second, whether the first dies in the middle
    "a collector while a writer commits": (COLLECTOR, WRITER, False),
    "a killed collector": (COLLECTOR, WRITER, True),
    "a writer while a collector works": (WRITER, COLLECTOR, False),
    "a killed writer": (WRITER, OTHER_WRITER, True),
    "equal writers": (WRITER, EQUAL_WRITER, False),
    "unequal writers": (WRITER, OTHER_WRITER, False),
    "two collectors": (COLLECTOR, COLLECTOR, False),
}


@pytest.mark.parametrize("order", ORDERS)
def test_all_orders_with_two_switches(order: str) -> None:
    """The first makes i calls, the second j; then the first ends or dies, then the second ends."""
    first, second, dies = ORDERS[order]
    for i in count():
        for j in count():
            made_i, made_j = run_in_order(first, second, i, j, dies)
            if not made_j:
                break
        if not made_i:
            break
    assert i > 5


def run_in_order(first: Work, second: Work, i: int, j: int, dies: bool) -> tuple[bool, bool]:
    """Whether the first had i calls to make, and the second j."""
    clock = Clock()
    backend = MemoryBackend(clock.time)
    store = LatentStore(backend, "memory")
    with simulated(clock):
        if COLLECTOR in (first, second):
            leave_old_chunks(store, clock, CLIPS[0])
        with Actor("first", backend, first) as one, Actor("second", backend, second) as other:
            made_i = all(one.step() for _ in range(i))
            made_j = all(other.step() for _ in range(j))
            if dies:
                one.kill()
            else:
                one.finish()
            other.finish()
        read_all(store)
        for actor, work in ((one, first), (other, second)):
            if isinstance(work, Writer) and not (dies and actor is one):
                check_told(store, work, actor)
        assert sum(actor.result is True for actor in (one, other)) <= 1
        Writer(CLIPS[0], 0, "node-9").settle(store)
        assert store.committed_ids(INVERSION) == {CLIPS[0]}
    return made_i, made_j
