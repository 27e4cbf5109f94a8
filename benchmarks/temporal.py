"""The speed of a training step, compared with a plain implementation of the same losses.

The setting is batch 16, window 24, 64 coefficients, a critic 64-256-128-32, the published generator, and the
published losses at every step: gradient penalty, gradient angle penalty, one Adam step for each network,
moving average. Both forms start from the same weights and get the same windows and noise. The gradients of
the first step are compared. Then both forms run in turns, with one thread and with several; on a GPU, with
operations launched one by one and as CUDA graphs. The target is 3 times the sequences per second of the
faster plain form.

    python benchmarks/temporal.py [--rounds 7] [--steps 10] [--threads 1 --cpu-time] [--device cpu]
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from svgan_ray.latents.basis import fit_basis
from svgan_ray.latents.windows import WindowIndex, gather, seeded
from svgan_ray.temporal.background import InlineExecutor, one_thread_an_operation, second_thread
from svgan_ray.temporal.recipes import CriticOptions, TemporalConfig
from svgan_ray.temporal.recording import OneByOne
from svgan_ray.temporal.training import TrainingState, new_state, train_step

COEFFICIENTS, FRAMES = 64, 5000
CONFIG = TemporalConfig(
    basis_size=COEFFICIENTS,
    window_frames=24,
    batch_size=16,
    critic=CriticOptions(frame_widths=(256, 128, 32)),
)


class Plain:
    """One step as plain equations: a loop over frames and layers, one critic pass for each set of windows,
    all derivatives by autograd; Adam and the average process one tensor at a time.
    """

    def __init__(self, state: TrainingState) -> None:
        self.config = state.config
        self.generator, self.critic = copy.deepcopy(state.generator), copy.deepcopy(state.critic)
        self.average = copy.deepcopy(state.ema)
        self.critic.frame = nn.Sequential(*self.critic.frame)  # matrix products, as they are written
        self.generator.output[-1] = nn.Sequential(*self.generator.output[-1])
        for part in (*self.generator.modules(), *self.critic.modules()):
            if isinstance(part, nn.LeakyReLU):
                part.inplace = False
        self.mean, self.variance = state.hidden_change.mean.clone(), state.hidden_change.variance.clone()
        self.step = 0
        options = self.config.optimiser
        self.generator_optimiser, self.critic_optimiser = (
            torch.optim.Adam(network.parameters(), rate, options.betas, foreach=False)
            for network, rate in (
                (self.generator, options.generator_learning_rate),
                (self.critic, options.critic_learning_rate),
            )
        )

    def recur(self, noise: Tensor) -> Tensor:
        """Noise [N, T, 32] to the top layer's outputs [N, T, 32]."""
        first = noise[:, 0]
        states = [*self.generator.initial(first).chunk(3, dim=1), first]
        outputs = [first]
        for t in range(1, noise.shape[1]):
            x = noise[:, t]
            for i, layer in enumerate(self.generator.layers):
                x = states[i] = layer(x, states[i])
            outputs.append(x)
        return torch.stack(outputs, dim=1)

    def __call__(self, features: Tensor, index: WindowIndex) -> None:
        config, loss = self.config, self.config.loss
        starts = index.draw(config.seed, self.step, config.batch_size)
        real = gather(features, starts, index.window)
        mix, noise = draw(config, self.step)
        mix, noise = mix.to(real), noise.to(real).requires_grad_()
        hidden = self.recur(noise)
        fake = self.generator.output(hidden)

        between = torch.lerp(real, fake.detach(), mix[:, None, None]).requires_grad_()
        scores = self.critic(between).sum()
        (slope,) = torch.autograd.grad(scores, between, create_graph=True)
        penalty = ((slope.square().sum((1, 2)) + 1e-12).sqrt() - 1).square()
        gap = self.critic(fake.detach()) - self.critic(real)
        self.critic_optimiser.zero_grad()
        (gap + loss.critic_penalty_weight * penalty).mean().backward(inputs=list(self.critic.parameters()))
        self.critic_optimiser.step()

        change = hidden[:, -1] - hidden[:, 0]
        self.standardise(change.detach())
        distance = ((change - self.mean) / (self.variance + 1e-8).sqrt()).square().sum(1).add(1e-12).sqrt()
        (slope,) = torch.autograd.grad(distance.sum(), noise, create_graph=True)
        later, first = ((part.square().sum((1, 2)) + 1e-12).sqrt() for part in (slope[:, 1:], slope[:, :1]))
        angle = (torch.atan2(later, first) - math.pi / 4).clamp(max=0).square()
        self.generator_optimiser.zero_grad()
        total = (loss.angle_penalty_weight * angle - self.critic(fake)).mean()
        total.backward(inputs=list(self.generator.parameters()))
        self.generator_optimiser.step()
        self.step += 1
        with torch.no_grad():
            current = self.generator.state_dict()
            for name, value in self.average.state_dict().items():
                value.lerp_(current[name], 1 - config.ema_decay)

    def standardise(self, change: Tensor) -> None:
        """Update mean and variance of the change over a window; first batches count as in an average."""
        share = max(1 / (self.step + 1), 0.005)
        self.mean.lerp_(change.mean(0), share)
        self.variance.lerp_(change.var(0, unbiased=False), share)


