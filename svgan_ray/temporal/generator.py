"""The temporal generator: noise for every frame, a stack of GRUs, an output layer that emits latents."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from svgan_ray.temporal.frames import FrameLayers
from svgan_ray.temporal.gru import GRUStack
from svgan_ray.temporal.recipes import GeneratorOptions
from svgan_ray.temporal.state import MotionGenerator
from svgan_ray.temporal.workers import GlobalBatchNorm

__all__ = ["GeneratorState", "TemporalGenerator"]

SLOPE = 0.01
# Matrix products of different sizes round differently, so frames are computed in fixed blocks of one size.
BLOCK_FRAMES = 64
_STORED_OUTPUT = "head"
"""Name of the output layers in checkpoints and models."""


class GeneratorState(NamedTuple):
    """The state that the generator carries from frame to frame."""

    hidden: Tensor  # [layers, N, width]
    noise: Tensor  # [N, noise_dim], the last frame's noise after smoothing

    def detach(self) -> GeneratorState:
        return GeneratorState(self.hidden.detach(), self.noise.detach())


class TemporalGenerator(MotionGenerator):
    """Noise [N, T, noise_dim] to latents [N, T, F]; F = K coefficients, or n * d style values.

    With `styles = n`, each of the n style vectors has its own branch (`latent_space="w_plus"`).
    """

    def __init__(self, options: GeneratorOptions, features: int, styles: int | None = None) -> None:
        super().__init__()
        noise_dim, width, layers = options.noise_dim, options.width, options.layers
        # With several layers, the top one starts from the first noise vector itself where the sizes allow it.
        self.top_is_noise = layers > 1 and width == noise_dim
        self.width, self.noise_dim, self.warm_up_frames = width, noise_dim, options.warm_up_frames
        initial = (noise_dim, *options.initial_widths, (layers - self.top_is_noise) * width)
        self.initial = nn.Sequential(*_mlp(initial, options.normalise, affine=False))
        self.colour = ColouredNoise(noise_dim, options.slowest_noise_frames)
        self.layers = GRUStack(noise_dim, width, layers)
        widths = (width, *options.output_widths)
        norms = [GlobalBatchNorm(width), PixelNorm()] if options.normalise else []
        if styles is None:
            output = nn.Sequential(*norms, FrameLayers(*_mlp((*widths, features), normalise=False)))
        else:
            trunk = FrameLayers(*_mlp(widths, normalise=False))
            branches = StyleBranches(widths[-1], styles, features // styles)
            output = nn.Sequential(*norms, trunk, GlobalBatchNorm(widths[-1]), branches)
        self.add_module(_STORED_OUTPUT, output)

    @property
    def output(self) -> nn.Sequential:
        """The output layers: outputs of the top recurrent layer [N, T, width] to latents [N, T, F]."""
        return cast(nn.Sequential, self._modules[_STORED_OUTPUT])

    def forward(self, noise: Tensor, state: GeneratorState | None = None) -> tuple[Tensor, GeneratorState]:
        """Latents [N, T, F] and the state from which the next call goes on."""
        top, state = self.recur(noise, state)
        return self.output(top), state

    @torch.no_grad()
    def stream(self, noise_from: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
        """Endless latents [N, t, F] from frame 0 on; frames before 0 warm up the state (MotionGenerator)."""
        state: GeneratorState | None = None
        start = -self.warm_up_frames
        while True:
            features, state = self(noise_from(start, BLOCK_FRAMES), state)
            if start + BLOCK_FRAMES > 0:
                yield features[:, max(0, -start) :]
            start += BLOCK_FRAMES

    def recur(self, noise: Tensor, state: GeneratorState | None = None) -> tuple[Tensor, GeneratorState]:
        """The top layer's outputs l [N, T, width], and the state after the last frame.

        If no state is given, one is computed from the first frame's noise s_0, and l_0 is its top layer.
        """
        frames = noise.transpose(0, 1)  # [T, N, noise_dim]
        first = []
        if state is None:
            state = self.initial_state(frames[0])
            first, frames = [state.hidden[-1:]], frames[1:]
        frames = self.colour(frames, state.noise)
        smoothed = frames[-1] if len(frames) else state.noise
        outputs, last = self.layers(frames, state.hidden)
        top = torch.cat([*first, outputs]).transpose(0, 1)
        return top, GeneratorState(last, smoothed)

    @torch.no_grad()
    def amplify(self, factor: float) -> None:
        """Scale the emitted coefficients; style vectors come from a normalisation and cannot be scaled."""
        for parameter in list(self.output.modules())[-1].parameters():
            parameter.mul_(factor)

    def initial_state(self, noise: Tensor) -> GeneratorState:
        """The initial state that is computed from the first noise vector [N, noise_dim]."""
        hidden = list(self.initial(noise).split(self.width, dim=-1))
        return GeneratorState(torch.stack([*hidden, noise] if self.top_is_noise else hidden), noise)


class ColouredNoise(nn.Module):
    """Smooths half of the noise dimensions with first-order filters; every dimension keeps unit variance."""

    decay: Tensor

    def __init__(self, noise_dim: int, slowest_frames: float) -> None:
        super().__init__()
        white = noise_dim // 2
        spread = torch.logspace(0, 1, noise_dim - white, base=max(slowest_frames, 1.0))
        decay = torch.cat([torch.zeros(white), torch.exp(-1 / spread)])
        self.coloured = slowest_frames > 0
        self.register_buffer("decay", decay, persistent=False)

    def forward(self, frames: Tensor, last: Tensor) -> Tensor:
        """White noise [T, N, D] and the filter's last output [N, D] to coloured noise [T, N, D]."""
        if not self.coloured or not len(frames):
            return frames
        smoothed = []
        for step in (frames * (1 - self.decay.square()).sqrt()).unbind():
            last = torch.addcmul(step, self.decay, last)
            smoothed.append(last)
        return torch.stack(smoothed)


class StyleBranches(nn.Module):
    """One small network per style vector, all evaluated as one batched product."""

    def __init__(self, inputs: int, styles: int, w_dim: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(styles, inputs, w_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(styles, 1, w_dim).uniform_(-bound, bound))
        self.norm = GlobalBatchNorm(styles * w_dim)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2).expand(len(self.weight), -1, -1)  # [n, M, inputs]
        styles = torch.baddbmm(self.bias, rows, self.weight)  # [n, M, d]
        flat = styles.transpose(0, 1).flatten(1).unflatten(0, x.shape[:-1])  # [..., n*d]
        result: Tensor = self.norm(functional.leaky_relu(flat, SLOPE))
        return result


class PixelNorm(nn.Module):
    """Scale each vector to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-8)


def _mlp(widths: tuple[int, ...], normalise: bool, affine: bool = True) -> list[nn.Module]:
    """Linear layers with LeakyReLU, and batch normalisation if asked, between them."""
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE, inplace=True)]
        parts += [GlobalBatchNorm(outputs, affine)] if normalise else []
    return parts[: -2 if normalise else -1]
