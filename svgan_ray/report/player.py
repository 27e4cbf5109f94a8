"""Generated frames that play inside a page."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from svgan_ray.report.page import Html, embedded_video
from svgan_ray.video.writing import SYNTHETIC_TAGS, write_video

__all__ = ["player"]


def player(frames: npt.NDArray[np.uint8], rate_hz: float, caption: str) -> Html:
    """Frames [T, H, W, 3] as a looping video, marked as synthetic."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frames.mp4")
        write_video(path, frames, rate_hz, SYNTHETIC_TAGS)
        return embedded_video(path.read_bytes(), caption)
