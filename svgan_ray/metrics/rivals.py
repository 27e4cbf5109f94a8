"""Rivals: the cheapest generators of motion that could replace a motion model, which it has to beat.

Each is fitted to footage, clips [T, K], within seconds, and generates samples [S, T, K] of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from svgan_ray.errors import DataError

__all__ = ["GAUSSIAN", "LINEAR", "RIVALS", "gaussian_process", "motion_graph", "vector_autoregression"]

ORDER = 20
LINEAR, GAUSSIAN = f"VAR({ORDER})", "Gaussian process"
RIDGE = 1e-3  # times the mean variance of the regressors
BURN_IN_FRAMES = 200
RESIDUAL_FRAMES = 12
SPECTRUM_S = 10.24
SHORTEST_PIECE_S, LONGEST_PIECE_S = 1.0, 4.0
JOINT_S = 0.2
CANDIDATES = 20
_STILL = 1e-6

Rival = Callable[[Sequence[Tensor], int, int, float, int], Tensor]
"""A function of footage, samples, frames, frame rate and seed that returns motion [samples, frames, K]."""


def gaussian_process(
    footage: Sequence[Tensor], samples: int, frames: int, rate_hz: float, seed: int
) -> Tensor:
    """Gaussian motion with the cross-spectrum of the footage, which contains all its correlations.

    The spectrum is that of windows of about 10 s that overlap by half (Welch, 1967).
    """
    span = min(round(SPECTRUM_S * rate_hz), max(map(len, footage)))
    spectrum, mean = _cross_spectrum(footage, span)  # [F, K, K]
    whole = -(-(frames + span) // span) * span
    # A longer course has more frequency lines than the spectrum, so the lines in between are interpolated.
    lines = torch.linspace(0, len(spectrum) - 1, whole // 2 + 1)
    low = lines.floor().long().clamp(max=len(spectrum) - 2)
    share = (lines - low)[:, None, None]
    variances, vectors = torch.linalg.eigh((1 - share) * spectrum[low] + share * spectrum[low + 1])
    root = vectors * variances.clamp(min=0).sqrt()[:, None]
    random = torch.Generator().manual_seed(seed)
    noise = torch.view_as_complex(torch.randn(samples, *root.shape[:2], 2, generator=random))
    noise[:, 0] = 0
    course = torch.fft.irfft(torch.einsum("fij,sfj->sfi", root, noise), whole, dim=1)[:, :frames]
    deviation = torch.cat(list(footage)).float().std(0)
    drawn: Tensor = mean + course * (deviation / course.std((0, 1)).clamp(min=_STILL))
    return drawn


def _cross_spectrum(footage: Sequence[Tensor], span: int) -> tuple[Tensor, Tensor]:
    """Mean complex cross-spectrum [F, K, K] and mean [K] of windows of `span` frames."""
    mean = torch.cat(list(footage)).float().mean(0)
    taper = torch.hann_window(span)[:, None]
    total, count = torch.zeros(()), 0
    for clip in footage:
        if len(clip) >= span:
            windows = (clip.float() - mean).unfold(0, span, span // 2).transpose(1, 2) * taper
            lines = torch.fft.rfft(windows, dim=1)
            total = total + torch.einsum("nfi,nfj->fij", lines, lines.conj())
            count += len(windows)
    return total / (count * taper.square().sum()), mean


def vector_autoregression(
    footage: Sequence[Tensor], samples: int, frames: int, rate_hz: float, seed: int
) -> Tensor:
    """Each frame is a linear function of the 20 frames before it plus a residual taken from the footage.

    The function is fitted by ridge regression. Residuals are drawn in blocks of 12 frames, the first 200
    frames are left out, and components are scaled to the footage's means and standard deviations.
    """
    long = [clip.double() for clip in footage if len(clip) > ORDER + RESIDUAL_FRAMES]
    if not long:
        raise DataError(
            f"a linear model of {ORDER} frames needs a clip of more than {ORDER + RESIDUAL_FRAMES}; "
            f"the longest has {max(map(len, footage), default=0)}"
        )
    together = torch.cat(long)
    mean = together.mean(0)
    past = torch.cat([_past(clip - mean) for clip in long])  # [N, 20 K], the latest frame first
    now = torch.cat([clip[ORDER:] - mean for clip in long])
    gram = past.T @ past
    penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + penalty, past.T @ now)
    blocks = torch.cat(
        [
            (clip[ORDER:] - mean - _past(clip - mean) @ weights).unfold(0, RESIDUAL_FRAMES, 1).transpose(1, 2)
            for clip in long
        ]
    )
    blocks = blocks - blocks.mean((0, 1))
    random = torch.Generator().manual_seed(seed)
    pieces = -(-(frames + BURN_IN_FRAMES) // RESIDUAL_FRAMES)
    chosen = torch.randint(len(blocks), (samples, pieces), generator=random)
    residuals = blocks[chosen].flatten(1, 2)  # [S, frames and more, K]
    drawn = _driven(weights, residuals, long, random)[:, BURN_IN_FRAMES : BURN_IN_FRAMES + frames]
    spread = together.std(0) / drawn.std((0, 1)).clamp(min=_STILL)
    return (mean + (drawn - drawn.mean((0, 1))) * spread).float()


def _past(clip: Tensor) -> Tensor:
    """The 20 frames before each frame of a clip [T, K] from its 21st on, latest first: [T - 20, 20 K]."""
    return clip[:-1].unfold(0, ORDER, 1).flip(2).transpose(1, 2).flatten(1)


def _driven(weights: Tensor, residuals: Tensor, clips: Sequence[Tensor], random: torch.Generator) -> Tensor:
    """The course [S, T, K] of the model, which starts at zero."""
    samples, frames, components = residuals.shape
    course = torch.zeros(samples, ORDER + frames, components, dtype=weights.dtype)
    by_age = weights.unflatten(0, (ORDER, components)).flip(0).flatten(0, 1)  # the oldest frame first
    limit = 8 * torch.cat(list(clips)).std(0)
    for frame in range(frames):
        before = course[:, frame : frame + ORDER].flatten(1)
        course[:, ORDER + frame] = (before @ by_age + residuals[:, frame]).clamp(-limit, limit)
    return course[:, ORDER:]


def motion_graph(footage: Sequence[Tensor], samples: int, frames: int, rate_hz: float, seed: int) -> Tensor:
    """Pieces of footage of 1 to 4 s; each one begins much as the piece before it would have gone on.

    After Kovar, Gleicher and Pighin, "Motion Graphs" (2002): a piece begins at one of the 20 frames of the
    footage whose values and speeds are nearest to those at the joint, and the joint is blended over 0.2 s.
    Apart from its joints, this motion is as good as footage, but it is a copy, which memorisation must
    detect.
    """
    overlap, shortest, longest = (
        max(1, round(s * rate_hz)) for s in (JOINT_S, SHORTEST_PIECE_S, LONGEST_PIECE_S)
    )
    long = [clip.float() for clip in footage if len(clip) >= shortest + 2 * overlap + 2]
    if not long:
        raise DataError(f"a motion graph needs a clip of {SHORTEST_PIECE_S + 2 * JOINT_S:g} s or more")
    begins: list[Tensor] = []
    left: list[Tensor] = []
    state: list[Tensor] = []
    for clip in long:
        last = len(clip) - shortest - overlap
        places = torch.arange(1, last)
        begins.append(torch.stack([torch.full_like(places, len(begins)), places], 1))
        left.append(len(clip) - places)
        state.append(_state(clip)[: last - 1])
    graph = _Graph(long, torch.cat(begins), torch.cat(left), torch.cat(state), overlap, (shortest, longest))
    random = torch.Generator().manual_seed(seed)
    return torch.stack([graph.walk(frames, random) for _ in range(samples)])


def _state(clip: Tensor) -> Tensor:
    """Values and speeds [T - 1, 2 K], with equal weight, of every frame of a clip except the first."""
    speed = clip.diff(dim=0)
    return torch.cat([clip[1:], speed / speed.std(0).clamp(min=_STILL)], 1)


class _Graph:
    """The places where pieces may begin: clip and frame [N, 2], frames left in the clip, values, speeds."""

    def __init__(
        self,
        clips: Sequence[Tensor],
        begins: Tensor,
        left: Tensor,
        state: Tensor,
        overlap: int,
        lengths: tuple[int, int],
    ) -> None:
        self.clips, self.begins, self.left, self.state = clips, begins, left, state
        self.overlap, self.lengths = overlap, lengths
        self.speed = torch.cat([clip.diff(dim=0) for clip in clips]).std(0).clamp(min=_STILL)

    def walk(self, frames: int, random: torch.Generator) -> Tensor:
        """Motion [frames, K]."""
        fade = torch.linspace(0, 1, self.overlap + 2)[1:-1, None]
        course = torch.empty(0, self.clips[0].shape[1])
        place = int(torch.randint(len(self.begins), (), generator=random))
        while True:
            piece = self._piece(place, random)
            if len(course):
                joint = (1 - fade) * course[-self.overlap :] + fade * piece[: self.overlap]
                course = torch.cat([course[: -self.overlap], joint, piece[self.overlap :]])
            else:
                course = piece
            if len(course) >= frames:
                return course[:frames]
            place = self._next(course, random)

    def _piece(self, place: int, random: torch.Generator) -> Tensor:
        clip, first = self.begins[place].tolist()
        shortest, longest = self.lengths
        most = min(longest, int(self.left[place]) - self.overlap)
        length = int(torch.randint(shortest, max(shortest, most) + 1, (), generator=random))
        piece: Tensor = self.clips[clip][first : first + length + self.overlap]
        return piece

    def _next(self, course: Tensor, random: torch.Generator) -> int:
        """A place whose values and speeds are similar to those at the joint."""
        here = course[-self.overlap]
        speed = (here - course[-self.overlap - 1]) / self.speed
        distance = (self.state - torch.cat([here, speed])).square().sum(1)
        nearest = distance.topk(min(CANDIDATES, len(distance)), largest=False).indices
        return int(nearest[torch.randint(len(nearest), (), generator=random)])


RIVALS: dict[str, Rival] = {
    GAUSSIAN: gaussian_process,
    LINEAR: vector_autoregression,
    "motion graph": motion_graph,
}
