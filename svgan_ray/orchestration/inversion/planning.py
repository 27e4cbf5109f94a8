"""What an inversion has to do: the sources that are named, minus those that the store shows to be done or failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table

from svgan_ray.config import InvertConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.inversion.demo_footage import demo_footage
from svgan_ray.orchestration.inversion.items import BLOCK_FRAMES, Inversion, Source
from svgan_ray.orchestration.inversion.sources import expand
from svgan_ray.store import FailureRecord, LatentStore, TrackRecord
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders, weights_hash
from svgan_ray.video.alignment import CropParameters
from svgan_ray.video.landmarks import landmark_source

__all__ = ["Plan", "describe", "inversion_of", "plan_sources"]

DEMO_FOOTAGE = "demo"
_SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """Sources by what is to be done with them."""

    todo: tuple[Source, ...]
    done: tuple[Source, ...]
    failed: dict[str, FailureRecord]  # by uri; failed in earlier runs and left alone now
    earlier_failures: dict[str, FailureRecord]  # by video or clip id
    relabelled: tuple[str, ...]

    def __rich__(self) -> Table:
        table = Table("video", "plan", box=None)
        for source in self.todo:
            table.add_row(source.uri, "invert")
        for source in self.done:
            table.add_row(source.uri, "in the store already")
        for uri, record in self.failed.items():
            table.add_row(uri, f"failed before: {record.reason} (--retry-failures tries again)")
        return table


def inversion_of(config: InvertConfig, store: str) -> Inversion:
    """The settings as ids and folders. Raises WeightsError, ConfigError."""
    generator_folder, encoder_folder = weights_folders(config.weights)
    generator, encoder = load_generator(generator_folder), load_encoder(encoder_folder)
    shapes = [(generator.config.num_ws, generator.config.w_dim), (encoder.config.num_ws, encoder.config.w_dim)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"weights {config.weights}: the generator takes [num_ws, w_dim] = {list(shapes[0])}, "
            f"the encoder gives {list(shapes[1])}; take a pair that belongs together"
        )
    crop = CropParameters()
    faces = landmark_source(config.faces)
    hashes = {"generator": weights_hash(generator_folder), "encoder": weights_hash(encoder_folder)}
    batches = {"batch_frames": config.batch_frames, "block_frames": BLOCK_FRAMES}
    return Inversion(
        store=store,
        faces=config.faces,
        subject=config.subject,
        crop=crop,
        generator_folder=str(generator_folder),
        encoder_folder=str(encoder_folder),
        generator_sha256=hashes["generator"],
        encoder_sha256=hashes["encoder"],
        num_ws=shapes[0][0],
        w_dim=shapes[0][1],
        crop_side=encoder.config.input_side,
        batch_frames=config.batch_frames,
        error_every_frames=config.error_every_frames,
        tracking_id=content_id(
            {"faces": faces.name, "version": faces.version, "crop": dataclasses.asdict(crop), "schema": _SCHEMA}
        ),
        inversion_id=content_id(
            {**hashes, **batches, "error_every_frames": config.error_every_frames, "schema": _SCHEMA}
        ),
    )


def sources_of(config: InvertConfig) -> list[Source]:
    """The videos that the config names; the demo's are rendered if they are not there yet."""
    named = [video for video in config.videos if video != DEMO_FOOTAGE]
    rendered = demo_footage() if DEMO_FOOTAGE in config.videos else []
    return expand([*named, *map(str, rendered)])


def plan_sources(config: InvertConfig, job: Inversion, store: LatentStore, sources: list[Source]) -> Plan:
    """Subtract what is committed or has failed; costs listings and track records, reads no footage."""
    video_ids = store.sources()
    tracks = {record.video_id: record for record in store.tracks(job.tracking_id)}
    committed = store.committed_ids(job.inversion_id)
    failures = store.failures(job.tracking_id) | store.failures(job.inversion_id)
    todo, done, failed = [], [], {}
    for source in sources:
        video_id = video_ids.get(source.id, content_id({"uri": source.uri}))
        closing = [f for i in _ids(video_id, tracks.get(video_id)) if (f := failures.get(i))]
        if video_id in tracks and all(c.clip_id in committed for c in tracks[video_id].clips):
            done.append(source)
        elif closing and not config.retry_failures and _is_closed(video_id, tracks, committed, failures):
            failed[source.uri] = closing[0]
        else:
            todo.append(source)
    relabelled = tuple(_relabelled(config, sources, video_ids, tracks))
    return Plan(tuple(todo), tuple(done), failed, failures, relabelled)


def _ids(video_id: str, track: TrackRecord | None) -> list[str]:
    return [video_id, *(clip.clip_id for clip in (track.clips if track else ()))]


def _is_closed(
    video_id: str, tracks: dict[str, TrackRecord], committed: set[str], failures: dict[str, FailureRecord]
) -> bool:
    """Whether nothing of a video is left to try."""
    if video_id not in tracks:
        return video_id in failures
    return all(clip.clip_id in committed or clip.clip_id in failures for clip in tracks[video_id].clips)


def _relabelled(
    config: InvertConfig, sources: list[Source], video_ids: dict[str, str], tracks: dict[str, TrackRecord]
) -> Iterator[str]:
    """The subject of a video is set when it is first tracked; say so where another one is asked for."""
    for source in sources:
        track = tracks.get(video_ids.get(source.id, ""))
        if track and config.subject and track.subject != config.subject:
            yield f"{source.uri} stays labelled {track.subject!r}, as when it was first inverted"


def describe(config: InvertConfig) -> Plan:
    """The plan of a dry run."""
    raise NotImplementedError
