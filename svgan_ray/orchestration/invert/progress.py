"""A progress bar in the terminal, a line every 15 s in a log, and the same numbers on the run's page."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.runtime.terminal import LOG_EVERY_S, LoggedProgress, plain_column
from svgan_ray.runs import Run

__all__ = ["Progress"]


class Progress:
    """Shows a ledger while it fills."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self._ledger = ledger
        self._run = run
        columns = (
            plain_column("frames"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            plain_column("{task.description}"),
        )
        self._bar = LoggedProgress(*columns)
        self._task = self._bar.add_task("starting", total=None)
        self._began_s = self._reported_s = time.monotonic()

    def update(self) -> None:
        """Show the ledger as it is now."""
        ledger, now_s = self._ledger, time.monotonic()
        done = ledger.encoded_frames + ledger.reused_frames
        frames_per_s = ledger.encoded_frames / (now_s - self._began_s)
        if ledger.job.tracks_only:
            text = f"{len(ledger.tracked)} videos tracked, {len(ledger.failures)} failed"
        else:
            text = (
                f"{frames_per_s:.1f} frames/s, {len(ledger.commits)} clips done, "
                f"{ledger.skipped_clips} skipped, {len(ledger.failures)} failed"
            )
        self._bar.update(
            self._task, completed=done, total=max(ledger.open_frames, done) or None, description=text
        )
        known = f" of {ledger.open_frames:,}" if ledger.open_frames >= done else ""
        self._bar.log_line(f"frames {done:,}{known}: {text}")
        if now_s - self._reported_s < LOG_EVERY_S:
            return
        self._reported_s = now_s
        self._run.log_metrics({"frames_done": done, "frames_per_s": frames_per_s}, step=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
