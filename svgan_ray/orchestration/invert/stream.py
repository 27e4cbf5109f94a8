"""The stages of an inversion on Ray Data: their resources, and what happens if a process dies.

Every stage passes failures on as rows. If a process dies, its rows are missing from the stream, so the caller
compares the result with the plan.
"""

from __future__ import annotations

import socket
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import ray
import ray.data
from ray.exceptions import RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.failures import clip_failure, source_failure
from svgan_ray.orchestration.invert.items import Block, Crops, Inversion, Item
from svgan_ray.orchestration.runtime.machines import actors_that_fit, label_selector, resources_of
from svgan_ray.orchestration.runtime.ray_compat import hand_settings_to_actors_by_value
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store import open_store

__all__ = ["Resources", "encoder_resources", "run_isolated", "stream"]

Row = dict[str, Any]
Resources = dict[str, Any]

TRACK_CPUS, CROP_CPUS, ENCODE_CPUS = 0.39, 0.59, 0.01
"""Shares of a core; one core holds one task of each stage.

They differ so that Ray Data does not fuse the stages into one task. An encoder keeps its share when it moves
from a lost machine to another one, so it must leave room for the tasks that feed it."""
ALONE_CPUS = 0.5
"""Share of a core for a process that both crops and encodes one block."""
NO_PROGRESS_TIMEOUT_S = 600
CALLS_PER_ACTOR = 2


def stream(
    config: InvertConfig, job: Inversion, sources: list[Source], excluded: frozenset[str], encoder: Resources
) -> Generator[Item, None, None]:
    """Yield items as they become ready; rows of processes that died are missing."""
    configure_data(label_selector(config.machines))
    rows = ray.data.from_items([{"item": source} for source in sources], override_num_blocks=len(sources))
    blocks = without_retries(rows.flat_map, _track_row, fn_args=(job, excluded), num_cpus=TRACK_CPUS)
    if job.tracks_only:
        yield from (row["item"] for row in blocks.iter_rows())
        return
    crops = without_retries(blocks.map, _crop_row, fn_args=(job,), num_cpus=CROP_CPUS)
    names: list[str] = []
    encoders: dict[str, Any] = {
        "compute": encoder_pool(
            *(config.actor_range or (1, actors_that_fit(encoder.get("num_gpus", 0), config.machines)))
        ),
        "ray_remote_args_fn": lambda: {"name": _new_name(names)},
        **encoder,
    }
    try:
        for row in without_retries(crops.map, _EncodeRow, fn_constructor_args=(job,), **encoders).iter_rows():
            yield row["item"]
    finally:
        _end(names)


def _new_name(names: list[str]) -> str:
    names.append(f"encoder {uuid.uuid4().hex}")
    return names[-1]


def _end(names: list[str]) -> None:
    """End encoders by name: one that is moving to another machine would outlive its stream on its GPU."""
    for name in names:
        with suppress(ValueError):  # it has ended
            ray.kill(ray.get_actor(name))


def configure_data(labels: dict[str, str]) -> None:
    """Let Ray Data drop a block whose process died and go on, and raise an error within minutes if it hangs.

    Only machines with these labels do the work.
    """
    context = ray.data.DataContext.get_current()
    context.execution_options.label_selector = labels or None
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = 3
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    context.target_max_block_size = 1  # one row per block, so that each is scheduled, and lost, independently
    context.enable_fallback_to_arrow_object_ext_type = True  # rows hold dataclasses, not columns of numbers
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def without_retries(stage: Callable[..., ray.data.Dataset], work: Any, **options: Any) -> ray.data.Dataset:
    """A stage that drops rows whose process dies; by default Ray would try them again for ever."""
    # A dead actor is restarted, but its rows are not retried: if its node is gone, they would wait for a new
    # node. Rows of tasks are not retried either: with a finite number of retries, Ray aborts the driver if a
    # machine is lost whose rows a task on it should have computed again (`Check failed:
    # task_entry.num_retries_left_ == -1`).
    is_actor = isinstance(work, type)
    if is_actor:
        hand_settings_to_actors_by_value()
    retries = {"max_restarts": -1, "max_task_retries": 0} if is_actor else {"max_retries": 0}
    with warnings.catch_warnings():
        # The named parameters that the warning recommends do not include retries.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return stage(work, **retries, **options)


def run_isolated(
    config: InvertConfig, job: Inversion, sources: list[Source], excluded: frozenset[str], encoder: Resources
) -> Generator[Item, None, None]:
    """Do the same work with one process for each source and block; a process that dies becomes a failure."""
    alone: dict[str, Any] = {
        "max_retries": 0,
        "max_calls": 1,
        "label_selector": label_selector(config.machines),
    }
    track = ray.remote(num_cpus=TRACK_CPUS, **alone)(_track_alone)
    encode = ray.remote(**{**encoder, "num_cpus": ALONE_CPUS}, **alone)(_encode_alone)
    pending: dict[ray.ObjectRef[list[Item]], Source | Block] = {
        track.remote(job, s, excluded): s for s in sources
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


def _track_row(row: Row, job: Inversion, excluded: frozenset[str]) -> Iterator[Row]:
    for item in track_source(job, row["item"], excluded):
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


def _track_alone(job: Inversion, source: Source, excluded: frozenset[str]) -> list[Item]:
    return list(track_source(job, source, excluded))


def _encode_alone(job: Inversion, block: Block) -> list[Item]:
    encoder = BlockEncoder(job, open_store(job.store), _node())
    return [_encode(job, encoder, _crop(job, block))]


def _crop(job: Inversion, item: Item) -> Item:
    if not isinstance(item, Block):
        return item
    try:
        return crop_block(item, job.crop_side)
    except Exception as error:  # every error travels on as a row
        return clip_failure(job, item.clip, "crop", error)


def _encode(job: Inversion, encoder: BlockEncoder, item: Item) -> Item:
    if not isinstance(item, Crops):
        return item
    try:
        return encoder(item)
    except Exception as error:  # every error travels on as a row
        return clip_failure(job, item.block.clip, "encode", error)


def _node() -> str:
    """This machine and its Ray node, as commits name it."""
    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"


def encoder_resources(config: InvertConfig) -> Resources:
    """The resources of one encoder, fixed for the job: if all GPUs are lost, the job waits for others."""
    has_gpu = resources_of(config.machines).get("GPU", 0) > 0
    # Otherwise Ray Data would give an actor with a GPU a whole core, which leaves a small machine none for
    # others.
    return {"num_cpus": ENCODE_CPUS} | ({"num_gpus": config.gpus_per_actor} if has_gpu else {})


def encoder_pool(least: int, most: int) -> ray.data.ActorPoolStrategy:
    """Actors that encode one block while they fetch or store another."""
    return ray.data.ActorPoolStrategy(
        min_size=least,
        max_size=most,
        max_concurrent_calls_per_actor=CALLS_PER_ACTOR,
        enable_true_multi_threading=True,
    )
