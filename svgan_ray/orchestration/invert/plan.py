"""The work of an inversion: the named sources, without those that are done or failed in the store."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from svgan_ray.config import InvertConfig
from svgan_ray.errors import StoreAccessError, VideoError
from svgan_ray.files import file_sha256
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.encoding import SYNTHESIS_BATCH
from svgan_ray.orchestration.invert.failures import unread_id
from svgan_ray.orchestration.invert.items import BLOCK_FRAMES, Inversion
from svgan_ray.orchestration.runtime.choosing import Footage, PassedOver, choose
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.store import FailureRecord, LatentStore, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.memory import encoding_bytes, synthesis_bytes
from svgan_ray.stylegan.metric_networks import Lpips
from svgan_ray.stylegan.refinement import RefinementConfig
from svgan_ray.stylegan.weights import (
    load_encoder,
    load_generator,
    network_folder,
    require_pair,
    weights_hash,
)
from svgan_ray.video.alignment import CropParameters
from svgan_ray.video.footage_facts import FootageFacts, conversions
from svgan_ray.video.landmarks import landmark_source
from svgan_ray.video.reading import rules_at_a_glance

__all__ = ["Plan", "footage_of", "inversion_of", "plan_only", "plan_sources"]

DEMO_FOOTAGE = "demo"
PASSED_OVER_SHOWN = 20
_SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """The sources, grouped by what the job will do with them."""

    todo: list[Source] = field(default_factory=list)
    done: list[Source] = field(default_factory=list)
    failed: dict[str, FailureRecord] = field(default_factory=dict)
    """By uri, the sources that failed in earlier runs and are not tried again."""
    earlier_failures: dict[str, FailureRecord] = field(default_factory=dict)
    """The records of failures, by video or clip id."""
    relabelled: list[Source] = field(default_factory=list)
    """Sources that keep the subject of their first tracking although another one is asked for."""
    conversions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By uri, the conversions that a video's first picture needs; only a dry run determines them."""
    passed_over: tuple[PassedOver, ...] = ()
    """Files beside the videos that are not taken."""
    remarks: tuple[str, ...] = ()
    """Notes on whom the videos are assumed to show, if their file names do not tell."""
    subject: str | None = None
    """Whom all videos show, if `--subject` was given."""
    verb: str = "invert"

    def __rich__(self) -> RenderableType:
        table = Table("video", "subject", "plan", box=None)
        for source in self.todo:
            rules = self.conversions.get(source.uri)
            what = f"{self.verb}, converted: {', '.join(rules)}" if rules else self.verb
            table.add_row(source.uri, self.subject or source.subject, what)
        for source in self.done:
            table.add_row(source.uri, "", "in the store already")
        for uri, record in self.failed.items():
            table.add_row(uri, "", f"failed before: {record.reason} (--retry-failures tries again)")
        return Group(table, *self.notes())

    def notes(self) -> list[str]:
        """Notes on choices that the user did not make: subjects, files passed over or converted."""
        shown = [f"passed over: {item.place}: {item.reason}" for item in self.passed_over[:PASSED_OVER_SHOWN]]
        more = len(self.passed_over) - len(shown)
        shown += [f"passed over: {more:,} more"] if more > 0 else []
        counts = conversions(FootageFacts(rules) for rules in self.conversions.values())
        return [*self.remarks, *shown, *([f"files to be converted: {counts}"] if self.conversions else [])]


def inversion_of(config: InvertConfig, store: str) -> Inversion:
    """The settings as ids and in the form that workers need. Raises WeightsError, ConfigError."""
    folders = folders_of(config.weights)
    generator, encoder = load_generator(folders[0]), load_encoder(folders[1])
    require_pair(generator, encoder)
    faces, crop = landmark_source(config.faces, config.face_model), CropParameters()
    tracking = {
        "faces": faces.name,
        "version": faces.version,
        "people": config.people,
        "crop": dataclasses.asdict(crop),
    }
    identity: dict[str, Any] = {
        "generator_sha256": weights_hash(folders[0]),
        "encoder_sha256": weights_hash(folders[1]),
        "batch_frames": config.batch_frames,
        "error_every_frames": config.error_every_frames,
    }
    division: dict[str, Any] = {
        "block_frames": BLOCK_FRAMES,
        "dtype": config.precision,
        "stored_dtype": "float16" if config.float16 else "float32",
    }
    refinement = RefinementConfig(steps=config.refine_steps) if config.refine_steps else None
    if refinement:
        division["refinement"] = dataclasses.asdict(refinement)
    lpips_sha256 = weights_hash(network_folder(Lpips, config.refine_lpips)) if config.refine_lpips else None
    if lpips_sha256:
        division["lpips_sha256"] = lpips_sha256
    return Inversion(
        store=store,
        faces=config.faces,
        face_model_sha256=file_sha256(Path(config.face_model)) if config.face_model else None,
        people=config.people,
        subject=config.subject,
        crop=crop,
        num_ws=encoder.config.num_ws,
        w_dim=encoder.config.w_dim,
        crop_side=encoder.config.input_side,
        tracking_id=content_id({**tracking, "schema": _SCHEMA}),
        inversion_id=content_id({**identity, **division, "schema": _SCHEMA}),
        precision=config.precision,
        cpu_memory_bytes=_cpu_memory_bytes(generator, encoder, config.batch_frames, refinement),
        refinement=refinement,
        float16=config.float16,
        tracks_only=config.until == "tracks",
        lpips_sha256=lpips_sha256,
        **identity,
    )


