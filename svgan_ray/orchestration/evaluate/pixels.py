"""Pictures of generated motion against footage, seen by networks that the user brings: FVD, FID, identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.config import EvaluateConfig
from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.files import written_whole
from svgan_ray.metrics.evaluation import Row
from svgan_ray.metrics.pixels import (
    FVD_CLIPS,
    Networks,
    SnippetFeatures,
    SnippetShape,
    acd,
    fid,
    fvd,
    identity_rows,
    see,
    similarity,
)
from svgan_ray.orchestration.runtime.footage import footage_snippets
from svgan_ray.orchestration.runtime.terminal import shown_progress
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.store import LatentStore, Snapshot
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.metric_networks import load_arcface, load_i3d, load_inception
from svgan_ray.stylegan.weights import load_generator, rendered_hashes, weights_hash
from svgan_ray.temporal.model import MotionModel
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import generate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LoadedNetworks", "PixelReport", "draw_pixels", "evaluate_pixels", "load_networks"]

FACES_SHAPE = FVD_CLIPS["16x8"]
"""Clips on which pictures and faces are measured: five seconds of motion in 16 frames."""
_AT_ONCE = 64
_LOADERS = {"i3d": load_i3d, "inception": load_inception, "arc_face": load_arcface}
_SIDES = {"footage": "#2563a8", "generated": "#c4541b"}


@dataclass(frozen=True)
class PixelReport:
    """The scores by the networks; faces [N, T, E] of both sides if ArcFace was given."""

    rows: tuple[Row, ...]
    faces: dict[str, Tensor]

    def scores(self) -> dict[str, float]:
        """Flat names and values, as a run takes them."""
        return {
            f"{row.measure.lower()}/{row.compared.replace(', ', '/').replace(' ', '_')}": row.value
            for row in self.rows
        }


@dataclass(frozen=True)
class LoadedNetworks:
    """The networks of a folder, and the hash of each by name."""

    networks: Networks
    sha256: dict[str, str]


def load_networks(folder: str, device: torch.device) -> LoadedNetworks:
    """The networks in a folder. Raises ConfigError if it holds none, WeightsError."""
    there = [name for name in _LOADERS if Path(folder, name, "model.json").is_file()]
    if not there:
        raise ConfigError(
            f"--networks {folder}: expected a folder that holds {', '.join(_LOADERS)} or some of them; "
            "jobs/import_weights.py makes it"
        )
    loaded = {name: _LOADERS[name](folder, device) for name in there}
    sha256 = {
        name: getattr(network.config, "sha256", "") or weights_hash(Path(folder, name))
        for name, network in loaded.items()
    }
    return LoadedNetworks(Networks(**loaded), sha256)


def evaluate_pixels(
    config: EvaluateConfig, loaded: LoadedNetworks, model: MotionModel, store: LatentStore, real: Snapshot
) -> PixelReport:
    """Show clips of footage and of generated motion to the networks.

    Raises WeightsError if the weights are not the model's, DataError if the footage is too short, InputError
    if its videos are gone.
    """
    device = model.w_ref.device
    generator_folder = folders_of(config.weights)[0]
    rendered = rendered_hashes(generator_folder)
    if model.generator_sha256 not in rendered:
        raise WeightsError(
            f"--weights {config.weights}: the model belongs to generator {model.generator_sha256[:12]}, "
            f"these weights hold {rendered[0][:12]}"
        )
    generator = load_generator(generator_folder, device)
    side = generator.config.resolution
    rows, faces = list[Row](), dict[str, Tensor]()
    for name, shape in FVD_CLIPS.items():
        networks = _for_shape(config, loaded.networks, name)
        if networks == Networks():
            continue
        clips = {
            "footage": footage_snippets(
                store, real, shape, model.frame_rate_hz, config.clips, config.seed, side
            ),
            "generated": generated_clips(config, model, generator, shape),
        }
        seen = {
            of: see(shown_progress(iterator, f"{of}, clips of {name}", config.clips), networks, device)
            for of, iterator in clips.items()
        }
        rows += _rows(shape, seen, _protocols(config, loaded, shape, model.frame_rate_hz, side, device))
        if networks.arc_face is not None:
            faces = {of: what.faces for of, what in seen.items()}
    return PixelReport(tuple(rows), faces)


def generated_clips(
    config: EvaluateConfig, model: MotionModel, generator: Generator, shape: SnippetShape
) -> Iterator[npt.NDArray[np.uint8]]:
    """`config.clips` clips [T, S, S, 3], each of a sample of its own at a random offset."""
    frames = max(round(config.seconds * model.frame_rate_hz), shape.span_frames)
    random = np.random.default_rng([config.seed, shape.frames, shape.stride])
    for first in range(0, config.clips, _AT_ONCE):
        samples = min(_AT_ONCE, config.clips - first)
        motion = generate(model, samples, frames, seed=1_000_003 * config.seed + first)
        for features in torch.cat(list(motion), dim=1):  # [frames, F]
            start = int(random.integers(frames - shape.span_frames + 1))
            w_plus = model.decode(features[start : start + shape.span_frames : shape.stride])
            yield np.concatenate(list(render(generator, [w_plus])))


def _for_shape(config: EvaluateConfig, networks: Networks, name: str) -> Networks:
    """The networks that are used on snippets of this shape."""
    i3d = networks.i3d if name in config.fvd_clips else None
    if FVD_CLIPS[name] != FACES_SHAPE:
        return Networks(i3d)
    return Networks(i3d, networks.inception, networks.arc_face)


def _rows(shape: SnippetShape, seen: dict[str, SnippetFeatures], protocols: dict[str, str]) -> list[Row]:
    real, generated, rows = seen["footage"], seen["generated"], list[Row]()
    if len(real.motion):
        rows.append(fvd(shape, real.motion, generated.motion, protocols["i3d"]))
    if len(real.pictures):
        rows.append(fid(real.pictures, generated.pictures, protocols["inception"]))
    if len(real.faces):
        rows += identity_rows(real.faces, generated.faces, protocols["arc_face"])
    return rows


def _protocols(
    config: EvaluateConfig,
    loaded: LoadedNetworks,
    shape: SnippetShape,
    rate_hz: float,
    side: int,
    device: torch.device,
) -> dict[str, str]:
    """By network: all that a figure depends on, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    clips = (
        f"n {config.clips} a side, T {shape.frames}, stride {shape.stride}, {rate_hz:g} Hz, {side} px uint8, "
        f"one clip a sample of {config.seconds:g} s at a random offset, footage in {config.clips} parts, one "
        f"clip of each, covariance over N - 1, seed {config.seed}"
    )
    resize = {
        "i3d": "resized by the network",
        "inception": "resized by the network",
        "arc_face": "pooled to 256 px, [35:223, 32:220], pooled to the network's size",
    }
    return {
        network: f"{clips}, {resize[network]}, {network} sha256 {sha256}, {name}"
        for network, sha256 in loaded.sha256.items()
    }


