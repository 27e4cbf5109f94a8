"""An inversion that loses machines begins again as long as it gets on; Ray's errors are raised by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError

from svgan_ray.config import InvertConfig
from svgan_ray.errors import ClusterError
from svgan_ray.orchestration.invert import job as invert_module
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import Block, Inversion, Item
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.runs import open_run
from svgan_ray.store import open_store
from tests.footage import make_video
from tests.orchestration.invert.plain import config_for, plan_for

VIDEOS = 3
Work = Callable[[], Ledger]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was waited for, a line each time."""
    waits: list[object] = []
    monkeypatch.setattr(invert_module, "await_room", lambda *wanted: waits.append(wanted))
    return waits


@pytest.fixture
def work(weights: Path, work_folder: Path, waits: list[object], monkeypatch: pytest.MonkeyPatch) -> Work:
    """Inverts three videos in this process."""
    for seed in range(VIDEOS):
        make_video(work_folder / "footage" / f"{seed}.mp4", 40, seed)
    store = open_store(work_folder / "store", create=True)
    config = config_for(work_folder / "footage", weights, store)
    plan, job = plan_for(config, store)

    def work() -> Ledger:
        ledger = Ledger(store, job, {})
        with open_run("tests", "losses", "invert", "any") as run:
            invert_module._work_through(config, plan, ledger, run, {"num_cpus": 1})
        return ledger

    return work


def stream_that_ends_after(
    passing: list[int], loss: Exception | None = None
) -> Callable[..., Iterator[Item]]:
    """A stream that works through so many sources, each time it is begun, and then ends, with this loss."""
    left = iter(passing)

    def stream(
        config: InvertConfig, job: Inversion, sources: list[Source], settled: frozenset[str], encoder: object
    ) -> Iterator[Item]:
        encode = BlockEncoder(job, open_store(job.store), "here")
        for source in sources[: next(left)]:
            for item in track_source(job, source, settled):
                yield encode(crop_block(item, job.crop_side)) if isinstance(item, Block) else item
        if loss:
            raise loss

    return stream


def test_losses_between_which_something_is_done_end_no_job(
    work: Work, waits: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passing = [0, 0, 1, 0, 0, 1, 0, 0, 1]
    monkeypatch.setattr(invert_module, "stream", stream_that_ends_after(passing, ActorDiedError()))
    monkeypatch.setattr(invert_module, "run_isolated", lambda *_: (item for item in ()))
    assert len(work().commits) == VIDEOS
    assert waits == [({"num_cpus": 1}, "any")] * 8, "for a machine, before the work begins again"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 8 and all(
        "were lost; the remaining work is planned anew (ActorDiedError: " in s for s in said
    )


def test_losses_without_anything_done_end_in_one_clear_error(
    work: Work, waits: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invert_module, "stream", stream_that_ends_after([2, 0, 0, 0], ActorDiedError()))
    with pytest.raises(
        ClusterError, match=r"lost 3 times in a row .* run the same command again \(ActorDiedError: "
    ):
        work()
    assert len(waits) == 3
    assert len(list((Path("store") / "commits").rglob("*.json"))) == 2, "what was done before stays"


@pytest.mark.parametrize(("passing", "alone"), [([1, 2], []), ([1, 1], [1]), ([1, 0], [2]), ([0], [3])])
def test_what_processes_took_with_them_is_planned_anew_once_and_then_done_alone(
    passing: list[int],
    alone: list[int],
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    streams, by_themselves = stream_that_ends_after(passing), []

    def run_isolated(
        config: InvertConfig, job: Inversion, sources: list[Source], settled: frozenset[str], encoder: object
    ) -> Iterator[Item]:
        by_themselves.extend([len(sources)] if sources else [])
        return stream_that_ends_after([len(sources)])(config, job, sources, settled, encoder)

    monkeypatch.setattr(invert_module, "stream", streams)
    monkeypatch.setattr(invert_module, "run_isolated", run_isolated)
    assert len(work().commits) == VIDEOS
    assert by_themselves == alone
    assert capsys.readouterr().err.count("planned anew") == len(passing) - 1
