"""Motion without the encoder's noise: a Wiener filter that measures the noise in the footage itself.

An encoder makes a small error in every frame, and a different one in the next frame. Latents therefore
tremble, and a model that is trained on them learns to tremble too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

__all__ = ["NOISE_FROM_HZ", "denoised"]

NOISE_FROM_HZ = 10.0
"""Faces do not move faster than this, so power above this frequency comes from the encoder."""
_WINDOW_S = 2.0


def denoised(spans: Sequence[Tensor], rate_hz: float) -> list[Tensor]:
    """Spans [T, F] of motion, every dimension filtered by 1 - N / P (Wiener, 1949).

    P is the power spectrum over all spans. N is the power of the noise, which is assumed to be equal at all
    frequencies and is measured as P above 10 Hz. The filter does not shift motion in time and keeps the mean.
    Noise cannot be measured at 20 frames a second or fewer, or if every span is shorter than two seconds;
    then the spans are returned unchanged.
    """
    frames = 2 * round(_WINDOW_S * rate_hz / 2)
    if rate_hz <= 2 * NOISE_FROM_HZ or not any(len(span) >= frames for span in spans):
        return list(spans)
    power, frequency_hz = _mean_power(spans, rate_hz, frames)
    noise = power[frequency_hz >= NOISE_FROM_HZ].mean(0)
    response = (1 - noise / power.clamp(min=torch.finfo(power.dtype).tiny)).clamp(min=0)
    response[0] = 1
    taps = torch.fft.irfft(response, frames, dim=0).roll(frames // 2, 0)  # [frames, F], even but for one
    kernel = torch.cat([taps[:1] / 2, taps[1:], taps[:1] / 2])
    return [_filtered(span, kernel) for span in spans]


def _mean_power(spans: Sequence[Tensor], rate_hz: float, frames: int) -> tuple[Tensor, Tensor]:
    """Mean power [frames / 2 + 1, F] of windows that overlap by half, and frequencies (Welch, 1967)."""
    long = [span.double() for span in spans if len(span) >= frames]
    taper = torch.hann_window(frames, dtype=torch.float64, device=long[0].device)[:, None]
    total, count = torch.zeros((), device=taper.device), 0
    for span in long:
        windows = span.unfold(0, frames, frames // 2).transpose(1, 2)  # [N, frames, F]
        spectrum = torch.fft.rfft((windows - windows.mean(1, keepdim=True)) * taper, dim=1)
        total, count = total + spectrum.abs().square().sum(0), count + len(windows)
    return total / count, torch.fft.rfftfreq(frames, 1 / rate_hz, device=taper.device)


def _filtered(span: Tensor, kernel: Tensor) -> Tensor:
    """Span [T, F] convolved with an even kernel [2 R + 1, F]; at its ends the last frame is repeated."""
    reach = len(kernel) // 2
    padded = pad(span.T[None].double(), (reach, reach), mode="replicate")  # [1, F, T + 2 R]
    filtered = conv1d(padded, kernel.T[:, None], groups=kernel.shape[1])
    return filtered[0].T.to(span.dtype)
