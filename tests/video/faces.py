"""What tests of mediapipe share: a photograph that matplotlib, which comes along, ships; a `.task` file."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

has_mediapipe = importlib.util.find_spec("mediapipe") is not None
needs_mediapipe = pytest.mark.skipif(not has_mediapipe, reason="needs the extra `face`")


def photograph() -> Image.Image:
    """Rear Admiral Grace Hopper, 512 x 600, a work of the US Navy."""
    import matplotlib

    return Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")


def scene(places: list[tuple[int, int, int]], width: int = 960, height: int = 540) -> np.ndarray:
    """A grey frame with the photograph at (left, top, height) each."""
    frame = Image.new("RGB", (width, height), (90, 100, 110))
    for left, top, tall in places:
        frame.paste(photograph().resize((round(tall * 512 / 600), tall)), (left, top))
    return np.asarray(frame)


def make_task(path: Path) -> Path:
    """A `.task` file made of the models in mediapipe's own wheel.

    It runs, but the wheel's mesh has 468 points where such files have 478: its numbers mean nothing.
    """
    import mediapipe

    modules = Path(mediapipe.__file__).parent / "modules"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        detector = modules / "face_detection" / "face_detection_short_range.tflite"
        bundle.write(detector, "face_detector.tflite")
        bundle.write(modules / "face_landmark" / "face_landmark.tflite", "face_landmarks_detector.tflite")
    return path
