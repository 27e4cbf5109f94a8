"""Images per second of this StyleGAN2 synthesis, compared with a matrix product and with a naive form.

The work per image counts as fixed for every form: 29.8 GFLOP at 256 px (channel_base 16384) and 148.5 at 1024
(a multiplication and addition are 2 FLOP). The share is relative to the rate of the matrix product. The naive
form builds a kernel for each sample and convolves in groups, like NVIDIA's and rosinality's code. All forms
are measured in turns, in one run; the numbers are medians. Weights are random.

    python benchmarks/synthesis.py [--resolution 256 1024] [--threads 2] [--cpu-time]

With a GPU, half precision (activations clamped at 256), compiled code and CUDA graphs are measured too.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from svgan_ray.stylegan.generator import Generator, GeneratorConfig, StyledConv, Synthesis, ToRGB

GFLOP_AN_IMAGE = {256: 29.8, 1024: 148.5}
CHANNEL_BASE = {256: 16384, 1024: 32768}
BATCH_CPU, BATCH_CUDA = {256: 8, 1024: 1}, {256: 64, 1024: 16}
CLAMP = 256.0

Form = Callable[[], object]


class NaiveSynthesis:
    """The same synthesis with a kernel for each sample, [N, O, I, 3, 3], and one group per sample."""

    def __init__(self, synthesis: Synthesis) -> None:
        self.blocks = list(synthesis.children())
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]).to(next(synthesis.parameters()))
        self.fir = taps.outer(taps) / 16

    def __call__(self, w_plus: Tensor) -> Tensor:
        """w_plus [N, num_ws, w_dim] -> [N, 3, R, R]."""
        x, image = self.blocks[0].const.expand(len(w_plus), -1, -1, -1), None
        style = 0
        for block in self.blocks:
            for layer in [block.conv0, block.conv1] if style else [block.conv1]:
                x = self.styled(layer, x, w_plus[:, style])
                style += 1
            rgb = self.to_rgb(block.torgb, x, w_plus[:, style])
            image = rgb if image is None else self.filtered(_with_zeros(image), pad=(2, 1)) + rgb
        assert image is not None
        return image

    def styled(self, layer: StyledConv, x: Tensor, w: Tensor) -> Tensor:
        kernels = layer.weight * layer.affine(w)[:, None, :, None, None]  # [N, O, I, 3, 3]
        kernels = kernels * (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        samples, out_channels, in_channels = kernels.shape[:3]
        x = x.reshape(1, -1, *x.shape[2:])
        if layer.upsample:
            kernels = kernels.transpose(1, 2).reshape(-1, out_channels, 3, 3)
            x = F.conv_transpose2d(x, kernels, stride=2, groups=samples)
            x = self.filtered(x.view(samples, out_channels, *x.shape[2:]), pad=(1, 1))
        else:
            x = F.conv2d(x, kernels.view(-1, in_channels, 3, 3), padding=1, groups=samples)
            x = x.view(samples, out_channels, *x.shape[2:])
        x = x + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
        return _clamped(F.leaky_relu(x, 0.2) * math.sqrt(2), layer.clamp)

    def to_rgb(self, layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
        style = layer.affine(w) / math.sqrt(layer.weight.shape[1])
        kernels = (layer.weight * style[:, None, :, None, None]).flatten(0, 1)  # [N * 3, C, 1, 1]
        rgb = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, groups=len(w))
        return _clamped(rgb.view(len(w), -1, *x.shape[2:]) + layer.bias[:, None, None], layer.clamp)

    def filtered(self, x: Tensor, pad: tuple[int, int]) -> Tensor:
        kernel = self.fir.expand(x.shape[1], 1, 4, 4)
        return F.conv2d(F.pad(x, (*pad, *pad)), kernel, groups=x.shape[1])


def _with_zeros(x: Tensor) -> Tensor:
    """Insert a zero after every pixel: [N, C, H, H] -> [N, C, 2H, 2H]."""
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    out[:, :, ::2, ::2] = x
    return out


def _clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def network(resolution: int, device: str) -> Generator:
    """A generator with random weights; activations are clamped where half precision is measured."""
    torch.manual_seed(0)
    clamp = CLAMP if device == "cuda" else None
    config = GeneratorConfig(resolution, channel_base=CHANNEL_BASE[resolution], conv_clamp=clamp)
    return Generator(config).eval().requires_grad_(False).to(device)


def forms(resolution: int, batch: int, device: str) -> dict[str, Form]:
    """Each form of the synthesis of one batch, ready to call."""
    synthesis = network(resolution, device).synthesis
    w_plus = torch.randn(batch, synthesis.config.num_ws, synthesis.config.w_dim, device=device)
    naive = NaiveSynthesis(synthesis)
    _require_equal(synthesis(w_plus[:1]), naive(w_plus[:1]), 1e-3 if device == "cpu" else 1e-2)
    found: dict[str, Form] = {"ours": lambda: synthesis(w_plus), "naive": lambda: naive(w_plus)}
    for dtype in (torch.bfloat16, torch.float16) if device == "cuda" else ():
        half, half_w = copy.deepcopy(synthesis).to(dtype), w_plus.to(dtype)
        name = f"ours {str(dtype).removeprefix('torch.')}"
        difference = _difference(half(half_w), synthesis(w_plus))
        print(f"{name}: largest difference {difference:.3f} of the standard deviation")
        found[name] = lambda half=half, half_w=half_w: half(half_w)  # type: ignore[misc]
        found[f"{name}, CUDA graph"] = _graph(half, half_w)
        compiled = torch.compile(half, mode="max-autotune")
        found[f"{name}, compiled"] = lambda compiled=compiled, half_w=half_w: compiled(half_w)  # type: ignore[misc]
    return found


def _graph(network: Callable[[Tensor], Tensor], w_plus: Tensor) -> Form:
    """The launches of one call as a CUDA graph, which is replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        network(w_plus)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(w_plus)
    return graph.replay


