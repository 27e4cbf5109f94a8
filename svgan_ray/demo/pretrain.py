"""Trains the demo weights: `python -m svgan_ray.demo.pretrain --work DIR [--stage generator|encoder|reader]`.

The true factors are known, so each network is trained by plain regression: the generator learns to draw what
the renderer draws, the reader learns to read the factors, and the encoder learns to find the generator's
latents. The eye and mouth regions get a higher weight, or they would regress to their mean. Every stage is
seeded and resumes from its last saved state. The three stages may run at the same time, but the encoder's
last part waits for the generator.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svgan_ray.demo.embedding import ENCODER, GENERATOR, factors_of_w, set_mapping, z_of_factors
from svgan_ray.demo.factor_reader import FactorReader
from svgan_ray.demo.factors import MOVING, NUM_FACTORS, draw_factors, indices
from svgan_ray.demo.renderer import aligned_quads, region_masks, render, render_quad
from svgan_ray.device import best_device
from svgan_ray.files import written_whole
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import save_weights

SIDE = GENERATOR.resolution
EYE_WEIGHT, MOUTH_WEIGHT = 20.0, 8.0
SAVE_EVERY_STEPS = 250


class Stage(ABC):
    """One network and its regression."""

    name: str
    seed: int
    batch: int
    learning_rate: float

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps = steps
        self.device = device

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network that is trained and saved."""

    @abstractmethod
    def loss(self, step: int, factors: Tensor, draws: torch.Generator) -> Tensor:
        """The scalar to minimise at this step, for these portraits [N, NUM_FACTORS]."""

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.network.parameters() if p.requires_grad]


class GeneratorStage(Stage):
    """Synthesis: factors → picture. The first part of the training is done at half the resolution."""

    name, seed, batch, learning_rate = "generator", 1, 16, 1.2e-2

    def __init__(self, steps: int, device: torch.device) -> None:
        super().__init__(steps, device)
        torch.manual_seed(self.seed)
        self.generator = Generator(GENERATOR).to(device)
        set_mapping(self.generator)
        self.generator.mapping.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        return self.generator

    def loss(self, step: int, factors: Tensor, draws: torch.Generator) -> Tensor:
        side = SIDE // 2 if step < 0.3 * self.steps else SIDE
        w_plus = self.generator.mapping(z_of_factors(factors))
        with half_precision(factors.device, step < 0.9 * self.steps):
            images = self.generator.synthesis(w_plus, resolution=side)
        return picture_loss(images.float(), factors)


class ReaderStage(Stage):
    """Factor reader: picture → factors, independent of generator and encoder."""

    name, seed, batch, learning_rate = "reader", 2, 24, 1.5e-3

    def __init__(self, steps: int, device: torch.device) -> None:
        super().__init__(steps, device)
        torch.manual_seed(self.seed)
        self.reader = FactorReader().to(device)

    @property
    def network(self) -> nn.Module:
        return self.reader

    def loss(self, step: int, factors: Tensor, draws: torch.Generator) -> Tensor:
        images = as_filmed(factors, draws)
        with half_precision(factors.device, step < 0.9 * self.steps):
            read = self.reader(images)
        return factor_loss(read.float(), factors)


