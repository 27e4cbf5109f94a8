"""The outline of a track: the facts that planning needs, in the key of its tensors, as listings show keys.

An outline is "<subject>.<spans>". The subject is the start of a hash of its name. The spans are the clips'
frames as in "0-1500_1600-3000", or "none", or "many" if a name is too short for them. An outline is only a
hint and the record decides. The record is read for "many", and when the objects of a video disagree (the
loser of a race leaves objects for days).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from svgan_ray.store import keys
from svgan_ray.store.records import TrackRecord

__all__ = ["TrackOutline", "listed_outlines", "outline_name", "outline_of"]

_NONE, _MANY = "none", "many"
_MAX_CHARACTERS = 128  # length limit of a name in the store, enough for about ten clips


@dataclass(frozen=True)
class TrackOutline:
    """The clips of a tracked video."""

    subject_mark: str
    clip_ids: tuple[str, ...]

    def shows(self, subject: str) -> bool:
        """Whether the video was tracked with this subject's name."""
        return self.subject_mark == _mark(subject)


def outline_name(record: TrackRecord) -> str:
    """A track's outline as part of a key."""
    spans = "_".join(f"{clip.first_frame}-{clip.stop_frame}" for clip in record.clips) or _NONE
    name, outline = f"{_mark(record.subject)}.{spans}", outline_of(record)
    if len(name) <= _MAX_CHARACTERS and _parsed(name, record.video_id, record.tracking_id) == outline:
        return name
    return f"{outline.subject_mark}.{_MANY}"


def outline_of(record: TrackRecord) -> TrackOutline:
    """A track's outline, read from its record."""
    return TrackOutline(_mark(record.subject), tuple(clip.clip_id for clip in record.clips))


def listed_outlines(listing: Iterable[str], tracking_id: str) -> tuple[dict[str, TrackOutline], list[str]]:
    """The outlines in the keys of one tracking, by video id, and the videos whose records must be read."""
    recorded: list[str] = []
    names: dict[str, set[str]] = defaultdict(set)
    for key in listing:
        if found := keys.video_and_outline(key):
            names[found[0]].add(found[1])
        elif key.endswith(".json"):
            recorded.append(keys.stem(key))
    clear = {v: next(iter(names[v])) for v in recorded if len(names[v]) == 1}
    outlines = {v: _parsed(name, v, tracking_id) for v, name in clear.items() if not name.endswith(_MANY)}
    return outlines, [video_id for video_id in recorded if video_id not in outlines]


def _parsed(name: str, video_id: str, tracking_id: str) -> TrackOutline:
    mark, _, text = name.partition(".")
    spans = [] if text == _NONE else [map(int, span.split("-")) for span in text.split("_")]
    return TrackOutline(mark, tuple(keys.clip_id(video_id, tracking_id, *span) for span in spans))


def _mark(subject: str) -> str:
    return keys.content_id({"subject": subject})[:16]