def matrix_products(device: str) -> dict[str, tuple[Form, float]]:
    """The reference for each precision: a matrix product, and its GFLOP."""
    side = 1536 if device == "cpu" else 8192
    dtypes = (torch.float32,) if device == "cpu" else (torch.float32, torch.bfloat16, torch.float16)
    found = {}
    for dtype in dtypes:
        a, out = (
            torch.randn(side, side, device=device, dtype=dtype),
            torch.empty(0, device=device, dtype=dtype),
        )
        form: Form = lambda a=a, out=out: torch.mm(a, a, out=out)  # type: ignore[misc]  # noqa: E731
        found[str(dtype).removeprefix("torch.")] = (form, 2 * side**3 / 1e9)
    return found


def medians_s(forms: dict[str, Form], repetitions: int, seconds: Callable[[], float]) -> dict[str, float]:
    """The median time of each form, measured in turns; the first call is not counted."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repetitions + 1):
        for name, form in forms.items():
            start = seconds()
            form()
            times[name].append(seconds() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def measure(resolution: int, batch: int, repetitions: int, device: str, seconds: Callable[[], float]) -> None:
    """Print one table row per form."""
    products = matrix_products(device)
    synthesis = forms(resolution, batch, device)
    yardsticks = {f"matrix product {name}": form for name, (form, _) in products.items()}
    times = medians_s({**yardsticks, **synthesis}, repetitions, seconds)
    rates = {name: gflop / times[f"matrix product {name}"] for name, (_, gflop) in products.items()}
    print(", ".join(f"matrix product {name} {rate:,.0f} GFLOP/s" for name, rate in rates.items()))
    print(
        "| network | batch | form | images/s | GFLOP/s | share of the product | times naive |\n|" + "---|" * 7
    )
    for name in synthesis:
        images_a_second = batch / times[name]
        rate = images_a_second * GFLOP_AN_IMAGE[resolution]
        product = next((value for dtype, value in rates.items() if dtype in name), rates["float32"])
        print(
            f"| {resolution} px | {batch} | {name} | {images_a_second:.3g} | {rate:,.0f} | "
            f"{rate / product:.0%} | {times['naive'] / times[name]:.2f} |",
            flush=True,
        )


def _difference(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, divided by the standard deviation of the expected values."""
    return float((actual.float() - expected.float()).abs().max() / expected.float().std())


def _require_equal(ours: Tensor, naive: Tensor, limit: float) -> None:
    if (difference := _difference(ours, naive)) > limit:
        raise SystemExit(f"the two forms differ by {difference:.1e} of the standard deviation")


def _cuda_seconds() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure the forms that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolution", type=int, nargs="+", choices=(256, 1024), default=(256, 1024))
    parser.add_argument("--batch", type=int, help="by default 8 at 256 px and 1 at 1024, on a GPU 64 and 16")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread's time at work: for a machine that others use"
    )
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1 if arguments.cpu_time else arguments.threads)
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {'CPU' if arguments.cpu_time else 'wall'} time")
    for resolution in arguments.resolution:
        batch = arguments.batch or (BATCH_CUDA if device == "cuda" else BATCH_CPU)[resolution]
        with torch.inference_mode():
            measure(
                resolution, batch, arguments.repetitions, device, _cuda_seconds if device == "cuda" else clock
            )


if __name__ == "__main__":
    main()
