"""Layers that are applied to every frame independently."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FrameLayers", "frame_product"]

FEWEST_FRAMES, LARGEST_WEIGHT = 256, 1 << 22
"""oneDNN rearranges the weights at each call: that pays off for many frames and weights that fit a cache."""


class FrameLayers(nn.Sequential):
    """Linear layers and activations on frames [N, T, C].

    A linear layer is a convolution over time with a kernel of size one. On a CPU the layer is computed as a
    convolution where that is faster: torch convolves with oneDNN, which uses the full vector width of any
    processor, and multiplies matrices with MKL, which uses half of it on processors that Intel did not make.
    """

    def forward(self, frames: Tensor) -> Tensor:
        *_, last = frames, *self._outputs(frames)
        return last if last.dim() == frames.dim() else _frames(last)

    def outputs(self, frames: Tensor) -> list[Tensor]:
        """The output [N, T, C'] of each layer, changed by the next layer if that one works in place."""
        return [x if x.dim() == frames.dim() else _frames(x) for x in self._outputs(frames)]

    def _outputs(self, frames: Tensor) -> Iterator[Tensor]:
        """The outputs of the layers; convolved ones are [N, C', 1, T].

        The outputs keep this form between layers, because an in-place activation would have to copy a view.
        """
        convolves = _convolves(frames, *(layer.weight for layer in self if isinstance(layer, nn.Linear)))
        x = _image(frames) if convolves else frames
        for layer in self:
            if convolves and isinstance(layer, nn.Linear):
                x = _convolved(x, layer.weight, layer.bias)
            else:
                x = layer(x)
            yield x


def frame_product(frames: Tensor, weight: Tensor) -> Tensor:
    """Frames [N, T, C] times weight [C, C']: [N, T, C']."""
    if not _convolves(frames, weight):
        return frames @ weight
    return _frames(_convolved(_image(frames), weight.T, None))


def _convolves(frames: Tensor, *weights: Tensor) -> bool:
    if frames.dim() != 3 or frames.dtype != torch.float32 or frames.device.type != "cpu":
        return False
    count, largest = frames.shape[:2].numel(), max((weight.numel() for weight in weights), default=0)
    return count >= FEWEST_FRAMES and largest <= LARGEST_WEIGHT and torch.backends.mkldnn.is_available()


def _convolved(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.conv2d(image, weight[..., None, None], bias)


def _image(frames: Tensor) -> Tensor:
    """[N, T, C] as [N, C, 1, T], channels last in memory."""
    return frames.contiguous().unsqueeze(1).permute(0, 3, 1, 2)


def _frames(image: Tensor) -> Tensor:
    """[N, C, 1, T] as [N, T, C]."""
    return image.permute(0, 2, 3, 1).squeeze(1)
