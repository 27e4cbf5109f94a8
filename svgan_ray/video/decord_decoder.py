"""The decord decoder, for files on which it is installed and agrees with the container about every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecordDecoder", "DecordUnfitError"]

_TIME_TOLERANCE_S = 1e-4  # decord's times are float32


class DecordUnfitError(Exception):
    """decord is absent, cannot read a file, or reads it otherwise than its container says."""


class DecordDecoder:
    """An open video file of which frames [T, height, width, 3] at `time_s` [T] are expected."""

    name = "decord"

    def __init__(self, path: Path, time_s: NDArray[np.float64], height: int, width: int) -> None:
        self._shape = (height, width, 3)
        self._reader = _open(path)
        try:
            seen_s = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0]
        except Exception as error:
            raise DecordUnfitError(str(error)) from error
        if len(seen_s) != len(time_s):
            raise DecordUnfitError(f"{len(seen_s)} frames instead of {len(time_s)}")
        if not np.allclose(seen_s - seen_s[0], time_s, rtol=1e-6, atol=_TIME_TOLERANCE_S):
            raise DecordUnfitError("frames at other times")

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames start ... stop - 1 as [n, height, width, 3]."""
        try:
            pixels: NDArray[np.uint8] = self._reader.get_batch(range(start, stop)).asnumpy()
        except Exception as error:  # decord raises its own DECORDError, RuntimeError and others
            raise DecordUnfitError(str(error)) from error
        if pixels.shape != (stop - start, *self._shape):
            raise DecordUnfitError(f"frames of {pixels.shape[1:]} instead of {self._shape}")
        return pixels


def _open(path: Path) -> Any:
    try:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        return decord.VideoReader(str(path), num_threads=1)
    except Exception as error:
        raise DecordUnfitError(str(error)) from error
