"""Assigns the faces of all frames to people, so that each person is followed through the whole video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import LandmarksError
from svgan_ray.video.alignment import Floats, ffhq_axes

__all__ = ["ALL", "LONGEST", "MIN_FACE_PX", "People", "find_people"]

LONGEST, ALL = "longest", "all"

MIN_FACE_PX = 32
"""Side of the smallest crop that counts as a face."""

_ROUNDING_PX = 1e-3  # landmarks are float32
_REACH = (
    1.0  # largest distance of a face from its expected place, in half sides of its crop: about a face's width
)
_GROWTH = 1.5  # largest factor by which a face may have become larger or smaller
_COAST_S = 0.4  # how long a face that is not seen is expected to keep its velocity
_VELOCITY_WEIGHT = 0.5  # weight of the latest step in the velocity

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class People:
    """The usable faces of a video and the people to whom they belong.

    points  [T, F, 68, 2], NaN where there is no face
    person  [T, F], 0 for the person seen in most frames, 1 for the next, ...; -1 where there is no face
    """

    points: NDArray[np.floating]
    person: Numbers

    @property
    def count(self) -> int:
        """The number of different people."""
        return int(self.person.max(initial=-1)) + 1

    def chosen(self, people: str) -> list[NDArray[np.floating]]:
        """Landmarks [T, 68, 2] of each chosen person: the `longest` seen, `all`, or one by rank, from 1.

        Raises LandmarksError (`no_such_person`).
        """
        if people == ALL:
            return [self._points_of(person) for person in range(self.count)]
        rank = 1 if people == LONGEST else int(people)
        if rank > self.count:
            message = f"person {rank} was asked for, but only {self.count} were seen; choose a lower rank"
            raise LandmarksError(message, "no_such_person")
        return [self._points_of(rank - 1)]

    def _points_of(self, person: int) -> NDArray[np.floating]:
        points = np.full((len(self.points), 68, 2), np.nan, self.points.dtype)
        frame, face = np.nonzero(self.person == person)
        points[frame] = self.points[frame, face]
        return points


def find_people(points: NDArray[np.floating], time_s: Floats) -> People:
    """The people in landmarks at times [T]: [T, 68, 2] of one subject, or [T, F, 68, 2] in any order.

    A face belongs to the person whose expected place is nearest to it. A person who has vanished is expected
    at the place where they were last seen. A face far from every expected place is a new person. Raises
    LandmarksError: `no_face` if no frame shows a face, `small_face` if all faces are smaller than
    MIN_FACE_PX.
    """
    is_one_subject = points.ndim == 3
    points = points[:, None] if is_one_subject else points
    if points.ndim != 4 or points.shape[0] != len(time_s) or points.shape[2:] != (68, 2):
        expected = f"[{len(time_s)}, 68, 2] or [{len(time_s)}, faces, 68, 2]"
        raise LandmarksError(f"landmarks: expected {expected}, got {list(points.shape)}")
    centre, x, _ = (part.reshape(*points.shape[:2], 2) for part in ffhq_axes(points.reshape(-1, 68, 2)))
    half_side = np.hypot(x[..., 0], x[..., 1])  # [T, F]
    usable = _usable(half_side)
    points = np.where(usable[..., None, None], points, np.nan)
    if is_one_subject:
        return People(points, np.where(usable, 0, -1))
    return People(points, _by_frames_seen(_associate(centre, half_side, usable, time_s)))


def _usable(half_side: Floats) -> NDArray[np.bool_]:
    """Which faces [T, F] are large enough."""
    side = 2 * half_side[np.isfinite(half_side)]
    if len(side) == 0:
        raise LandmarksError(f"no face in any of {len(half_side)} frames", "no_face")
    if side.max() < MIN_FACE_PX - _ROUNDING_PX:
        message = (
            f"the largest face has a crop of {side.max():.0f} pixels; expected at least {MIN_FACE_PX}. "
            "Use footage of a higher resolution or nearer to the face"
        )
        raise LandmarksError(message, "small_face")
    return np.nan_to_num(2 * half_side) >= MIN_FACE_PX - _ROUNDING_PX


@dataclass
class _Person:
    """Where somebody was last seen."""

    centre: Floats  # [2]
    half_side: float
    time_s: float
    velocity: Floats  # [2], pixels per second

    def expected(self, time_s: float) -> Floats:
        return self.centre + self.velocity * min(time_s - self.time_s, _COAST_S)

    def cost(self, centre: Floats, half_side: float, time_s: float) -> float:
        """Distance of a face from this person's expected place; infinite if it cannot be this person."""
        ratio = max(half_side, self.half_side) / min(half_side, self.half_side)
        distance = float(np.hypot(*(centre - self.expected(time_s)))) / max(half_side, self.half_side)
        return distance if ratio <= _GROWTH and distance <= _REACH else np.inf

    def move(self, centre: Floats, half_side: float, time_s: float) -> None:
        velocity = (centre - self.centre) / max(time_s - self.time_s, 1e-6)
        self.velocity += _VELOCITY_WEIGHT * (velocity - self.velocity)
        self.centre, self.half_side, self.time_s = centre, half_side, time_s


def _associate(centre: Floats, half_side: Floats, usable: NDArray[np.bool_], time_s: Floats) -> Numbers:
    """Face centres [T, F, 2] and sizes [T, F] -> person numbers [T, F] in order of appearance.

    In each frame the nearest pairs of face and person are matched first.
    """
    person = np.full(usable.shape, -1, np.int64)
    people: list[_Person] = []
    for frame, now_s in enumerate(time_s.tolist()):
        faces = {int(face) for face in np.flatnonzero(usable[frame])}
        pairs = sorted(
            (someone.cost(centre[frame, face], float(half_side[frame, face]), now_s), number, face)
            for number, someone in enumerate(people)
            for face in faces
        )
        taken: set[int] = set()
        for cost, number, face in pairs:
            if np.isfinite(cost) and number not in taken and face in faces:
                people[number].move(centre[frame, face], float(half_side[frame, face]), now_s)
                person[frame, face] = number
                taken.add(number)
                faces.discard(face)
        for face in sorted(faces):
            person[frame, face] = len(people)
            people.append(_Person(centre[frame, face], float(half_side[frame, face]), now_s, np.zeros(2)))
    return person


def _by_frames_seen(person: Numbers) -> Numbers:
    """The same people, renumbered so that the person seen in most frames is number 0."""
    seen = np.bincount(person[person >= 0])
    rank = np.empty(len(seen), np.int64)
    rank[np.argsort(-seen, kind="stable")] = np.arange(len(seen))
    return np.where(person >= 0, rank[person], -1)
