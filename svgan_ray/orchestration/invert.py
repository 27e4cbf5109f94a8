"""Inversion on Ray Data: track (CPU tasks) -> crop blocks (CPU tasks) -> encode (actors) -> commit (driver).

Every stage hands failures on as rows. What a dying process takes with it is run again alone at the end; a
second death is that video's or clip's failure. Where a machine goes with rows that others wait for, the rest
is planned anew. So each clip ends committed or failed, none is lost silently.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Any

import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.annotations import RayDeprecationWarning

from svgan_ray.config import InvertConfig
from svgan_ray.errors import ClusterError
from svgan_ray.orchestration.cluster import durable
from svgan_ray.orchestration.inversion.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.inversion.failures import clip_failure, source_failure
from svgan_ray.orchestration.inversion.items import Block, Crops, Inversion, Item, Source
from svgan_ray.orchestration.inversion.ledger import Ledger
from svgan_ray.orchestration.inversion.page import report_page
from svgan_ray.orchestration.inversion.planning import Plan, inversion_of, plan_sources, sources_of
from svgan_ray.orchestration.inversion.progress import Progress
from svgan_ray.orchestration.inversion.report import InvertReport, reconstruction_sheet, report_of
from svgan_ray.orchestration.inversion.tracking import track_source
from svgan_ray.orchestration.machines import (
    actors_that_fit,
    await_room,
    label_selector,
    processors_of,
    resources_of,
    say,
)
from svgan_ray.orchestration.settings import log_settings
from svgan_ray.orchestration.start import started
from svgan_ray.orchestration.weights import publish_networks
from svgan_ray.store import open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.memory import require_memory
from svgan_ray.tracking import Tracker, open_tracker

__all__ = ["invert"]

Row = dict[str, Any]
Resources = dict[str, Any]

TRACK_CPUS, CROP_CPUS, ENCODE_CPUS = 0.39, 0.59, 0.01
"""One core holds one of each; they differ so that Ray Data runs the stages apart, not fused into one task. An
encoder keeps its share and moves when its machine is lost: it must leave room for those who feed it."""
ALONE_CPUS = 0.5
"""Of an encoder that tracks, crops and encodes by itself."""
NO_PROGRESS_TIMEOUT_S = 600
CALLS_PER_ACTOR = 2
LOSSES = (
    ObjectLostError,
    NodeDiedError,
    RayActorError,
    RaySystemError,
    WorkerCrashedError,
    ExecutionTimeoutError,
)
"""What ends a stream where a machine went: rows that nobody else has, or a standstill among what is left."""
MAX_PASSES = 2
"""What is left after so many streams that came to their end is done a process for each source and block."""
MAX_FRUITLESS_LOSSES = 3
"""So many in a row, with nothing done between them, are not the fate of machines that come and go."""


def invert(config: InvertConfig) -> InvertReport:
    """Invert what `config.videos` names and the store does not hold yet."""
    began_s = time.monotonic()
    store = open_store(durable(config.store, "--store"), create=True)
    job = inversion_of(config, store.uri)
    plan = plan_sources(config, job, store, sources_of(config))
    ledger = Ledger(store, job, plan.earlier_failures)
    if not plan.todo:
        return report_of(config, plan, ledger, time.monotonic() - began_s)
    networks = publish_networks(store, config)
    identity = content_id({"inversion_id": job.inversion_id, "store": store.uri})
    with started(store.uri, networks, config.machines):
        encoder = encoder_resources(config)
        _require_memory(config, job, encoder)
        with open_tracker(config.experiment, f"invert {identity[:8]}", "invert", identity) as tracker:
            log_settings(tracker, config)
            _work_through(config, plan, ledger, tracker, encoder)
            duration_s = time.monotonic() - began_s
            report = report_of(config, plan, ledger, duration_s, processors_of(config.machines))
            _log_report(tracker, ledger, report)
    return report


def _require_memory(config: InvertConfig, job: Inversion, encoder: Resources) -> None:
    """Raises MachineError, from a process where an encoder would be, before anything begins."""
    if "num_gpus" not in encoder:
        check = ray.remote(**encoder, label_selector=label_selector(config.machines))(require_memory)
        ray.get(check.remote(job.cpu_memory_bytes, f"encoding with {config.weights}"))


def _work_through(
    config: InvertConfig, plan: Plan, ledger: Ledger, tracker: Tracker, encoder: Resources
) -> None:
    closed = frozenset() if config.retry_failures else frozenset(plan.earlier_failures)
    fruitless, passes = 0, 0
    with closing(ledger), Progress(ledger, tracker) as progress:
        while todo := _unsettled(plan, ledger):
            booked = ledger.booked
            loss = _passed(stream(config, ledger.job, todo, closed, encoder), ledger, progress)
            passes += loss is None
            is_fruitless = ledger.booked == booked
            if loss is None and (passes == MAX_PASSES or is_fruitless):
                break  # what is left ends the processes that work on it
            fruitless = fruitless + 1 if is_fruitless else 0
            if left := _unsettled(plan, ledger):
                _go_on_or_give_up(loss, len(left), fruitless)
                await_room(encoder, config.machines)
            config = _whatever_is_left(config)
        _book(one_by_one(config, ledger.job, _unsettled(plan, ledger), closed, encoder), ledger, progress)


def _passed(items: Generator[Item, None, None], ledger: Ledger, progress: Progress) -> Exception | None:
    """What ended the stream before its end, if anything did."""
    try:
        _book(items, ledger, progress)
    except LOSSES as loss:
        ledger.settle()
        return loss
    return None


def _go_on_or_give_up(loss: Exception | None, left: int, fruitless: int) -> None:
    """Say why the work begins again; raises ClusterError where it did so too often without getting on."""
    if loss is None:
        say(f"processes ended with what they had at hand of {left} videos, which is planned anew")
        return
    cause = f"{type(loss).__name__}: {' '.join(str(loss).split())}"
    if fruitless < MAX_FRUITLESS_LOSSES:
        say(f"machines or encoders were lost, the rest is planned anew ({cause})")
        return
    raise ClusterError(
        f"machines or encoders were lost {fruitless} times in a row with nothing done between; what is "
        "committed stays: see what ails the machines (jobs/doctor.py), then run the same command again "
        f"({cause})"
    ) from loss


def _book(items: Generator[Item, None, None], ledger: Ledger, progress: Progress) -> None:
    with closing(items):  # an error frees the cluster
        for item in items:
            ledger.take(item)
            progress.update()
    ledger.settle()
    progress.update()


def _unsettled(plan: Plan, ledger: Ledger) -> list[Source]:
    return [source for source in plan.todo if not ledger.is_settled(source)]


def _whatever_is_left(config: InvertConfig) -> InvertConfig:
    """Work begins with one encoder: those on machines that are gone need not come back."""
    if config.actor_range is None:
        return config
    return dataclasses.replace(config, actors=f"1:{config.actor_range[1]}")


def stream(
    config: InvertConfig, job: Inversion, sources: list[Source], closed: frozenset[str], encoder: Resources
) -> Generator[Item, None, None]:
    """Whatever becomes of the sources, as it becomes ready; the rows of a process that dies are missing."""
    configure_data(label_selector(config.machines))
    rows = ray.data.from_items([{"item": source} for source in sources], override_num_blocks=len(sources))
    blocks = contained(rows.flat_map, _track_row, fn_args=(job, closed), num_cpus=TRACK_CPUS)
    crops = contained(blocks.map, _crop_row, fn_args=(job,), num_cpus=CROP_CPUS)
    names: list[str] = []
    encoders: dict[str, Any] = {
        "compute": encoder_pool(
            *(config.actor_range or (1, actors_that_fit(encoder.get("num_gpus", 0), config.machines)))
        ),
        "ray_remote_args_fn": lambda: {"name": _new_name(names)},
        **encoder,
    }
    try:
        for row in contained(crops.map, _EncodeRow, fn_constructor_args=(job,), **encoders).iter_rows():
            yield row["item"]
    finally:
        _end(names)


def _new_name(names: list[str]) -> str:
    names.append(f"encoder {uuid.uuid4().hex}")
    return names[-1]


def _end(names: list[str]) -> None:
    """An encoder that just moves to another machine outlives its stream, and keeps its share of a GPU."""
    for name in names:
        with suppress(ValueError):  # it has ended
            ray.kill(ray.get_actor(name))


def configure_data(labels: dict[str, str]) -> None:
    """Ray Data drops a block whose process died and goes on; a standstill is reported within minutes.

    All work is for machines with these labels.
    """
    context = ray.data.DataContext.get_current()
    context.execution_options.label_selector = labels or None
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = 3
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    context.target_max_block_size = 1  # a row a block: each is scheduled, and lost, by itself
    context.enable_fallback_to_arrow_object_ext_type = True  # rows hold dataclasses, not columns of numbers
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def contained(stage: Callable[..., ray.data.Dataset], work: Any, **options: Any) -> ray.data.Dataset:
    """A stage that gives up rows whose process dies; by default Ray tries them again for ever."""
    # An actor comes back, its rows do not: where its node is gone, they would wait for another to come up.
    # Nor do a task's: with retries, but not for ever, Ray ends the driver where a machine goes whose rows a
    # task on it was to make again (`Check failed: task_entry.num_retries_left_ == -1`).
    is_actor = isinstance(work, type)
    retries = {"max_restarts": -1, "max_task_retries": 0} if is_actor else {"max_retries": 0}
    with warnings.catch_warnings():
        # The named parameters that the warning recommends do not include retries.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return stage(work, **retries, **options)


def one_by_one(
    config: InvertConfig, job: Inversion, sources: list[Source], closed: frozenset[str], encoder: Resources
) -> Generator[Item, None, None]:
    """The same work, a process for each source and block: a death is the failure of that video or clip."""
    alone: dict[str, Any] = {
        "max_retries": 0,
        "max_calls": 1,
        "label_selector": label_selector(config.machines),
    }
    track = ray.remote(num_cpus=TRACK_CPUS, **alone)(_track_alone)
    encode = ray.remote(**{**encoder, "num_cpus": ALONE_CPUS}, **alone)(_encode_alone)
    pending: dict[ray.ObjectRef[list[Item]], Source | Block] = {
        track.remote(job, s, closed): s for s in sources
    }
    while pending:
        [ready], _ = ray.wait(list(pending))
        for item in _result(job, ready, pending.pop(ready)):
            if isinstance(item, Block):
                pending[encode.remote(job, item)] = item
            else:
                yield item


def _result(job: Inversion, ready: ray.ObjectRef[list[Item]], work: Source | Block) -> list[Item]:
    try:
        return ray.get(ready)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(work, Source):
            return [source_failure(job, work, None, cause)]
        return [clip_failure(job, work.clip, "encode", cause)]


def _track_row(row: Row, job: Inversion, closed: frozenset[str]) -> Iterator[Row]:
    for item in track_source(job, row["item"], closed):
        yield {"item": item}


def _crop_row(row: Row, job: Inversion) -> Row:
    return {"item": _crop(job, row["item"])}


class _EncodeRow:
    """An encoder actor; rows that are not crops pass through."""

    def __init__(self, job: Inversion) -> None:
        self.job = job
        self.encoder = BlockEncoder(job, open_store(job.store), _node())

    def __call__(self, row: Row) -> Row:
        return {"item": _encode(self.job, self.encoder, row["item"])}


def _track_alone(job: Inversion, source: Source, closed: frozenset[str]) -> list[Item]:
    return list(track_source(job, source, closed))


def _encode_alone(job: Inversion, block: Block) -> list[Item]:
    encoder = BlockEncoder(job, open_store(job.store), _node())
    return [_encode(job, encoder, _crop(job, block))]


def _crop(job: Inversion, item: Item) -> Item:
    if not isinstance(item, Block):
        return item
    try:
        return crop_block(item, job.crop_side)
    except Exception as error:  # whatever it is, it travels on as a row
        return clip_failure(job, item.clip, "crop", error)


def _encode(job: Inversion, encoder: BlockEncoder, item: Item) -> Item:
    if not isinstance(item, Crops):
        return item
    try:
        return encoder(item)
    except Exception as error:  # whatever it is, it travels on as a row
        return clip_failure(job, item.block.clip, "encode", error)


def _node() -> str:
    """This machine and its Ray node, as commits name it."""
    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"


def encoder_resources(config: InvertConfig) -> Resources:
    """What one encoder asks for. It stays so for the whole job: where all GPUs go, others are waited for."""
    has_gpu = resources_of(config.machines).get("GPU", 0) > 0
    # Ray Data gives an actor with a GPU a whole core otherwise, and the other stages none on a small machine.
    return {"num_cpus": ENCODE_CPUS} | ({"num_gpus": config.gpus_per_actor} if has_gpu else {})


def encoder_pool(least: int, most: int) -> ray.data.ActorPoolStrategy:
    """Actors that encode one block while they fetch or store another."""
    return ray.data.ActorPoolStrategy(
        min_size=least,
        max_size=most,
        max_concurrent_calls_per_actor=CALLS_PER_ACTOR,
        enable_true_multi_threading=True,
    )


def _log_report(tracker: Tracker, ledger: Ledger, report: InvertReport) -> None:
    tracker.set_tags({"store": report.store})
    tracker.link({"inversion": report.inversion_id})
    tracker.log_metrics(report.metrics(), step=report.frames_encoded)
    typical = list(ledger.typical.values())
    for name, pairs in (("reconstructions", typical), ("worst frames", ledger.worst)):
        if pairs:
            tracker.log_image(reconstruction_sheet(pairs), name, step=report.frames_encoded)
    page = report_page(report, ledger.restless, typical, ledger.worst)
    tracker.log_file("invert_report.html", page.encode())
    tracker.log_file("invert_report.json", json.dumps(dataclasses.asdict(report), indent=2).encode())
