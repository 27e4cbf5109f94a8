"""Inversion on Ray Data: track (CPU tasks) -> crop blocks (CPU tasks) -> encode (actors) -> commit (driver).

Every stage passes failures on as rows. If a process dies, its rows are run again at the end, each in a
process of its own; if that process dies, too, its video or clip has failed. If a machine is lost with rows
that other stages wait for, the remaining work is planned anew. So each clip ends committed or failed.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Generator
from contextlib import closing

import ray
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RaySystemError,
    WorkerCrashedError,
)

from svgan_ray.config import InvertConfig
from svgan_ray.errors import ClusterError
from svgan_ray.orchestration.invert.items import Inversion, Item
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.page import report_page
from svgan_ray.orchestration.invert.plan import Plan, footage_of, inversion_of, plan_only, plan_sources
from svgan_ray.orchestration.invert.progress import Progress
from svgan_ray.orchestration.invert.report import InvertReport, reconstruction_sheet, report_of
from svgan_ray.orchestration.invert.stream import Resources, encoder_resources, run_isolated, stream
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.machines import (
    await_room,
    label_selector,
    processors_of,
)
from svgan_ray.orchestration.runtime.settings import log_settings
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.orchestration.runtime.start import started
from svgan_ray.orchestration.runtime.terminal import print_line
from svgan_ray.orchestration.runtime.weights import publish_networks
from svgan_ray.runs import Run, open_run
from svgan_ray.runs.run import Kind
from svgan_ray.store import open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.memory import require_memory

__all__ = ["plan", "run"]

LOST_MACHINE_ERRORS = (
    ObjectLostError,
    NodeDiedError,
    RayActorError,
    RaySystemError,
    WorkerCrashedError,
    ExecutionTimeoutError,
)
"""Errors that end a stream when a machine is lost: its rows are gone, or the remaining stages do not
progress."""
MAX_PASSES = 2
"""After this many streams that ran to their end, each remaining source and block gets its own process."""
MAX_FRUITLESS_RESTARTS = 3
"""An inversion ends when this many streams in a row were lost before anything was done."""


def plan(config: InvertConfig) -> Plan:
    """The plan of `run`, which creates neither a store nor footage."""
    return plan_only(config)


def run(config: InvertConfig) -> InvertReport:
    """Invert the videos that `config.videos` names and that are not in the store yet."""
    began_s = time.monotonic()
    store = open_store(durable(config.store, "--store"), create=True)
    job = inversion_of(config, store.uri)
    plan = plan_sources(config, job, store, footage_of(config))
    ledger = Ledger(store, job, plan.earlier_failures)
    if not plan.todo:
        return report_of(config, plan, ledger, time.monotonic() - began_s)
    networks = publish_networks(store, config)
    made = {"tracking_id": job.tracking_id} if job.tracks_only else {"inversion_id": job.inversion_id}
    identity = content_id({**made, "store": store.uri})
    with started(store.uri, networks, config.machines):
        encoder = encoder_resources(config)
        _require_memory(config, job, encoder)
        name = f"{plan.verb} {identity[:8]}"
        kind: Kind = "track" if job.tracks_only else "invert"
        with open_run(config.experiment, name, kind, identity) as run:
            log_settings(run, config)
            _work_through(config, plan, ledger, run, encoder)
            duration_s = time.monotonic() - began_s
            report = report_of(config, plan, ledger, duration_s, processors_of(config.machines))
            _log_report(run, ledger, report)
    return report


def _require_memory(config: InvertConfig, job: Inversion, encoder: Resources) -> None:
    """Raise MachineError, from a process where an encoder would run, before any work begins."""
    if "num_gpus" not in encoder and not job.tracks_only:
        check = ray.remote(**encoder, label_selector=label_selector(config.machines))(require_memory)
        ray.get(check.remote(job.cpu_memory_bytes, f"encoding with {config.weights}"))


def _work_through(config: InvertConfig, plan: Plan, ledger: Ledger, run: Run, encoder: Resources) -> None:
    excluded = frozenset() if config.retry_failures else frozenset(plan.earlier_failures)
    fruitless, passes = 0, 0
    with closing(ledger), Progress(ledger, run) as progress:
        while todo := _unsettled(plan, ledger):
            recorded_before = ledger.recorded_items
            loss = _consume_until_loss(stream(config, ledger.job, todo, excluded, encoder), ledger, progress)
            passes += loss is None
            is_fruitless = ledger.recorded_items == recorded_before
            if loss is None and (passes == MAX_PASSES or is_fruitless):
                break  # the remaining work kills every process that tries it
            fruitless = fruitless + 1 if is_fruitless else 0
            if left := _unsettled(plan, ledger):
                _report_restart(loss, len(left), fruitless)
                await_room(encoder, config.machines)
            config = _with_fewer_actors(config)
        _consume(
            run_isolated(config, ledger.job, _unsettled(plan, ledger), excluded, encoder), ledger, progress
        )


def _consume_until_loss(
    items: Generator[Item, None, None], ledger: Ledger, progress: Progress
) -> Exception | None:
    """Record all items; returns the error of a lost machine that ended the stream early, if one did."""
    try:
        _consume(items, ledger, progress)
    except LOST_MACHINE_ERRORS as loss:
        ledger.settle()
        return loss
    return None


def _report_restart(loss: Exception | None, left: int, fruitless: int) -> None:
    """Print why the work begins again; raises ClusterError after too many restarts without progress."""
    if loss is None:
        print_line(f"worker processes died while they worked on {left} videos; the lost work is planned anew")
        return
    cause = f"{type(loss).__name__}: {' '.join(str(loss).split())}"
    if fruitless < MAX_FRUITLESS_RESTARTS:
        print_line(f"machines or encoders were lost; the remaining work is planned anew ({cause})")
        return
    raise ClusterError(
        f"machines or encoders were lost {fruitless} times in a row without any progress. Committed "
        "clips stay in the store. Find out what is wrong with the machines (jobs/doctor.py), then run the "
        f"same command again ({cause})"
    ) from loss


def _consume(items: Generator[Item, None, None], ledger: Ledger, progress: Progress) -> None:
    with closing(items):  # an error frees the cluster
        for item in items:
            ledger.take(item)
            progress.update()
    ledger.settle()
    progress.update()


def _unsettled(plan: Plan, ledger: Ledger) -> list[Source]:
    return [source for source in plan.todo if not ledger.is_settled(source)]


def _with_fewer_actors(config: InvertConfig) -> InvertConfig:
    """Let the next stream begin with one encoder, because lost machines may not come back."""
    if config.actor_range is None:
        return config
    return dataclasses.replace(config, actors=f"1:{config.actor_range[1]}")


def _log_report(run: Run, ledger: Ledger, report: InvertReport) -> None:
    run.set_tags({"store": report.store})
    if not report.tracks_only:
        run.link({"inversion": report.inversion_id})
    run.log_metrics(report.metrics(), step=report.frames_encoded)
    typical = list(ledger.typical.values())
    for name, pairs in (("reconstructions", typical), ("worst frames", ledger.worst)):
        if pairs:
            run.log_image(reconstruction_sheet(pairs), name, step=report.frames_encoded)
    page = report_page(report, ledger.most_jittery, typical, ledger.worst)
    run.log_file("invert_report.html", page.encode())
    run.log_file("invert_report.json", json.dumps(dataclasses.asdict(report), indent=2).encode())
