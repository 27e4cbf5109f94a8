"""How a demo subject moves: a seeded, stationary process of a talking person with known statistics.

Head motion is band-limited noise; speech comes in bursts in which the mouth opens at syllable rate; blinks
of 0.1 to 0.2 s come at random times; the gaze rests and jumps. All of it is in the factors' standard-normal
units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.demo.factors import GROUPS, INDEX, NUM_FACTORS, indices

OPEN_LID, CLOSED_LID = 0.5, -2.2
CLOSED_MOUTH = -1.5


@dataclass(frozen=True)
class Temperament:
    """The statistics of a subject's motion."""

    head_reach: float = 0.55  # standard deviation of the head's turn
    head_band_hz: float = 0.5  # upper end of its band
    syllable_rate_hz: float = 4.0
    mouth_reach: float = 2.0  # mean height of a syllable above the closed mouth
    talking_share: float = 0.65  # share of the time spent talking
    burst_s: float = 2.4  # mean length of a burst of speech
    blink_rate_hz: float = 0.35
    gaze_rate_hz: float = 0.6  # jumps of the gaze
    gaze_reach: float = 0.8
    smile: float = 0.0  # mean smile


@dataclass(frozen=True)
class Subject:
    """One person of the demo world."""

    seed: int
    rest: Tensor  # [NUM_FACTORS]: the identity, and everything else at rest
    temperament: Temperament


def subject(seed: int, own_temperament: bool = False) -> Subject:
    """Draws a person; with `own_temperament` the person also moves in a way of their own."""
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
        blink_rate_hz=0.2 + 0.4 * reach,
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
    moves = {name: t.head_reach * clock.band_noise(t.head_band_hz) for name in ("yaw", "pitch", "roll")}
    moves |= {name: 0.6 * clock.band_noise(0.25) for name in ("shift_x", "shift_y", "scale")}
    talking = clock.alternating(t.talking_share, t.burst_s)
    moves["mouth_opening"] = CLOSED_MOUTH + talking * t.mouth_reach * clock.syllables(t.syllable_rate_hz)
    moves["smile"] = t.smile + 0.6 * clock.band_noise(0.2)
    moves["brow_raise"] = 0.5 * clock.band_noise(0.4) + 0.5 * talking * clock.band_noise(1.0)
    blink = clock.blinks(t.blink_rate_hz)
    for name in ("gaze_x", "gaze_y"):
        moves[name] = t.gaze_reach * clock.steps(t.gaze_rate_hz)
    for side in ("left", "right"):
        lid = OPEN_LID + 0.12 * clock.band_noise(0.5) + 0.35 * moves["gaze_y"].neg()
        moves[f"eyelid_{side}"] = lid + blink * (CLOSED_LID - lid)
    for name, course in moves.items():
        factors[:, INDEX[name]] = course
    return factors


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

    def alternating(self, share_on: float, mean_on_s: float) -> Tensor:
        """1 in bursts, 0 between them, with soft edges."""
        course = torch.zeros(self.frames)
        mean_off_s = mean_on_s * (1 - share_on) / share_on
        now_s, on = -self.uniform(0, mean_on_s), self.uniform(0, 1) < share_on
        while now_s < self.frames / self.rate_hz:
            length_s = 0.4 + self.waiting_s(max((mean_on_s if on else mean_off_s) - 0.4, 0.2))
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
        """1 where the eyes are shut: raised cosines of 0.1 to 0.2 s at half height, at random times."""
        course = torch.zeros(self.frames)
        now_s = self.waiting_s(1 / rate_hz)
        while now_s < self.frames / self.rate_hz:
            half_height_s = self.uniform(0.1, 0.2)
            phase = ((self.time_s - now_s) / half_height_s).clamp(-1, 1)  # half its base wide at half height
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
