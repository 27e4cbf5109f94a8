"""How a demo subject moves: a seeded, stationary process of a talking person with known statistics.

The person talks in turns of seconds to tens of seconds and rests between them. In a turn, phrases follow one
another, in which the mouth opens at syllable rate and the head nods with the stress. The gaze rests and
jumps, and the head follows it about half a second later. Apart from that, head motion is band-limited noise,
which is livelier in a turn than at rest. Blinks of 0.1 to 0.17 s come at random times, and lids close faster
than they open. All factors are in standard-normal units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.demo.factors import GROUPS, INDEX, NUM_FACTORS, indices

OPEN_LID, CLOSED_LID = 1.0, -2.2
CLOSED_MOUTH = -1.5

CLOSING_SHARE = 0.3
"""The share of a blink's length in which the lids close."""
REST_LIVELINESS, TURN_LIVELINESS = 0.6, 1.15
"""Factors of the head's reach at rest and in a turn; their mean square is about 1."""
FOLLOWING_S, FOLLOWING_WIDTH_S = 0.45, 0.25
"""The delay after which the head is halfway to the gaze, and the width of its motion."""
STRESS_WIDTH_S, MEAN_STRESS = 0.15, 0.27
"""The width of the smoothing that turns syllables into the stress with which the head nods."""


@dataclass(frozen=True)
class Temperament:
    """The statistics of a subject's motion."""

    head_reach: float = 0.55  # standard deviation of the head's turn
    head_band_hz: float = 0.5  # upper end of its band
    syllable_rate_hz: float = 4.0
    mouth_reach: float = 2.1  # mean height of a syllable above the closed mouth
    turn_share: float = 0.68  # share of the time spent in turns of speech
    turn_s: float = 15.0  # mean length of a turn
    phrase_s: float = 2.4  # mean length of a phrase
    phrase_share: float = 0.8  # share of a turn that phrases fill; the rest of it is pauses
    blink_rate_hz: float = 0.35
    gaze_rate_hz: float = 0.6  # jumps of the gaze
    gaze_reach: float = 0.95
    smile: float = 0.0  # mean smile


@dataclass(frozen=True)
class Subject:
    """One person of the demo world."""

    seed: int
    rest: Tensor  # [NUM_FACTORS]: the identity, and everything else at rest
    temperament: Temperament


def subject(seed: int, own_temperament: bool = False) -> Subject:
    """Draws a person; with `own_temperament`, the person also gets random statistics of motion."""
    generator = torch.Generator().manual_seed(0x5B1EC7 + seed)
    rest = torch.zeros(NUM_FACTORS)
    still = indices(GROUPS["identity"] + GROUPS["light"] + GROUPS["background"])
    rest[still] = torch.randn(len(still), generator=generator).clamp(-2, 2)
    if not own_temperament:
        return Subject(seed, rest, Temperament())
    pace, reach, mood = torch.rand(3, generator=generator).tolist()
    temperament = Temperament(
        head_reach=0.35 + 0.5 * reach,
        head_band_hz=0.3 + 0.5 * pace,
        syllable_rate_hz=3.2 + 1.8 * pace,
        blink_rate_hz=0.2 + 0.32 * reach,
        gaze_rate_hz=0.3 + 0.7 * pace,
        smile=1.2 * mood - 0.4,
    )
    return Subject(seed, rest, temperament)


def behave(person: Subject, frames: int, frame_rate_hz: float = 25.0, seed: int = 0) -> Tensor:
    """The factors of every frame, [frames, NUM_FACTORS]; the same seed gives the same behaviour."""
    generator = torch.Generator().manual_seed(1_000_003 * (person.seed + 1) + seed)
    t = person.temperament
    clock = _Clock(frames, frame_rate_hz, generator)
    factors = person.rest.repeat(frames, 1)
    turn = clock.alternating(t.turn_share, t.turn_s, least_s=2.0)
    talking = turn * clock.alternating(t.phrase_share, t.phrase_s, least_s=0.4)
    speech = talking * clock.syllables(t.syllable_rate_hz)
    gaze = {name: clock.steps(t.gaze_rate_hz) for name in ("gaze_x", "gaze_y")}
    moves = {name: t.gaze_reach * course for name, course in gaze.items()}
    moves |= _head(t, clock, turn, speech, gaze)
    moves["mouth_opening"] = CLOSED_MOUTH + t.mouth_reach * speech
    moves["smile"] = t.smile + 0.6 * clock.band_noise(0.2)
    moves["brow_raise"] = 0.5 * clock.band_noise(0.4) + 0.5 * talking * clock.band_noise(1.0)
    blink = clock.blinks(t.blink_rate_hz)
    for side in ("left", "right"):
        lid = OPEN_LID + 0.12 * clock.band_noise(0.5) + 0.25 * moves["gaze_y"].neg()
        moves[f"eyelid_{side}"] = lid + blink * (CLOSED_LID - lid)
    for name, course in moves.items():
        factors[:, INDEX[name]] = course
    return factors


