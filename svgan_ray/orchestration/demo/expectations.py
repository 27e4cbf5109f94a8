"""The results to expect from a user's own footage, by the length, size and steadiness of its faces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from svgan_ray.orchestration.demo.plan import DemoPlan
from svgan_ray.store import LatentStore, TrackRecord, open_store

__all__ = ["FootageFacts", "expectations", "facts_of"]

SHORT_S, SMALL_PX, SHAKY_SHARE = 40.0, 100.0, 0.006
_FACE_SHARE = 0.5  # a face's width over the side of its crop, as crops are cut


@dataclass(frozen=True)
class FootageFacts:
    """Facts about all clips of a subject together.

    face_px  median width of the face
    shake    root mean square of the second difference along time of the crops' centres, of their sides
    """

    duration_s: float
    face_px: float
    shake: float


def facts_of(plan: DemoPlan) -> FootageFacts:
    """The facts that tracking found about the subject."""
    quads, duration_s = [], 0.0
    store = open_store(plan.train.store)
    for record in _tracks(store):
        tensors = store.track_tensors(record)
        quads += [tensors[f"{clip.clip_id}.quad"].double().numpy() for clip in record.clips]
        frames = sum(clip.stop_frame - clip.first_frame for clip in record.clips)
        duration_s += frames / record.frame_rate_hz
    sides = [np.linalg.norm(quad[:, 3] - quad[:, 0], axis=1) for quad in quads]
    moves = [
        np.diff(quad.mean(axis=1), n=2, axis=0) / side[1:-1, None]
        for quad, side in zip(quads, sides, strict=True)
    ]
    shake = float(np.sqrt(np.square(np.concatenate(moves)).sum(axis=1).mean()))
    return FootageFacts(duration_s, _FACE_SHARE * float(np.median(np.concatenate(sides))), shake)


def _tracks(store: LatentStore) -> Iterator[TrackRecord]:
    return (record for name in store.tracking_ids() for record in store.tracks(name) if record.clips)


def expectations(facts: FootageFacts) -> list[str]:
    """A sentence for each shortcoming of the footage; empty if there is none."""
    notes = []
    if facts.duration_s < SHORT_S:
        notes.append(
            f"A face is seen for {facts.duration_s:.0f} s, and a minute or more is wanted: the likeness will "
            "only hold for what was filmed, and the generated motion will repeat the little footage there is."
        )
    if facts.face_px < SMALL_PX:
        notes.append(
            f"The face is about {facts.face_px:.0f} pixels wide, and {SMALL_PX:.0f} or more are wanted: "
            "pictures will be as soft as the footage. Film from closer, or at a higher resolution."
        )
    if facts.shake > SHAKY_SHARE:
        notes.append(
            f"The picture shakes ({100 * facts.shake:.1f} % of the crop from frame to frame): some of that "
            "will be learnt as motion of the head. Put the camera down, or lean it on something."
        )
    return notes