def draw(config: TemporalConfig, step: int) -> tuple[Tensor, Tensor]:
    """The mixing weights and the noise of a step, drawn as in training."""
    random = seeded("noise", config.seed, step)
    mix = torch.rand(config.batch_size, generator=random)
    return mix, torch.randn(config.batch_size, config.window_frames, 32, generator=random)


def largest_difference(state: TrainingState, plain: Plain) -> float:
    """The largest difference between both forms' last gradients, over the network's largest gradient."""
    differences = []
    for one, other in ((state.generator, plain.generator), (state.critic, plain.critic)):
        ours, theirs = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (one, other))
        differences.append(float((ours - theirs).abs().max() / theirs.abs().max()))
    return max(differences)


def both_forms(device: str, dtype: torch.dtype) -> tuple[TrainingState, Plain, Tensor, WindowIndex]:
    """A new state, the plain form with the same weights, and random latents as training data."""
    w_plus = torch.randn(FRAMES, 12, 64, generator=torch.Generator().manual_seed(0))
    basis = fit_basis([w_plus], COEFFICIENTS).to(device, dtype)
    features = basis.project(w_plus.to(device, dtype))
    state = new_state(CONFIG, basis, device, dtype=dtype)
    return state, Plain(state), features, WindowIndex([(0, FRAMES)], CONFIG.window_frames)


class Form(NamedTuple):
    """A function that makes a step, and the number of threads for each of its operations."""

    step: Callable[[], object]
    threads: int


def forms_on_cpu(
    state: TrainingState, plain: Callable[[], object], *data: Any, threads: int
) -> dict[str, Form]:
    """The forms with one thread, and as in a training worker with several cores."""
    forms = {}
    for count in sorted({1, threads}):
        name = f"{count} thread{'s' if count > 1 else ''}"
        forms[f"plain, {name}"] = Form(plain, count)
        executor = second_thread() if count > 1 else InlineExecutor()  # as `background_executor` chooses
        ours = dataclasses.replace(state, background=executor)
        forms[f"svgan-ray, {name}"] = Form(partial(train_step, ours, *data), 1)
    return forms


def forms_on_gpu(state: TrainingState, plain: Callable[[], object], *data: Any) -> dict[str, Form]:
    """The forms launched one by one, and as CUDA graphs, as in a training worker with a GPU."""
    one_by_one = dataclasses.replace(state, recorder=OneByOne())
    return {
        "plain": Form(plain, 1),
        "svgan-ray, one by one": Form(partial(train_step, one_by_one, *data), 1),
        "svgan-ray, CUDA graphs": Form(partial(train_step, state, *data), 1),
    }


def seconds_a_step(step: Callable[[], object], steps: int, clock: Callable[[], float]) -> float:
    began_s = clock()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (clock() - began_s) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of both forms; medians are printed")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count the process's CPU time: for a machine in use by others"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    state, plain, features, index = both_forms(options.device, torch.float32)
    plain(features, index)
    train_step(state, features, index)
    print(f"largest difference of the first gradients: {largest_difference(state, plain):.1e}")
    plainly, data = partial(plain, features, index), (features, index)
    if torch.device(options.device).type == "cuda":
        forms = forms_on_gpu(state, plainly, *data)
    else:
        forms = forms_on_cpu(state, plainly, *data, threads=options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    with one_thread_an_operation():  # as a training has it; `measured` sets the threads of each form
        print_table(measured(forms, options.rounds, options.steps, clock))


def measured(
    forms: dict[str, Form], rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """The seconds per step of each form in each round."""
    for form in forms.values():
        seconds_a_step(form.step, 3, clock)  # memory that is made once, and on a GPU the recording
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            torch.set_num_threads(form.threads)
            times[name].append(seconds_a_step(form.step, steps, clock))
    return times


def print_table(times: dict[str, list[float]]) -> None:
    """Print medians of the times, and of the ratios to the faster plain form in the same round."""
    plain = [
        min(turns) for turns in zip(*(v for k, v in times.items() if k.startswith("plain")), strict=True)
    ]
    print("| form | ms a step | steps/s | sequences/s | over plain |\n|---|---|---|---|---|")
    for name, values in times.items():
        step_s = statistics.median(values)
        ratio = statistics.median(p / v for p, v in zip(plain, values, strict=True))
        print(
            f"| {name} | {1e3 * step_s:.1f} | {1 / step_s:.1f} | {CONFIG.batch_size / step_s:.0f} | "
            f"{ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
