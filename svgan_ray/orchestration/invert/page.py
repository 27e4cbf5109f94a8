"""The page of an inversion: figures, what failed and why, faces, frames beside what their latents give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from svgan_ray.orchestration.invert.items import Pair, Tracked
from svgan_ray.orchestration.invert.report import InvertReport, psnr_text
from svgan_ray.report.page import Html, bullets, page, paragraph, picture, section, side_by_side, table
from svgan_ray.video.face_report import FaceReport

__all__ = ["report_page"]


def report_page(
    report: InvertReport, most_jittery: Sequence[Tracked], typical: Sequence[Pair], worst: Sequence[Pair]
) -> Html:
    """The whole page.

    `most_jittery` holds videos with sheets of crops, the largest jitter first; `typical` holds one frame of
    each of some videos; `worst` holds the frames with the largest errors, the largest first.
    """
    return page(
        f"{'Tracks' if report.tracks_only else 'Inversion'} into {report.store}",
        table(("", ""), report.summary().items()),
        _failures(report),
        _faces(report, most_jittery),
        _frames("Typical frames", _TYPICAL, typical),
        _frames("Worst frames", _WORST, worst),
        *([section("Notes", bullets(report.notes))] if report.notes else []),
    )


def _failures(report: InvertReport) -> Html:
    if not report.failures:
        return section("Failures", paragraph("None."))
    advice = "These failures do not affect the other videos. `--retry-failures` tries the failed ones again."
    rows = [(f.uri, f.stage, f.reason, str(f.attempts), f.message) for f in report.failures]
    header = ("video", "stage", "reason", "attempts", "what to know")
    return section("Failures", paragraph(advice), table(header, rows))


def _faces(report: InvertReport, most_jittery: Sequence[Tracked]) -> Html:
    if not report.faces:
        return section("Faces", paragraph("No video was tracked in this run."))
    text = (
        "The table lists each video that this run tracked. Gaps of a few frames are interpolated; frames in "
        "longer gaps are skipped. Jitter is the root mean square of the second difference along time of the "
        "crop's corners, in percent of its side: as the landmarks give it → as it is cropped."
    )
    header = (
        "video",
        "frames",
        "with a face",
        "faces",
        "people",
        "followed",
        "clips",
        "gaps",
        "skipped",
        "jitter",
    )
    sheets = [
        picture(item.sheet, f"{PurePosixPath(item.source.uri).name}: crops from its first frame to its last")
        for item in most_jittery
        if item.sheet is not None
    ]
    shown = (
        "These are crops, the videos with the most jitter first. Check that they always show the same "
        "person, upright and in the middle."
    )
    rows = [_face_row(uri, faces) for uri, faces in report.faces.items()]
    return section("Faces", paragraph(text), table(header, rows), paragraph(shown), *sheets)


def _face_row(uri: str, faces: FaceReport) -> tuple[str, ...]:
    return (
        PurePosixPath(uri).name,
        f"{faces.frames:,}",
        f"{faces.frames_with_face:,}",
        f"{faces.faces:,}",
        str(faces.people),
        str(faces.followed),
        str(faces.clips),
        f"{faces.gaps} ({faces.gap_frames} frames)" if faces.gaps else "none",
        f"{faces.skipped_frames:,}",
        f"{_percent(faces.found_jitter)} → {_percent(faces.crop_jitter)}",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


_TYPICAL = (
    "One frame of each of the first videos, the one with the median error of its block: on the left as the "
    "encoder saw it, on the right as the generator renders its latents."
)
_WORST = "This is the frame with the largest error of each of the worst blocks that this run encoded."


def _frames(heading: str, text: str, pairs: Sequence[Pair]) -> Html:
    if not pairs:
        return section(heading, paragraph("No frame was measured in this run."))
    return section(heading, paragraph(text), side_by_side(*map(_pair, pairs)))


def _pair(pair: Pair) -> Html:
    side = pair.pixels.shape[2]
    beside = pair.pixels.swapaxes(0, 1).reshape(side, 2 * side, 3)  # [2, S, S, 3] -> [S, 2 S, 3]
    return picture(beside, f"{PurePosixPath(pair.uri).name}, frame {pair.frame}: {psnr_text(pair.error)}")
