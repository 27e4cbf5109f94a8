"""The stages of an inversion called one after the other in this process, as a plain program would."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import (
    BLOCK_FRAMES,
    Block,
    Inversion,
)
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.plan import Plan, inversion_of, plan_sources
from svgan_ray.orchestration.invert.report import InvertReport, report_of
from svgan_ray.orchestration.runtime.choosing import choose
from svgan_ray.orchestration.runtime.weights import publish_networks
from svgan_ray.store import LatentStore


def config_for(footage: Path, weights: Path, store: LatentStore, **changes: object) -> InvertConfig:
    config = InvertConfig(videos=(str(footage),), store=store.uri, weights=str(weights), batch_frames=8)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def plan_for(config: InvertConfig, store: LatentStore) -> tuple[Plan, Inversion]:
    job = inversion_of(config, store.uri)
    publish_networks(store, config)
    return plan_sources(config, job, store, choose(config.videos)), job


def run(config: InvertConfig, store: LatentStore, die_after_chunks: int | None = None) -> InvertReport:
    """Do what the job does, in one process."""
    plan, job = plan_for(config, store)
    ledger, encoder = Ledger(store, job, plan.earlier_failures), BlockEncoder(job, store, "here")
    settled = frozenset() if config.retry_failures else frozenset(plan.earlier_failures)
    for source in plan.todo:
        for item in track_source(job, source, settled):
            if isinstance(item, Block):
                if die_after_chunks is not None and ledger.encoded_frames >= die_after_chunks * BLOCK_FRAMES:
                    raise KeyboardInterrupt
                item = encoder(crop_block(item, job.crop_side))
            ledger.take(item)
    ledger.settle()
    assert all(ledger.is_settled(source) for source in plan.todo)
    return report_of(config, plan, ledger, 1.0)


def track_only(footage: Path, weights: Path, store: LatentStore) -> InvertReport:
    """Do what the job does with `--until tracks`."""
    config = config_for(footage, weights, store, until="tracks")
    plan, job = plan_for(config, store)
    ledger = Ledger(store, job, plan.earlier_failures)
    for source in plan.todo:
        for item in track_source(job, source, frozenset()):
            ledger.take(item)
    assert all(ledger.is_settled(source) for source in plan.todo)
    return report_of(config, plan, ledger, 1.0)
