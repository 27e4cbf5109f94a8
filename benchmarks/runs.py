"""The cost of logging to a run: time in its calls on the training thread, divided by the time of the steps.

    python benchmarks/runs.py [--steps 400] [--rounds 3]

The demo's recipe is trained on random latents and logged through the journal, as in jobs/train.py. Each round
has four trainings: without logging (the baseline), with a server that answers, with a server that accepts
connections and never answers, and without a server. The weights of all four must have the same bits. The
limit: calls of the run take less than 1 % of the steps' time.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
import torch

from svgan_ray.latents.basis import fit_basis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.orchestration.runtime.journal import RemoteRun, RunKey, start_journal
from svgan_ray.orchestration.train.loop import LOG_EVERY_STEPS
from svgan_ray.runs.server import serve
from svgan_ray.temporal.recipes import demo
from svgan_ray.temporal.training import TrainingState, new_state, train_step

FRAMES, NUM_WS, W_DIM = 1500, 12, 64
WARM_UP_STEPS = 5


def train(steps: int, run: RemoteRun | None) -> tuple[TrainingState, float, float]:
    """Train; returns the final state, the total seconds, and the seconds in calls of the run."""
    w_plus = torch.randn(FRAMES, NUM_WS, W_DIM, generator=torch.Generator().manual_seed(0))
    config = demo()
    basis = fit_basis([w_plus], config.basis_size)
    state, features = new_state(config, basis), basis.project(w_plus)
    index = WindowIndex([(0, FRAMES)], config.window_frames)
    began_s = told_s = 0.0
    while state.step < steps + WARM_UP_STEPS:
        if state.step == WARM_UP_STEPS:
            began_s, told_s = time.perf_counter(), 0.0
        losses = train_step(state, features, index)
        if run is not None and state.step % LOG_EVERY_STEPS == 1:
            values = {f"train/{name}": float(value) for name, value in losses.items()}
            call_s = time.perf_counter()
            run.log_metrics(values, state.step)
            told_s += time.perf_counter() - call_s
    return state, time.perf_counter() - began_s, told_s


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def logged(steps: int, uri: str, name: str) -> tuple[TrainingState, float, float]:
    """Train with a journal that delivers to `uri`."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    journal = start_journal()
    try:
        return train(steps, RemoteRun(journal, RunKey("benchmark", name, "train", name)))
    finally:
        ray.kill(journal)  # events that were not delivered are not needed


def weights_differ(one: TrainingState, other: TrainingState) -> bool:
    """Whether any bit of any weight differs."""
    pairs = zip(one.modules().values(), other.modules().values(), strict=True)
    return any(
        not torch.equal(tensor, b.state_dict()[name])
        for a, b in pairs
        for name, tensor in a.state_dict().items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400, help="steps of each training")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of all cases, one after another")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = os.getcwd()
    shares: dict[str, list[float]] = {"answers": [], "never answers": [], "absent": []}
    ratios: dict[str, list[float]] = {name: [] for name in shares}
    with tempfile.TemporaryDirectory() as folder, connect():
        os.chdir(folder)
        with (
            serve(f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts", log=Path(folder, "log")) as server,
            silent_server() as silent,
        ):
            places = dict(zip(shares, (server, silent, "http://127.0.0.1:9"), strict=True))
            for number in range(options.rounds):
                unlogged, baseline_s, _ = train(options.steps, None)
                for name, uri in places.items():
                    state, total_s, told_s = logged(options.steps, uri, f"{name} {number}")
                    assert not weights_differ(state, unlogged), f"server {name}: the weights differ"
                    shares[name].append(told_s / total_s)
                    ratios[name].append(total_s / baseline_s)
                    print(f"round {number + 1}, server {name}: {told_s / total_s:.3%}", flush=True)
        os.chdir(root)
    print("| server | share of time in calls of the run | time over unlogged | weights |\n|---|---|---|---|")
    for name in shares:
        share, ratio = statistics.median(shares[name]), statistics.median(ratios[name])
        print(f"| {name} | {share:.3%} | {ratio:.2f} | same bits |")


if __name__ == "__main__":
    main()