class EncoderStage(Stage):
    """Encoder: picture → W+, in three parts.

    The first part trains the common style towards the known latents. The second part trains it through the
    frozen generator towards the picture. The last part also trains the differences of the other styles, which
    start from zero (e4e's progressive training).
    """

    name, seed, batch, learning_rate = "encoder", 3, 16, 2e-3
    alone, common = 0.25, 0.35  # shares of the steps at which part one and part two end
    normalising = 0.9  # share of the steps after which batch statistics are no longer trained

    def __init__(self, steps: int, device: torch.device, generator_file: Path) -> None:
        super().__init__(steps, device)
        torch.manual_seed(self.seed)
        self.generator = Generator(GENERATOR).to(device).requires_grad_(False)
        set_mapping(self.generator)
        self.generator_file = generator_file
        self.generator_loaded = False
        self.encoder = Encoder(ENCODER).to(device)
        self.encoder.w_avg.copy_(self.generator.mapping.w_avg.expand_as(self.encoder.w_avg))
        for i in range(1, ENCODER.num_ws):
            nn.init.zeros_(self.encoder.get_parameter(f"styles.{i}.linear.weight"))

    @property
    def network(self) -> nn.Module:
        return self.encoder

    def loss(self, step: int, factors: Tensor, draws: torch.Generator) -> Tensor:
        done = step / self.steps
        self.encoder.train(done < self.normalising)  # the last steps run in eval mode, as the encoder is used
        images = as_filmed(factors, draws)
        with half_precision(factors.device, done < self.normalising):
            w_plus = (
                self._common_style(images) if done < self.common else self.encoder.encode(images)
            ).float()
        towards_latents = factor_loss(factors_of_w(w_plus), factors[:, None])
        if done < self.alone:
            return towards_latents
        self._load_generator()
        with half_precision(factors.device, True):
            pictures = self.generator.synthesis(w_plus)
        return 0.2 * towards_latents + picture_loss(pictures.float(), factors)

    def _common_style(self, images: Tensor) -> Tensor:
        """The output of the first style head, repeated for all layers: [N, num_ws, w_dim]."""
        encoder = self.encoder
        offset: Tensor = encoder.styles[0](encoder.body(encoder.input_layer(images)))
        return encoder.w_avg + offset[:, None]

    def _load_generator(self) -> None:
        if not self.generator_loaded:
            wait_until_done(self.generator_file)
            self.generator.load_state_dict(load_network(self.generator_file))
            self.generator_loaded = True


