"""A second judge of motion: a small convolutional network learns to distinguish it from footage.

It shares only the length of the windows with `svgan_ray/metrics/judge.py`, so that the two judges do not have
the same faults. It is trained on the first half of the clips and tested on the second half, with noise added
to footage and generated motion. The area under its ROC curve is 0.5 if it can only guess.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WINDOW_S, STRIDE_S = 4.0, 1.0
EPOCHS, BATCH = 12, 64
WIDTH = 48


class Network(nn.Module):
    """Values and differences [N, K, T] to one logit [N], by four convolutions, means and maxima over time."""

    def __init__(self, components: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 2 * components
        for dilation in (1, 2, 4, 8):
            layers += [nn.Conv1d(inputs, WIDTH, 5, dilation=dilation), nn.BatchNorm1d(WIDTH), nn.ReLU()]
            inputs = WIDTH
        self.layers = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * WIDTH, 1))

    def forward(self, windows: Tensor) -> Tensor:
        rates = 3 * windows.diff(dim=2)
        seen = self.layers(torch.cat([windows[:, :, 1:], rates], 1))
        answers: Tensor = self.last(torch.cat([seen.mean(2), seen.amax(2)], 1))[:, 0]
        return answers


def windows_of(clips: Sequence[Tensor], rate_hz: float) -> Tensor:
    """Windows [N, K, T] of clips [T, K]."""
    frames, stride = round(WINDOW_S * rate_hz), round(STRIDE_S * rate_hz)
    return torch.cat([clip.float().unfold(0, frames, stride) for clip in clips if len(clip) >= frames])


def area(answers: Tensor, is_generated: Tensor) -> float:
    """The probability that a generated window scores higher than a real one; ties count half."""
    pairs = answers[is_generated][:, None] - answers[~is_generated]
    return float((torch.sign(pairs) / 2 + 0.5).mean())


def second_opinion(
    footage: Sequence[Tensor], motion: Sequence[Tensor], rate_hz: float, noise: float, seed: int = 0
) -> float:
    """The network's area under the curve on clips [T, K] that it was not trained on."""
    torch.manual_seed(seed)
    count = min(len(footage), len(motion))
    halves = []
    for first, last in ((0, count // 2), (count // 2, count)):
        sides = [windows_of(clips[first:last], rate_hz) for clips in (footage, motion)]
        label = torch.cat(
            [torch.full((len(side),), value) for side, value in zip(sides, (0.0, 1.0), strict=True)]
        )
        halves.append((torch.cat(sides), label))
    (known, label), (asked, truth) = halves
    network = Network(known.shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(known) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for _ in range(steps):
        rows = torch.randint(len(known), (BATCH,))
        answers = network(known[rows] + noise * torch.randn_like(known[rows]))
        loss = nn.functional.binary_cross_entropy_with_logits(answers, label[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        answers = torch.cat([network(part + noise * torch.randn_like(part)) for part in asked.split(256)])
    return area(answers, truth > 0.5)