def _head(
    t: Temperament, clock: _Clock, turn: Tensor, speech: Tensor, gaze: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The pose: noise that is livelier in a turn, a part that follows the gaze, and nods with the stress."""
    engaged = clock.smoothed(turn, 0.5)
    liveliness = REST_LIVELINESS + (TURN_LIVELINESS - REST_LIVELINESS) * engaged
    noise = {name: liveliness * clock.band_noise(t.head_band_hz) for name in ("yaw", "pitch", "roll")}
    x, y = (
        clock.delayed(clock.smoothed(gaze[name], FOLLOWING_WIDTH_S), FOLLOWING_S)
        for name in ("gaze_x", "gaze_y")
    )
    stress = clock.smoothed(speech, STRESS_WIDTH_S)
    moves = {
        "yaw": t.head_reach * (0.87 * noise["yaw"] + 0.55 * x),
        "pitch": t.head_reach * (0.87 * noise["pitch"] + 0.4 * y + 0.9 * (stress - MEAN_STRESS)),
        "roll": t.head_reach * noise["roll"],
    }
    return moves | {name: 0.6 * clock.band_noise(0.25) for name in ("shift_x", "shift_y", "scale")}


class _Clock:
    """Random courses over one clip's frames, each [frames]."""

    def __init__(self, frames: int, frame_rate_hz: float, generator: torch.Generator) -> None:
        self.frames = frames
        self.rate_hz = frame_rate_hz
        self.generator = generator
        self.time_s = torch.arange(frames) / frame_rate_hz

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def waiting_s(self, mean_s: float) -> float:
        return -mean_s * math.log(1 - self.uniform(0, 1))

    def band_noise(self, upper_hz: float) -> Tensor:
        """Gaussian noise of unit variance with power up to `upper_hz`: a sum of 40 random waves."""
        waves = 40
        frequency_hz = upper_hz * (0.04 + 0.96 * torch.rand(waves, generator=self.generator))
        weight = torch.randn(2, waves, generator=self.generator) / math.sqrt(waves)
        angle = 2 * math.pi * self.time_s[:, None] * frequency_hz  # [frames, waves]
        return torch.cos(angle) @ weight[0] + torch.sin(angle) @ weight[1]

    def smoothed(self, course: Tensor, width_s: float) -> Tensor:
        """Gaussian smoothing over time."""
        reach = max(1, round(3 * width_s * self.rate_hz))
        offset_s = torch.arange(-reach, reach + 1) / self.rate_hz
        kernel = torch.exp(-0.5 * (offset_s / width_s) ** 2)
        padded = torch.nn.functional.pad(course[None, None], (reach, reach), mode="replicate")
        return torch.nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[0, 0]

    def delayed(self, course: Tensor, delay_s: float) -> Tensor:
        """The course delayed by `delay_s`; it begins at rest in its first value."""
        late = min(round(delay_s * self.rate_hz), self.frames - 1)
        return torch.cat([course[:1].expand(late), course[: self.frames - late]])

    def alternating(self, share_on: float, mean_on_s: float, least_s: float) -> Tensor:
        """1 in states that last at least `least_s` and 0 in the states between them, with soft edges."""
        course = torch.zeros(self.frames)
        mean_off_s = mean_on_s * (1 - share_on) / share_on
        now_s, on = -self.uniform(0, mean_on_s), self.uniform(0, 1) < share_on
        while now_s < self.frames / self.rate_hz:
            length_s = least_s + self.waiting_s(max((mean_on_s if on else mean_off_s) - least_s, 0.2))
            if on:
                course[(self.time_s >= now_s) & (self.time_s < now_s + length_s)] = 1
            now_s, on = now_s + length_s, not on
        return self.smoothed(course, 0.06)

    def syllables(self, rate_hz: float) -> Tensor:
        """Raised-cosine openings of random height, one after another; mean height about 1."""
        course = torch.zeros(self.frames)
        now_s = -self.uniform(0, 1 / rate_hz)
        while now_s < self.frames / self.rate_hz:
            length_s, height = self.uniform(0.75, 1.3) / rate_hz, self.uniform(0.4, 1.6)
            phase = (self.time_s - now_s) / length_s
            inside = (phase >= 0) & (phase < 1)
            course[inside] += height * (0.5 - 0.5 * torch.cos(2 * math.pi * phase[inside]))
            now_s += length_s
        return course

    def blinks(self, rate_hz: float) -> Tensor:
        """1 where the eyes are shut, at random times: raised cosines of 0.1 to 0.17 s at half height."""
        course = torch.zeros(self.frames)
        now_s = self.waiting_s(1 / rate_hz)
        while now_s < self.frames / self.rate_hz:
            base_s = 2 * self.uniform(0.1, 0.17)
            after_s = self.time_s - now_s
            closing, opening = CLOSING_SHARE * base_s, (1 - CLOSING_SHARE) * base_s
            phase = torch.where(after_s < 0, after_s / closing, after_s / opening).clamp(-1, 1)
            course = torch.maximum(course, 0.5 + 0.5 * torch.cos(math.pi * phase))
            now_s += 0.6 + self.waiting_s(1 / rate_hz - 0.6)
        return course

    def steps(self, rate_hz: float) -> Tensor:
        """A gaze that rests and jumps: piecewise constant, unit variance, jumps of about 0.06 s."""
        course = torch.zeros(self.frames)
        now_s = 0.0
        while now_s < self.frames / self.rate_hz:
            course[self.time_s >= now_s] = float(torch.randn((), generator=self.generator).clamp(-2, 2))
            now_s += 0.3 + self.waiting_s(1 / rate_hz - 0.3)
        return self.smoothed(course, 0.03)
