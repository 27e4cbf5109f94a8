"""The report of an inversion: a table, a picture of reconstructions, and scores for the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.items import Pair
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.plan import Plan
from svgan_ray.orchestration.runtime.machines import Processors
from svgan_ray.store import FailureRecord
from svgan_ray.video.face_report import FaceReport
from svgan_ray.video.footage_facts import FootageFacts, conversions
from svgan_ray.video.pictures import film_strip

__all__ = ["InvertReport", "psnr_text", "reconstruction_sheet", "report_of"]


@dataclass(frozen=True)
class InvertReport:
    """The outcome of one run of the job; `failures` are this run's and those of earlier runs that remain."""

    store: str
    tracking_id: str
    inversion_id: str
    videos: int
    videos_to_do: int
    videos_done_before: int
    clips_committed: int
    clips_skipped: int
    frames_encoded: int
    frames_reused: int
    frames_skipped: int
    mean_error: float | None
    duration_s: float
    failures: tuple[FailureRecord, ...]
    notes: tuple[str, ...]
    max_failure_fraction: float
    encoded_s: float = 0.0
    """Length of the footage that this run encoded."""
    processors: Processors | None = None
    """The processors in use when the run ended."""
    faces: dict[str, FaceReport] = field(default_factory=dict)
    """By uri, the faces of the videos that this run tracked."""
    clips_tracked: int = 0
    tracks_only: bool = False
    footage: dict[str, FootageFacts] = field(default_factory=dict)
    """By uri, the facts of this run's videos that were converted, mended or damaged."""

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to do."""
        return self.videos_to_do == 0

    @property
    def failed_videos(self) -> int:
        """Number of videos of which a part failed."""
        return len({failure.uri for failure in self.failures})

    @property
    def frames_per_s(self) -> float:
        """Encoded frames divided by the whole duration, start-up included."""
        return self.frames_encoded / self.duration_s if self.duration_s else 0.0

    @property
    def hours_per_hour(self) -> float | None:
        """GPU or core hours for each hour of footage, start-up included; None if no footage was encoded."""
        if self.processors is None or not self.encoded_s:
            return None
        return self.processors.number * self.duration_s / self.encoded_s

    @property
    def exit_code(self) -> int:
        """1 if more than max_failure_fraction of the videos failed."""
        return int(self.failed_videos > self.max_failure_fraction * self.videos)

    def metrics(self) -> dict[str, float]:
        """The scores of the whole run."""
        summary = {
            "clips_committed": self.clips_committed,
            "clips_skipped": self.clips_skipped,
            "frames_encoded": self.frames_encoded,
            "frames_reused": self.frames_reused,
            "frames_skipped": self.frames_skipped,
            "videos_failed": self.failed_videos,
            "duration_s": self.duration_s,
            "frames_per_s": self.frames_per_s,
        }
        if self.mean_error is not None:
            summary["mean_reconstruction_error"] = self.mean_error
        if self.processors and self.hours_per_hour is not None:
            summary[f"{self.processors.unit.lower()}_hours_per_footage_hour"] = self.hours_per_hour
        return summary

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._summary()]
        if self.failures:
            parts.append(_failure_table(self.failures))
        return Group(*parts, *self.notes)

    def _summary(self) -> RenderableType:
        if self.is_idle:
            failed = f", {self.failed_videos} failed before (--retry-failures tries again)"
            done = f"{self.videos_done_before} of {self.videos} videos are in {self.store} already"
            return f"nothing to do: {done}{failed if self.failures else ''}"
        table = Table(box=None, show_header=False)
        for name, value in self.summary().items():
            table.add_row(name, value)
        return table

    def summary(self) -> dict[str, str]:
        """The closing table."""
        if self.tracks_only:
            return self._tracking_summary()
        return {
            "videos": f"{self.videos} ({self.videos_done_before} done before, {self.failed_videos} failed)",
            "clips committed": str(self.clips_committed),
            "clips skipped": f"{self.clips_skipped} (done before, or failed before and left alone)",
            "failures": str(len(self.failures)),
            "frames encoded": f"{self.frames_encoded:,} in {self.duration_s:.0f} s",
            "frames per s": f"{self.frames_per_s:.1f} (start-up included)",
            "cost": self._cost(),
            "frames reused": f"{self.frames_reused:,} (encoded by a run that was cut off)",
            "frames skipped": f"{self.frames_skipped:,} (no face, damaged, or in too short a clip)",
            "files converted": conversions(self.footage.values()),
            "files damaged": str(sum(1 for facts in self.footage.values() if facts.damaged_frames)),
            "files with mended times": str(sum(1 for facts in self.footage.values() if facts.mends)),
            "reconstruction": psnr_text(self.mean_error),
            "store": self.store,
            "inversion": self.inversion_id,
            "page": "invert_report.html among the run's artifacts: failures, faces, reconstructions",
        }

    def _tracking_summary(self) -> dict[str, str]:
        return {
            "videos": f"{self.videos} ({self.videos_done_before} done before, {self.failed_videos} failed)",
            "clips tracked": f"{self.clips_tracked} in {self.duration_s:.0f} s",
            "failures": str(len(self.failures)),
            "frames skipped": f"{self.frames_skipped:,} (no face)",
            "store": self.store,
            "tracking": self.tracking_id,
            "next": "jobs/fit.py fits weights to whom the footage shows; jobs/invert.py makes latents",
        }

    def _cost(self) -> str:
        if self.processors is None or self.hours_per_hour is None:
            return "nothing was encoded"
        number, unit = self.processors
        there = f"{number:g} {unit}{'' if number == 1 else 's'}, start-up included"
        return f"{self.hours_per_hour:.2f} {unit} hours for each hour of footage ({there})"


def report_of(
    config: InvertConfig, plan: Plan, ledger: Ledger, duration_s: float, processors: Processors | None = None
) -> InvertReport:
    """The report of a ledger that is complete."""
    job = ledger.job
    footage = {
        uri: item.footage for uri, item in sorted(ledger.tracked.items()) if item.footage != FootageFacts()
    }
    notes = [f"{uri}: {sentence}" for uri, facts in footage.items() for sentence in facts.sentences()]
    notes += [
        f"{source.uri} keeps the subject that it was first inverted with; "
        + (f"--subject {config.subject} changes nothing" if config.subject else f"it is not {source.label}")
        for source in plan.relabelled
    ]
    notes += plan.notes()
    return InvertReport(
        store=job.store,
        tracking_id=job.tracking_id,
        inversion_id=job.inversion_id,
        videos=len(plan.todo) + len(plan.done) + len(plan.failed),
        videos_to_do=len(plan.todo),
        videos_done_before=len(plan.done),
        clips_committed=len(ledger.commits),
        clips_skipped=ledger.skipped_clips,
        frames_encoded=ledger.encoded_frames,
        frames_reused=ledger.reused_frames,
        frames_skipped=sum(item.skipped_frames for item in ledger.tracked.values()),
        mean_error=ledger.mean_error,
        duration_s=duration_s,
        failures=(*plan.failed.values(), *ledger.failures.values()),
        notes=(*notes, *ledger.unequal),
        max_failure_fraction=config.max_failure_fraction,
        encoded_s=ledger.encoded_s,
        processors=processors,
        faces={uri: item.faces for uri, item in sorted(ledger.tracked.items()) if item.faces},
        clips_tracked=sum(item.clips for item in ledger.tracked.values()),
        tracks_only=job.tracks_only,
        footage=footage,
    )


def reconstruction_sheet(pairs: Sequence[Pair]) -> npt.NDArray[np.uint8]:
    """Crops in the upper row, their reconstructions below: [H, W, 3]."""
    rows = np.stack([pair.pixels for pair in pairs], axis=1)  # [2, N, S, S, 3]
    return film_strip(list(rows), len(pairs), ["footage", "reconstruction"])


def psnr_text(error: float | None) -> str:
    return (
        "not measured"
        if error is None
        else f"error {error:.4f} ({-20 * math.log10(max(error, 1e-6)):.1f} dB)"
    )


def _failure_table(failures: tuple[FailureRecord, ...]) -> Table:
    table = Table("failed", "stage", "reason", "what to know", box=None)
    for failure in failures:
        table.add_row(failure.uri, failure.stage, failure.reason, failure.message)
    return table
