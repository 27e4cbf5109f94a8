"""Which frames a video has and when each is shown: the file's own times, mended where they cannot be right.

Where a file's stamps are sound, its packets alone tell all frames, and a frame is known by its stamp. Where
they are not (doubled, absent, out of order, begun anew), the decoder's order is certain: then a frame is
known by the number of its packet, and the stamps are brought into that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["MENDS", "FrameIndex", "PacketFacts", "PacketTable", "index_by_number", "index_by_stamp"]

MENDS: Mapping[str, str] = {
    "doubled": "frames shared their time with another one and lie between their neighbours now",
    "absent": "frames had no time and lie between their neighbours now",
    "reordered": "frames had the time of another one; the decoder's order counts",
    "restarted": "times the clock jumped, and the frames after it follow those before it now",
    "undecodable": "packets before the first keyframe give no picture",
}
"""What was mended by its name, which tracks record with a count, as the end of a sentence."""

_JUMP_BACK_S = 1.0
"""Stamps out of order by more are no reordered pictures: the clock was set back."""
_JUMP_AHEAD_S = 10.0
"""In a transport stream a longer leap is a clock set anew too, as ffmpeg has it."""

Floats = NDArray[np.float64]


class PacketFacts(Protocol):
    """What is known of a packet without decoding it; PyAV's own have more."""

    pts: int | None
    dts: int | None
    pos: int | None
    is_keyframe: bool
    is_corrupt: bool
    is_discard: bool


@dataclass(eq=False)
class PacketTable:
    """The packets of a video in file order, those without content left out.

    stamps        presentation times in units of the stream; None where a packet has none
    decode_times  times of decoding in the same units, for seeking
    places        offsets in the file
    keyframes     whether a picture needs no other one
    is_shown      an edit list may cut pictures away
    is_damaged    whether the container reports damage in any
    """

    stamps: list[int | None] = field(default_factory=list)
    decode_times: list[int | None] = field(default_factory=list)
    places: list[int | None] = field(default_factory=list)
    keyframes: list[bool] = field(default_factory=list)
    is_shown: list[bool] = field(default_factory=list)
    is_damaged: bool = False

    def append(self, packet: PacketFacts) -> None:
        """Note the next packet."""
        self.stamps.append(packet.pts)
        self.decode_times.append(packet.dts)
        self.places.append(packet.pos)
        self.keyframes.append(packet.is_keyframe)
        self.is_shown.append(not packet.is_discard)
        self.is_damaged |= packet.is_corrupt


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Every frame in the order of presentation.

    keys         [T] int64, what the decoder knows frame k by: its stamp, or the number of its packet
    time_s       [T] float64, increasing from 0
    is_numbered  whether keys are numbers of packets
    mends        how often what was mended, by the names of MENDS
    """

    keys: NDArray[np.int64]
    time_s: Floats
    is_numbered: bool = False
    mends: Mapping[str, int] = field(default_factory=dict)


def index_by_stamp(packets: PacketTable, unit_s: float) -> FrameIndex | None:
    """The index of a file whose stamps are sound; None where they are not, or damage leaves doubt."""
    shown = [stamp for stamp, is_shown in zip(packets.stamps, packets.is_shown, strict=True) if is_shown]
    keys = np.unique(np.array([stamp for stamp in shown if stamp is not None], np.int64))
    if len(keys) < len(shown) or len(keys) == 0 or packets.is_damaged or not packets.keyframes[0]:
        return None
    return FrameIndex(keys, (keys - keys[0]) * unit_s)


def index_by_number(
    numbers: Sequence[int], packets: PacketTable, unit_s: float, frame_s: float, is_broadcast: bool
) -> FrameIndex:
    """The index of frames that came out of the decoder in the order of these packets' numbers [T].

    frame_s is the mean distance of frames; is_broadcast says that the clock may leap ahead as well as back.
    """
    stamps = [packets.stamps[number] for number in numbers]
    time_s = np.array([np.nan if stamp is None else stamp * unit_s for stamp in stamps])
    jump_ahead_s = _JUMP_AHEAD_S if is_broadcast else np.inf
    opens_group = np.array([is_broadcast and packets.keyframes[number] for number in numbers])
    mended_s, mends = _mended(time_s, frame_s, opens_group, jump_ahead_s)
    mends["undecodable"] = min(numbers)
    found = {name: count for name, count in mends.items() if count}
    return FrameIndex(np.array(numbers, np.int64), mended_s, is_numbered=True, mends=found)


def _mended(
    time_s: Floats, frame_s: float, opens_group: NDArray[np.bool_], jump_ahead_s: float
) -> tuple[Floats, dict[str, int]]:
    """Times [T] in order of presentation, NaN where unknown -> increasing ones from 0, and what was done."""
    mends = dict.fromkeys(MENDS, 0)
    mends["absent"] = int(np.isnan(time_s).sum())
    parts, next_s = [], 0.0
    for span in _spans_of_one_clock(time_s, opens_group, jump_ahead_s):
        part, moved, doubled = _in_order(time_s[span])
        part = _filled(part, frame_s)
        parts.append(part - part[0] + next_s)
        next_s = parts[-1][-1] + frame_s
        mends["reordered"] += moved
        mends["doubled"] += doubled
        mends["restarted"] += len(parts) > 1
    return np.concatenate(parts) if parts else np.empty(0), mends


def _spans_of_one_clock(time_s: Floats, opens_group: NDArray[np.bool_], jump_ahead_s: float) -> list[slice]:
    """The video, divided where the clock leaps; a broadcast's keyframe is later than what comes before it."""
    bounds, latest = [0], np.nan
    for frame, now_s in enumerate(time_s.tolist()):
        is_back = now_s <= latest if opens_group[frame] else now_s < latest - _JUMP_BACK_S
        if is_back or now_s > latest + jump_ahead_s:
            bounds.append(frame)
            latest = now_s
        latest = np.fmax(latest, now_s)
    return [slice(a, b) for a, b in zip(bounds, [*bounds[1:], len(time_s)], strict=True) if a < b]


def _in_order(time_s: Floats) -> tuple[Floats, int, int]:
    """Known times in order, equal ones then unknown; how many moved and how many were doubled."""
    ordered = time_s.copy()
    known = np.flatnonzero(np.isfinite(time_s))
    ordered[known] = np.sort(time_s[known])
    moved = int((ordered[known] != time_s[known]).sum())
    equal = known[1:][np.diff(ordered[known]) <= 0]
    ordered[equal] = np.nan
    return ordered, moved, len(equal)


def _filled(time_s: Floats, frame_s: float) -> Floats:
    """Unknown times lie evenly between known ones, and a frame apart beyond them."""
    known, frames = np.flatnonzero(np.isfinite(time_s)), np.arange(len(time_s))
    if len(known) == 0:
        return np.asarray(frames * frame_s, np.float64)
    first, last = known[0], known[-1]
    filled = np.interp(frames, known, time_s[known])
    filled[:first] = time_s[first] - (first - frames[:first]) * frame_s
    filled[last + 1 :] = time_s[last] + (frames[last + 1 :] - last) * frame_s
    return np.asarray(filled, np.float64)
