"""The crops of a fit: Ray Data decodes and crops the footage, and each worker gets those of its own places.

Footage that fits into the object stores is decoded once and kept there. Larger footage is decoded again and
again, portion by portion, while the workers compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import ray.data
import torch
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.orchestration.fit.footage import Footage, Piece
from svgan_ray.orchestration.fit.schedule import Schedule
from svgan_ray.orchestration.invert.encoding import crop_block
from svgan_ray.orchestration.invert.items import BLOCK_FRAMES
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.records import ObjectRef
from svgan_ray.stylegan.fitting import Batch, fixed_regions, regions_of

__all__ = ["Shard", "datasets_of", "portions_for", "rows_of", "shard_name"]

Rows = Mapping[str, npt.NDArray[Any]]

CROP_CPUS = 0.5
STORE_SHARE = 0.4
"""Share of the smallest object store that crops may fill; Ray Data needs the rest for blocks in transit."""


def rows_of(piece: Piece, side: int, store: LatentStore) -> dict[str, npt.NDArray[Any]]:
    """number [M], crop [M, S, S, 3], boxes [M, 2, 4], and w_plus [M, n, d] if the piece has pivots."""
    crops = crop_block(piece.block, side).frames[piece.at]
    boxes = _boxes(piece, store).numpy()
    rows: dict[str, npt.NDArray[Any]] = {"number": piece.number, "crop": crops, "boxes": boxes}
    if piece.pivots:
        block = piece.block
        begins = max(block.first_frame - block.first_frame % BLOCK_FRAMES, block.clip.first_frame)
        w_plus = store.read_chunk(piece.pivots[0])["w_plus"].float().numpy()
        rows["w_plus"] = w_plus[block.first_frame - begins + piece.at]
    return rows


def _boxes(piece: Piece, store: LatentStore) -> Tensor:
    if piece.landmarks is None:
        return fixed_regions(len(piece.at))
    block = piece.block
    points = _landmarks(store.uri, piece.landmarks)[f"{block.clip.clip_id}.landmarks"]
    first = block.first_frame - block.clip.first_frame
    return regions_of(points[first + piece.at].numpy(), block.quad[piece.at])


@lru_cache(maxsize=1)
def _landmarks(store: str, ref: ObjectRef) -> dict[str, Tensor]:
    """A video's landmarks, cached in the process that reads its blocks."""
    return open_store(store).landmarks(ref)


def shard_name(kind: str, rank: int) -> str:
    """The name of a worker's dataset in Ray Train; `kind` is `training` or `held_out`."""
    return f"{kind} {rank}"


def datasets_of(
    footage: Footage,
    schedules: tuple[Schedule, Schedule],
    places: Sequence[range],
    side: int,
    store: str,
    labels: dict[str, str],
) -> dict[str, ray.data.Dataset]:
    """Each worker's datasets by `shard_name`; those that are read more than once are decoded now."""
    _configure(labels)
    datasets = {}
    for rank, own in enumerate(places):
        held_out = _dataset(footage.held_out_pieces(schedules[1], own), side, store)
        training = _dataset(footage.pieces(schedules[0], own), side, store)
        datasets[shard_name("held_out", rank)] = held_out.materialize()
        is_kept = schedules[0].portions == 1
        datasets[shard_name("training", rank)] = training.materialize() if is_kept else training
    return datasets


def portions_for(footage_bytes: int, workers: int) -> int:
    """The number of portions into which footage is cut, so that one fits into the workers' object stores."""
    stores = [
        node["Resources"]["object_store_memory"]
        for node in ray.nodes()
        if node["Alive"] and "object_store_memory" in node["Resources"]
    ]
    room_bytes = STORE_SHARE * min(stores)
    return max(1, -(-footage_bytes // int(room_bytes)))


def _configure(labels: dict[str, str]) -> None:
    """Drop no block and keep their order, because a missing frame would change the result of the fit."""
    context = ray.data.DataContext.get_current()
    context.execution_options.label_selector = labels or None
    context.execution_options.preserve_order = True
    context.max_errored_blocks = 0
    context.raise_original_map_exception = True
    context.target_max_block_size = 128 * 2**20
    context.enable_fallback_to_arrow_object_ext_type = True  # pieces are dataclasses
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _dataset(pieces: Sequence[Piece], side: int, store: str) -> ray.data.Dataset:
    items = [{"item": piece} for piece in pieces]
    rows = ray.data.from_items(items, override_num_blocks=max(1, len(items)))
    crop = partial(_rows, side=side, store=store)
    return rows.map_batches(crop, batch_size=1, batch_format="numpy", num_cpus=CROP_CPUS)


def _rows(batch: dict[str, Any], side: int, store: str) -> dict[str, npt.NDArray[Any]]:
    (piece,) = batch["item"]
    return rows_of(piece, side, open_store(store))


class Shard:
    """A worker's own frames by their numbers; one portion of them is in memory at a time.

    `read` begins to read the shard from its first frame on. Its arrays are kept as they are, so those in the
    object store are not copied.
    """

    def __init__(self, read: Callable[[], Iterable[Rows]], schedule: Schedule, places: range) -> None:
        self._read, self._schedule, self.places = read, schedule, places
        self._stream: Iterator[Rows] = iter(())
        self._rows: dict[int, tuple[Rows, int]] = {}
        self._portion = -1

    def load(self, portion: int) -> None:
        """Load the frames of a portion. Raises DataError if the shard does not hold them."""
        if portion == self._portion:
            return
        self._rows, self._portion, restarts = {}, portion, 0
        wanted = set(self.numbers())
        while len(self._rows) < len(wanted):
            rows = next(self._stream, None)
            if rows is None:
                restarts += 1
                if restarts > 2:
                    raise DataError(f"{len(wanted) - len(self._rows)} frames of the footage did not come")
                self._stream = iter(self._read())
                continue
            numbers = rows["number"].tolist()
            self._rows |= {n: (rows, at) for at, n in enumerate(numbers) if n in wanted}

    def numbers(self) -> list[int]:
        """The numbers of the loaded frames, in order."""
        spans = (self._schedule.span(place, self._portion) for place in self.places)
        return [number for first, stop in spans for number in range(first, stop)]

    def batch(self, numbers: Sequence[int]) -> Batch:
        """A batch of loaded frames."""
        found = [self._rows[number] for number in numbers]
        columns = [name for name in found[0][0] if name != "number"]
        values = {n: torch.from_numpy(np.stack([rows[n][at] for rows, at in found])) for n in columns}
        return Batch(values["crop"], values["boxes"], values.get("w_plus"))