def half_precision(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 convolutions: twice as fast on this kind of network, on CPUs and GPUs that have them."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def picture_loss(images: Tensor, factors: Tensor) -> Tensor:
    """Weighted absolute and squared difference to the rendered portrait, and the absolute difference of
    gradients.
    """
    side = images.shape[-1]
    target = render_chunked(factors, side)
    eyes, mouth = region_masks(factors, side)
    weight = 1 + EYE_WEIGHT * eyes + MOUTH_WEIGHT * mouth  # [N, 1, side, side]
    difference = images - target
    along_x, along_y = difference.diff(dim=3), difference.diff(dim=2)
    edges = (weight[..., 1:] * along_x.abs()).mean() + (weight[..., 1:, :] * along_y.abs()).mean()
    return (weight * (difference.abs() + 4 * difference.square())).mean() + 0.5 * edges


def factor_loss(read: Tensor, factors: Tensor) -> Tensor:
    """Squared error of squashed factors: differences beyond the visible range count little, and the factors
    that move count double.
    """
    weight = torch.ones(NUM_FACTORS, device=factors.device)
    weight[indices(MOVING)] = 2.0
    linear, visible = read - factors, torch.tanh(read / 2) - torch.tanh(factors / 2)
    return (
        weight
        * (0.25 * F.smooth_l1_loss(linear, torch.zeros_like(linear), reduction="none") + 2 * visible.square())
    ).mean()


def render_chunked(factors: Tensor, side: int) -> Tensor:
    """Render 8 portraits at a time, which keeps the planes in a CPU's cache."""
    chunk = 8 if factors.device.type == "cpu" else len(factors)
    return torch.cat([render(part, side) for part in torch.split(factors, chunk)])


def as_filmed(factors: Tensor, draws: torch.Generator) -> Tensor:
    """Portraits as a pipeline crops them from compressed footage: slightly off the exact crop, softer, with
    noise.
    """
    count, device = len(factors), factors.device
    quads = aligned_quads(factors)
    shift = 0.015 * torch.randn(count, 1, 2, generator=draws).to(device)
    quads = quads + shift * (quads[:, 2:3] - quads[:, 0:1]).norm(dim=2, keepdim=True) / 2
    chunks = zip(torch.split(factors, 8), torch.split(quads, 8), strict=True)
    images = torch.cat([render_quad(f, q, SIDE) for f, q in chunks])
    softness = torch.rand(count, 1, 1, 1, generator=draws).to(device)
    images = torch.lerp(images, F.avg_pool2d(images, 3, 1, 1, count_include_pad=False), softness)
    grain = 0.04 * torch.rand(count, 1, 1, 1, generator=draws).to(device)
    return images + grain * torch.randn(images.shape, generator=draws).to(device)


def learning_rate_at(stage: Stage, step: int) -> float:
    """Warm-up over 100 steps, then a half cosine to zero."""
    return (
        stage.learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    )


def train(stage: Stage, work: Path) -> None:
    """Runs a stage to its end, from its last saved state if there is one."""
    optimiser = torch.optim.Adam(stage.parameters(), betas=(0.9, 0.99))
    step = resume(stage, optimiser, work)
    started, losses = time.monotonic(), []
    while step < stage.steps:
        draws = torch.Generator().manual_seed(stage.seed * 10_000_000 + step)
        factors = draw_factors(stage.batch, draws).to(stage.device)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(stage, step)
        optimiser.zero_grad(set_to_none=True)
        loss = stage.loss(step, factors, draws)
        loss.backward()
        nn.utils.clip_grad_norm_(stage.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        step += 1
        if step % SAVE_EVERY_STEPS == 0 or step == stage.steps:
            save(stage, optimiser, work, step)
            rate = len(losses) / (time.monotonic() - started)
            print(
                f"{stage.name} {step}/{stage.steps} loss {sum(losses) / len(losses):.4f} {rate:.2f} steps/s",
                flush=True,
            )
            started, losses = time.monotonic(), []


def save(stage: Stage, optimiser: torch.optim.Optimizer, work: Path, step: int) -> None:
    tensors = {f"network.{k}": v.contiguous() for k, v in stage.network.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
    with written_whole(work / f"{stage.name}.safetensors") as partial:
        save_file(tensors, partial, metadata={"step": str(step), "steps": str(stage.steps)})


def resume(stage: Stage, optimiser: torch.optim.Optimizer, work: Path) -> int:
    file = work / f"{stage.name}.safetensors"
    if not file.exists():
        return 0
    tensors = load_file(file)
    stage.network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return saved_steps(file)[0]


def saved_steps(file: Path) -> tuple[int, int]:
    """The steps that a saved state has done, and the steps that were planned for it."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return int(header["__metadata__"]["step"]), int(header["__metadata__"]["steps"])


def load_network(file: Path) -> dict[str, Tensor]:
    return {k[8:]: v for k, v in load_file(file).items() if k.startswith("network.")}


def wait_until_done(file: Path) -> None:
    """Wait until a stage has finished; the encoder's last part needs the finished generator."""
    while not file.exists() or saved_steps(file)[0] < saved_steps(file)[1]:
        time.sleep(5)


STEPS = {"generator": 10_000, "reader": 9_500, "encoder": 9_000}


def make_stage(name: str, steps: int, work: Path, device: torch.device) -> Stage:
    if name == "generator":
        return GeneratorStage(steps, device)
    if name == "reader":
        return ReaderStage(steps, device)
    return EncoderStage(steps, device, work / "generator.safetensors")


def publish(work: Path, out: Path) -> None:
    """Writes the finished networks as weights folders."""
    for name, folder in (("generator", "generator"), ("reader", "factor_reader"), ("encoder", "encoder")):
        stage = make_stage(name, STEPS[name], work, torch.device("cpu"))
        stage.network.load_state_dict(load_network(work / f"{name}.safetensors"))
        steps = saved_steps(work / f"{name}.safetensors")[0]
        save_weights(
            stage.network,
            out / folder,
            {"program": "svgan_ray.demo.pretrain", "seed": stage.seed, "steps": steps},
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the resumable states")
    parser.add_argument(
        "--stage", choices=list(STEPS), action="append", help="only this stage; may be given more than once"
    )
    parser.add_argument("--steps", type=int, help="steps of each stage, instead of the shipped weights'")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--publish", type=Path, help="write the weights folders here and stop")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.publish:
        return publish(options.work, options.publish)
    options.work.mkdir(parents=True, exist_ok=True)
    device = best_device()
    for name in options.stage or list(STEPS):
        train(make_stage(name, options.steps or STEPS[name], options.work, device), options.work)
    return None


if __name__ == "__main__":
    main()