def draw_pixels(report: PixelReport, path: Path) -> None:
    """Write a PNG of distances, identity over a clip, and ACD; whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    distances, course, spread = figure.subplots(1, 3)
    _draw_distances(distances, report)
    _draw_identity(course, report)
    _draw_acd(spread, report)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def _draw_distances(axes: Axes, report: PixelReport) -> None:
    rows = [row for row in report.rows if row.measure in ("FVD", "FID")]
    names = [f"{row.measure}, {row.compared}" for row in rows]
    axes.barh(names, [row.value for row in rows], color="#c4541b")
    axes.invert_yaxis()
    axes.set_title("Distance of generated clips to footage")


def _draw_identity(axes: Axes, report: PixelReport) -> None:
    for side, faces in report.faces.items():
        cosines = similarity(faces, report.faces["footage"])  # [N, T]
        frames = np.arange(cosines.shape[1]) * FACES_SHAPE.stride
        mean, std = cosines.mean(0).numpy(), cosines.std(0).numpy()
        axes.plot(frames, mean, color=_SIDES[side], label=side)
        axes.fill_between(frames, mean - std, mean + std, color=_SIDES[side], alpha=0.2)
    axes.set_title("Likeness to the subject over a clip")
    axes.set_xlabel("frame")
    axes.set_ylabel("cosine")
    if report.faces:
        axes.legend()


def _draw_acd(axes: Axes, report: PixelReport) -> None:
    for side, faces in report.faces.items():
        axes.hist(acd(faces).numpy(), bins=20, color=_SIDES[side], alpha=0.6, label=side)
    axes.set_title("ACD: change of identity within a clip")
    if report.faces:
        axes.legend()
