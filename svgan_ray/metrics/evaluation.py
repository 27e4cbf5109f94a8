"""All scores of a motion model in latent space; without image networks, cheap enough for each validation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.denoising import denoised
from svgan_ray.latents.windows import seeded
from svgan_ray.metrics.distance import CHEAP_NOISES, Standing, Yardstick, mean_floors
from svgan_ray.metrics.features import blocks_of, cut_windows, evaluation_basis
from svgan_ray.metrics.frechet import FrechetMotion, frechet_motion
from svgan_ray.metrics.judge import NOISES
from svgan_ray.metrics.panel import SCORES
from svgan_ray.metrics.rivals import RIVALS
from svgan_ray.metrics.scores import (
    LEAST_GENERATED,
    Memorisation,
    diversity,
    fast_power_share,
    memorisation,
    noise_angle,
)
from svgan_ray.temporal.generator import TemporalGenerator
from svgan_ray.temporal.model import MotionModel
from svgan_ray.temporal.sampling import generate

__all__ = [
    "MotionReport",
    "Row",
    "evaluate_motion",
    "footage_coefficients",
    "frechet_of_all",
    "generate_coefficients",
    "mean_angle",
    "score_motion",
]

WINDOWS_S = (2.0, 5.0)
POSITIONS_S = (0.0, 10.0, 60.0)

ANGLE_SAMPLES = 150

# How far after a position windows may begin if there are fewer samples than windows wanted.
REACH_S = 8.0


@dataclass(frozen=True)
class Row:
    """One line of the table: a value, its unit, the counts that it is based on, and whether it is valid."""

    measure: str
    compared: str
    value: float
    unit: str
    windows: int
    features: int | None = None
    verdict: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class MotionReport:
    """The scores of generated motion. A diversity or jitter of 1 is that of real footage."""

    frechet: tuple[FrechetMotion, ...]
    standing: Standing
    diversity: float
    jitter: float  # share of the power above 6 Hz over the real share
    angle: float | None  # mean phi in radians; None if only motion was given, without its model
    memorisation: Memorisation | None  # None without held-out footage
    samples: int
    held_out: Standing | None = None
    """The scores of held-out footage: the best that generated motion can be expected to reach."""
    rivals: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def judge_is_fit(self) -> bool | None:
        """Whether the judge can only guess between footage and held-out footage; None if none is held out.

        If it can do more, the two differ by more than chance, and the judge's scores of generated motion mean
        nothing.
        """
        if self.held_out is None:
            return None
        return not any(judgement.excludes_guessing for judgement in self.held_out.judgements)

    @property
    def is_fit(self) -> bool:
        """Whether there is enough footage for the motion distance.

        The panel's bars must be known, the Frechet distance must be fit for one window length or more (only
        those are used), and if footage is held out, the judge must not distinguish it from the other footage.
        """
        has_bars = not any(math.isnan(bar) for bar in self.standing.bars.values())
        return (
            has_bars
            and any(part.verdict == "fit" for part in self.frechet)
            and self.judge_is_fit is not False
        )

    def scores(self) -> dict[str, float]:
        """Flat names and values, as they are logged to a run."""
        values = {"diversity": self.diversity, "jitter": self.jitter, **self.standing.values()}
        for of, standing in list(self.standings.items())[1:]:
            name = re.sub(r"\W+", "_", of).strip("_").lower()
            values |= {f"{name}/{score}": value for score, value in standing.values().items()}
        for motion in self.frechet:
            name = f"frechet_motion_{motion.window_s:g}s"
            values |= {f"{name}/{of.replace(' ', '_')}": floors for of, floors in motion.compared.items()}
            values |= {f"{name}/floor": motion.floor, f"{name}/is_fit": float(motion.verdict == "fit")}
        if self.angle is not None:
            values["angle"] = self.angle
        if self.memorisation is not None:
            values["memorisation/p_value"] = self.memorisation.p_value
            values["memorisation/copied_p_value"] = self.memorisation.copied_p_value
            values["memorisation/copied_share"] = self.memorisation.copied_share
        return values

    def rows(self) -> list[Row]:
        """The rows of the table; floors and controls follow the distances that they help to interpret."""
        rows = self._standing_rows()
        rows += [row for motion in self.frechet for row in _frechet_rows(motion)]
        rows.append(Row("diversity", "generated", self.diversity, "x real", self.samples))
        rows.append(Row("jitter above 6 Hz", "generated", self.jitter, "x real", self.samples))
        if self.angle is not None:
            rows.append(Row("angle", "generated", self.angle, "rad", self.samples))
        if (found := self.memorisation) is not None:
            for of, value in (
                ("p value", found.p_value),
                ("copied p value", found.copied_p_value),
                ("copied share", found.copied_share),
            ):
                rows.append(Row("memorisation", of, value, "1", found.generated_windows, None, found.verdict))
        return rows

    @property
    def standings(self) -> dict[str, Standing]:
        """The standing of generated motion, then of everything it is compared with, by name."""
        rivals = {f"rival: {name}": standing for name, standing in self.rivals.items()}
        held_out = {} if self.held_out is None else {"held-out footage": self.held_out}
        return {"generated": self.standing, **rivals, **held_out}

    def _standing_rows(self) -> list[Row]:
        """Rows of the motion distance, the panel and the judge, each for everything that was compared."""
        every = self.standings
        rows = [
            Row("motion distance", of, standing.motion_distance, "1", self.samples, None, _over(standing))
            for of, standing in every.items()
        ]
        for name in SCORES:
            for of, standing in every.items():
                verdict = f"{standing.scores[name]:.3g}, bar {standing.bars[name]:.3g}"
                rows.append(
                    Row(f"panel: {name}", of, standing.in_bars[name], "bars", self.samples, None, verdict)
                )
        fit = {True: "fit", False: "not fit: it tells footage from footage", None: "no held-out footage"}
        for number, judgement in enumerate(self.standing.judgements):
            for of, standing in every.items():
                found = standing.judgements[number]
                interval = f"{found.low:.2f} to {found.high:.2f}; {fit[self.judge_is_fit]}"
                name = f"judge, noise {judgement.noise:g}"
                rows.append(Row(name, of, found.auc, "AUC", found.windows, None, interval))
        return rows


def evaluate_motion(
    model: MotionModel,
    real: Sequence[Tensor],
    held_out: Sequence[Tensor] = (),
    basis: LatentBasis | None = None,
    samples: int = 150,
    seconds: float = 66.0,
    seed: int = 0,
) -> MotionReport:
    """Generate motion and compare it with footage, W+ clips [T, n, d] at the model's frame rate.

    `held_out` is footage of the subject that the model was not trained on. It makes memorisation measurable
    and is one more real set in the table. `basis` is the evaluation basis, by default the first 16 of the
    model's own components; pass one to compare models that have fewer.
    """
    basis = basis or evaluation_basis(model.basis)
    generated = generate_coefficients(model, basis, samples, round(seconds * model.frame_rate_hz), seed)
    real, held_out = (footage_coefficients(model, basis, clips) for clips in (real, held_out))
    variances, angle = basis.sigma.square().cpu(), mean_angle(model, seed)
    return score_motion(real, generated, model.frame_rate_hz, variances, held_out, angle, thorough=True)


def footage_coefficients(model: MotionModel, basis: LatentBasis, clips: Sequence[Tensor]) -> list[Tensor]:
    """Coefficients [T, K] of W+ clips [T, n, d], denoised if the model learnt from denoised ones."""
    coefficients = [basis.to(clip.device).project(clip) for clip in clips]
    return denoised(coefficients, model.frame_rate_hz) if model.config.denoise else coefficients


@torch.no_grad()
def generate_coefficients(
    model: MotionModel, basis: LatentBasis, samples: int, frames: int, seed: int
) -> Tensor:
    """Evaluation coefficients [samples, frames, 16] of generated motion, chunk by chunk."""
    project = _projection(model, basis)
    return torch.cat([project(part).cpu() for part in generate(model, samples, frames, seed)], 1)


def mean_angle(model: MotionModel, seed: int = 0) -> float | None:
    """The gradient angle penalty's phi in radians, the mean over windows as training draws them.

    It is pi/4 or more if a window's later noise moves its end at least as much as its first noise does. It is
    None for a generator without recurrence.
    """
    if not isinstance(model.generator, TemporalGenerator):
        return None
    options, random, device = model.config.generator, seeded("angle", seed), model.w_ref.device

    def draw(frames: int) -> Tensor:
        return torch.randn(ANGLE_SAMPLES, frames, options.noise_dim, generator=random).to(device)

    state = model.generator.recur(draw(options.warm_up_frames))[1] if options.warm_up_frames else None
    noise = draw(model.config.window_frames).requires_grad_()
    hidden, _ = model.generator.recur(noise, state)
    return float(noise_angle(noise, hidden[:, -1] - hidden[:, 0]).mean())


def score_motion(
    real: Sequence[Tensor],
    generated: Tensor,
    rate_hz: float,
    variances: Tensor | None = None,
    held_out: Sequence[Tensor] = (),
    angle: float | None = None,
    thorough: bool = False,
) -> MotionReport:
    """Compare generated motion [S, T, K] with real clips [T, K], coefficients of one evaluation basis.

    `variances` [K] of the components weight the jitter as in W+. A `thorough` comparison also measures
    rivals, and lets the judge also judge without noise. Positions with less than half as many windows as the
    start are left out. Short footage gives scores with the verdict "not fit". Raises DataError if not even
    one window fits.
    """
    frames = round(WINDOWS_S[0] * rate_hz)
    _require_windows(real, generated, frames)
    fast_real, fast_generated = (
        fast_power_share(clips, rate_hz, variances) for clips in (real, list(generated))
    )
    frechet = frechet_of_all(real, held_out, generated, rate_hz)
    yardstick, noises = Yardstick(real, rate_hz), NOISES if thorough else CHEAP_NOISES
    return MotionReport(
        frechet=frechet,
        standing=yardstick.measure(list(generated), mean_floors(frechet), noises),
        diversity=diversity(cut_windows(blocks_of(real, frames), frames).data, generated[:, :frames]),
        jitter=fast_generated / fast_real,
        angle=angle,
        memorisation=memorisation(real, held_out, _some_windows(generated, frames)) if held_out else None,
        samples=len(generated),
        held_out=yardstick.measure(held_out, noises=noises) if held_out else None,
        rivals=_rivals(yardstick, generated) if thorough else {},
    )


def _rivals(yardstick: Yardstick, generated: Tensor) -> dict[str, Standing]:
    """The standings of the cheapest rivals of a model, with as many samples of as many frames."""
    real, rate_hz = yardstick.footage, yardstick.rate_hz
    standings = {}
    for name, rival in RIVALS.items():
        try:
            motion = rival(real, len(generated), generated.shape[1], rate_hz, 0)
        except DataError:  # the footage is too short for this rival
            continue
        floors = mean_floors(frechet_of_all(real, (), motion, rate_hz))
        standings[name] = yardstick.measure(list(motion), floors)
    return standings


def frechet_of_all(
    real: Sequence[Tensor], held_out: Sequence[Tensor], generated: Tensor, rate_hz: float
) -> tuple[FrechetMotion, ...]:
    return tuple(_frechet(real, held_out, generated, rate_hz, window_s) for window_s in WINDOWS_S)


def _require_windows(real: Sequence[Tensor], generated: Tensor, frames: int) -> None:
    shapes = {"generated": list(generated.shape), "real": [list(clip.shape) for clip in real]}
    if generated.ndim != 3 or any(clip.ndim != 2 or clip.shape[1] != generated.shape[2] for clip in real):
        raise DataError(f"expected generated [S, T, K] and real clips [T, K] of equal K, got {shapes}")
    if generated.shape[1] < frames or not any(len(clip) >= frames for clip in real):
        raise DataError(
            f"no window of {frames} frames ({WINDOWS_S[0]:g} s) fits into {shapes}; take longer ones"
        )


def _frechet(
    real: Sequence[Tensor], held_out: Sequence[Tensor], generated: Tensor, rate_hz: float, window_s: float
) -> FrechetMotion:
    frames = round(window_s * rate_hz)
    wanted = len(cut_windows(blocks_of(real, frames), frames).data) // 2
    sets = {
        f"generated at {position_s:g} s": _windows_at(generated, position_s, frames, rate_hz, wanted)
        for position_s in POSITIONS_S
    }
    sets["held-out footage"] = cut_windows(blocks_of(held_out, frames), frames).data
    # All sets get the count of the smallest one, so a set of few windows would make all others unreliable.
    least = max(1, len(sets["generated at 0 s"]) // 2)
    compared = {of: windows for of, windows in sets.items() if len(windows) >= least}
    return frechet_motion(real, compared, rate_hz, window_s)


def _windows_at(generated: Tensor, position_s: float, frames: int, rate_hz: float, wanted: int) -> Tensor:
    """Windows [N, frames, K] of every sample at a position, and after it until there are about `wanted`."""
    first, stride = round(position_s * rate_hz), max(1, frames // 2)
    reach = generated[:, first : first + round(REACH_S * rate_hz) + frames]
    if reach.shape[1] < frames:
        return reach[:0, :frames]
    each = max(1, math.ceil(wanted / len(generated)))
    return reach.unfold(1, frames, stride)[:, :each].flatten(0, 1).transpose(1, 2)


def _some_windows(generated: Tensor, frames: int) -> Tensor:
    """About as many windows [N, frames, K] as memorisation needs, from the whole length of all samples."""
    every = generated.unfold(1, frames, frames).flatten(0, 1).transpose(1, 2)
    return every[:: max(1, len(every) // LEAST_GENERATED)]


def _projection(model: MotionModel, basis: LatentBasis) -> Callable[[Tensor], Tensor]:
    """The function from the generator's output to evaluation coefficients."""
    basis = basis.to(model.w_ref.device)
    if model.config.latent_space != "basis":
        return lambda features: basis.project(model.decode(features))
    # Both steps are affine, so they are one matrix, and W+, which is 100 times larger, is never computed.
    axes = torch.eye(model.basis.size, device=model.w_ref.device)
    offset = basis.project(model.decode(torch.zeros_like(axes[0])))
    matrix = basis.project(model.decode(axes)) - offset
    return lambda features: features @ matrix + offset


def _over(standing: Standing) -> str:
    """A text that names the panel's bars that are missed."""
    if all(math.isnan(bar) for bar in standing.bars.values()):
        return "footage too short for the panel's bars"
    return f"over its bar: {', '.join(standing.over)}" if standing.over else "within all bars of the panel"


def _frechet_rows(motion: FrechetMotion) -> list[Row]:
    measure = f"frechet motion, {motion.window_s:g} s windows"
    floors = {f"control: {name}": value for name, value in motion.controls.items()} | dict(motion.compared)
    values = [("floor: real to real", motion.floor, "1")]
    values += [(of, value, "floors") for of, value in floors.items()]
    return [Row(measure, *value, motion.windows, motion.features, motion.verdict) for value in values]