def _cpu_memory_bytes(
    generator: Generator, encoder: Encoder, batch_frames: int, refinement: RefinementConfig | None
) -> int:
    weights: int = sum(
        tensor.numel() * tensor.element_size()
        for network in (generator, encoder)
        for tensor in network.state_dict().values()
    )
    shown = synthesis_bytes(generator.config, SYNTHESIS_BATCH, with_gradients=refinement is not None)
    return weights + max(shown, encoding_bytes(encoder.config, batch_frames))


def footage_of(config: InvertConfig, render: bool = True) -> Footage:
    """The videos that the config names; the demo's are rendered if they are not there yet."""
    named = [video for video in config.videos if video != DEMO_FOOTAGE]
    if DEMO_FOOTAGE not in config.videos:
        return choose(named)
    paths = demo_footage(render)
    absent = tuple(Source(str(path), 0, "to be rendered") for path in paths if not path.exists())
    present = choose([*named, *(str(path) for path in paths if path.exists())])
    return dataclasses.replace(present, sources=present.sources + absent)


def plan_sources(config: InvertConfig, job: Inversion, store: LatentStore, footage: Footage) -> Plan:
    """Leave out sources that are committed or failed. It reads only listings and the records of failures."""
    video_ids = store.sources()
    tracks = store.track_outlines(job.tracking_id)
    committed = store.committed_ids(job.inversion_id)
    failures = store.failures(job.tracking_id) | store.failures(job.inversion_id)
    plan = _empty_plan(config, footage, failures)
    for source in footage.sources:
        video_id = video_ids.get(source.id, "")
        track = tracks.get(video_id)
        if track and job.tracks_only:
            outcomes = []
        elif track:
            outcomes = [failures.get(clip_id) for clip_id in track.clip_ids if clip_id not in committed]
        else:  # a process may have died before or after it knew the video id
            outcomes = [failures.get(video_id) or failures.get(unread_id(source))]
        failed = [failure for failure in outcomes if failure]
        if not outcomes:
            plan.done.append(source)
        elif len(failed) < len(outcomes) or config.retry_failures:
            plan.todo.append(source)
        else:
            plan.failed[source.uri] = failed[0]
        asked_for = config.subject or source.label
        if track and asked_for is not None and not track.shows(asked_for):
            plan.relabelled.append(source)
    return plan


def _empty_plan(config: InvertConfig, footage: Footage, failures: dict[str, FailureRecord]) -> Plan:
    remarks = () if config.subject else tuple(footage.remarks())
    return Plan(
        earlier_failures=failures,
        passed_over=footage.passed_over,
        remarks=remarks,
        subject=config.subject,
        verb="track" if config.until == "tracks" else "invert",
    )


def plan_only(config: InvertConfig) -> Plan:
    """The plan of a dry run, which creates neither a store nor footage."""
    place = durable(config.store, "--store")
    job, footage = inversion_of(config, place), footage_of(config, render=False)
    try:
        plan = plan_sources(config, job, open_store(place), footage)
    except StoreAccessError:  # there is no store yet
        plan = dataclasses.replace(_empty_plan(config, footage, {}), todo=list(footage.sources))
    return dataclasses.replace(plan, conversions=_conversions_of(plan.todo))


def _conversions_of(sources: list[Source]) -> dict[str, tuple[str, ...]]:
    """The conversions by uri, of files on this machine; tracking reports files that cannot be read."""
    found = {}
    for source in sources:
        if Path(source.uri).is_file():
            with suppress(VideoError):
                found[source.uri] = rules_at_a_glance(source.uri)
    return {uri: rules for uri, rules in found.items() if rules}
