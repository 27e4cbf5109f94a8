"""The page of an inversion: its figures, what failed and why, and the frames that came out worst."""

from __future__ import annotations

from pathlib import PurePosixPath

from svgan_ray.orchestration.inversion.items import Pair
from svgan_ray.orchestration.inversion.report import InvertReport, psnr_text
from svgan_ray.report.page import Html, bullets, page, paragraph, picture, section, side_by_side, table

__all__ = ["report_page"]


def report_page(report: InvertReport, worst: list[Pair]) -> Html:
    """The whole page; `worst` holds the frames with the largest errors, the worst first."""
    return page(
        f"Inversion into {report.store}",
        table(("", ""), report.figures().items()),
        _failures(report),
        _worst_frames(worst),
        *([section("Notes", bullets(report.notes))] if report.notes else []),
    )


def _failures(report: InvertReport) -> Html:
    if not report.failures:
        return section("Failures", paragraph("None."))
    advice = "The other videos are not touched by these. `--retry-failures` tries them again."
    rows = [(f.uri, f.stage, f.reason, str(f.attempts), f.message) for f in report.failures]
    header = ("video", "stage", "reason", "attempts", "what to know")
    return section("Failures", paragraph(advice), table(header, rows))


def _worst_frames(worst: list[Pair]) -> Html:
    if not worst:
        return section("Worst frames", paragraph("No frame was measured in this run."))
    text = (
        "The frame with the largest reconstruction error of each of the worst blocks that this run encoded: "
        "on the left as the encoder saw it, on the right what the generator makes of its latents."
    )
    return section("Worst frames", paragraph(text), side_by_side(*map(_pair, worst)))


def _pair(pair: Pair) -> Html:
    side = pair.pixels.shape[2]
    beside = pair.pixels.swapaxes(0, 1).reshape(side, 2 * side, 3)  # [2, S, S, 3] -> [S, 2 S, 3]
    return picture(beside, f"{PurePosixPath(pair.uri).name}, frame {pair.frame}: {psnr_text(pair.error)}")
