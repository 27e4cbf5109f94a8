"""What a person sees of an inversion: lines while it runs, a bar in a terminal, a table at the end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import Block
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.progress import Progress
from svgan_ray.orchestration.invert.report import report_of
from svgan_ray.orchestration.runtime import terminal
from svgan_ray.orchestration.runtime.machines import Processors
from svgan_ray.store import LatentStore
from tests.orchestration.invert.plain import config_for, plan_for, run

MODULE = "svgan_ray.orchestration.invert.progress"


class RecordedRun:
    """The part of a run that a progress bar needs."""

    def __init__(self) -> None:
        self.metrics: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((metrics, step))


@pytest.mark.parametrize("is_terminal", [False, True])
def test_frames_rate_and_clips_are_told_while_they_come(
    footage: Path,
    weights: Path,
    store: LatentStore,
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(force_terminal=is_terminal, width=160, highlight=False)
    monkeypatch.setattr(terminal, "console", lambda *_: console)
    monkeypatch.setattr(terminal, "LOG_EVERY_S", 0.0)
    monkeypatch.setattr(f"{MODULE}.LOG_EVERY_S", 0.0)
    run(config_for(footage / "ben.mp4", weights, store), store)
    config = config_for(footage, weights, store)
    plan, job = plan_for(config, store)
    ledger, encoder, recorded = Ledger(store, job, {}), BlockEncoder(job, store, "here"), RecordedRun()
    of_run: Any = recorded
    with Progress(ledger, of_run) as progress:
        for source in (*plan.todo, *plan.done):
            for item in track_source(job, source, frozenset()):
                ledger.take(encoder(crop_block(item, job.crop_side)) if isinstance(item, Block) else item)
                ledger.settle()
                progress.update()
    out = capsys.readouterr().out
    assert re.search(r"[\d.]+ frames/s, 1 clips done, 1 skipped, 4 failed", out), out
    assert ("━" in out) == is_terminal
    assert ("frames 150 of 150: " in out) != is_terminal
    assert recorded.metrics[-1][0]["frames_done"] == recorded.metrics[-1][1] == 150

    report = report_of(config, plan, ledger, 2.0, Processors(4, "GPU"))
    console.print(report)
    table = capsys.readouterr().out
    for row in (r"videos +6 \(1 done before, 4 failed\)", r"clips committed +1", r"frames per s +75\.0"):
        assert re.search(row, table), table
    assert "1.33 GPU hours for each hour of footage (4 GPUs, start-up included)" in table  # 6 s
    assert report.metrics()["gpu_hours_per_footage_hour"] == pytest.approx(4 / 3)
    assert "audio.mp4" in table and "what to know" in table
