"""HDR pictures (HLG and PQ of ITU-R BT.2100) as BT.709 SDR: light, gamut, the Möbius operator, BT.1886.

Light is that of BT.2100's display of 1000 cd/m2 (HLG with its system gamma of 1.2), relative to SDR's white.
That lies at 203 cd/m2 in PQ (ITU-R BT.2408) and at 100 cd/m2 in HLG (zimg's nominal peak, with which zscale
writes HLG). BT.2020's primaries become BT.709's. The Möbius operator, of the largest component so that hues
stay, leaves light below 0.3 of white as it is and leads the display's peak smoothly to white.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from svgan_ray.video.deinterlacing import buffer_for

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph

__all__ = ["HDR_TRANSFERS", "OPERATOR", "ToneMapper", "sdr_of"]

OPERATOR = "Möbius"

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""By the codes of ITU-T H.273."""

_DISPLAY_PEAK = 1000.0  # cd/m2
_SDR_WHITE = {"PQ": 203.0, "HLG": 100.0}  # cd/m2
_KNEE = 0.3
_TABLE_SIDE = 33
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020's primaries
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)

Floats = NDArray[np.float64]


def sdr_of(signal: Floats, transfer: str) -> Floats:
    """Non-linear BT.2020 signals [..., 3] of 0 to 1 in `PQ` or `HLG` -> those of BT.709 SDR, 0 to 1."""
    light = (_pq_light if transfer == "PQ" else _hlg_light)(signal) / _SDR_WHITE[transfer]
    light = np.maximum(light @ _BT2020_TO_BT709.T, 0)
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    mapped = light * _moebius(largest, _DISPLAY_PEAK / _SDR_WHITE[transfer]) / largest
    return np.asarray(np.clip(mapped, 0, 1) ** (1 / 2.4))


def _pq_light(signal: Floats) -> Floats:
    """SMPTE ST 2084: cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return np.asarray(10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def _hlg_light(signal: Floats) -> Floats:
    """ARIB STD-B67 with BT.2100's system gamma: cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(_DISPLAY_PEAK * scene * (scene @ _LUMINANCE)[..., None] ** 0.2)


def _moebius(light: Floats, peak: float) -> Floats:
    """The identity up to the knee j, then the hyperbola through `peak` -> 1 that goes on with slope 1."""
    j = _KNEE
    a = -(j**2) * (peak - 1) / (j**2 - 2 * j + peak)
    b = (j**2 - 2 * j * peak + peak) / (peak - 1)
    curve = (b**2 + 2 * b * j + j**2) / (b - a) * (light + a) / (light + b)
    return np.where(light <= j, light, curve)


class ToneMapper:
    """`sdr_of` for whole pictures: a table of 33 x 33 x 33 colours between which libavfilter interpolates."""

    def __init__(self, transfer: str) -> None:
        self._transfer = transfer
        self._graph: Graph | None = None
        self._sides = (0, 0)

    def __call__(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """A picture in gbrp16le, mapped: [H, W, 3]."""
        sides = picture.width, picture.height
        if self._graph is None or self._sides != sides:
            self._graph, self._sides = _graph(picture, self._transfer), sides
        self._graph.vpush(picture)
        deep = np.asarray(self._graph.vpull().to_ndarray(), np.uint16)  # [H, W, 3]
        return ((deep - (deep >> 8) + 128) >> 8).astype(np.uint8)  # rounded: 257 is the ratio of the scales


def _graph(picture: VideoFrame, transfer: str) -> Graph:
    from av.filter import Graph

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.cube"
        table.write_text(_table(transfer))
        graph = Graph()
        graph.threads = 1
        lookup = graph.add("lut3d", file=str(table), interp="tetrahedral")
        graph.link_nodes(buffer_for(graph, picture), lookup, graph.add("buffersink")).configure()
    return graph


@cache
def _table(transfer: str) -> str:
    """A .cube file: red runs fastest."""
    steps = np.linspace(0, 1, _TABLE_SIDE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = sdr_of(np.stack([red, green, blue], axis=-1), transfer).reshape(-1, 3)
    lines = [f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in colours.tolist()]
    return "\n".join([f"LUT_3D_SIZE {_TABLE_SIDE}", *lines, ""])
