"""`--actors 1:3`: encoders come while blocks wait for them, and go when they do not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.data

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.stream import (
    CROP_CPUS,
    ENCODE_CPUS,
    configure_data,
    encoder_pool,
    without_retries,
)
from tests.orchestration.faulty_workers import is_alive, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BACKLOG = 40
Row = dict[str, Any]


@pytest.fixture
def three_cpus() -> Iterator[None]:
    ray.init("local", num_cpus=3, object_store_memory=150_000_000, logging_level="WARNING")
    yield
    ray.shutdown()


class Waiting:
    """In place of an encoder: works as long as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / f"{os.getpid()}.pid").touch()

    def __call__(self, row: Row) -> Row:
        wait_for((self.folder / "grown").exists, "more encoders")
        return row


def last_comes_late(row: Row, folder: Path) -> Row:
    if row["item"] == BACKLOG:
        wait_for((folder / "shrunk").exists, "fewer encoders")
    return row


def test_the_pool_follows_the_backlog(
    three_cpus: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_data({})
    bounds = InvertConfig(actors="1:3").actor_range
    assert bounds is not None
    rows = ray.data.from_items([{"item": i} for i in range(BACKLOG + 1)], override_num_blocks=BACKLOG + 1)
    blocks = without_retries(rows.map, last_comes_late, fn_args=(tmp_path,), num_cpus=CROP_CPUS)
    encoded = without_retries(
        blocks.map,
        Waiting,
        fn_constructor_args=(tmp_path,),
        compute=encoder_pool(*bounds),
        num_cpus=ENCODE_CPUS,
    )
    seen: list[int] = []

    def is_at(condition: Callable[[int], bool]) -> bool:
        seen.append(sum(is_alive(int(file.stem)) for file in tmp_path.glob("*.pid")))
        return condition(seen[-1])

    def watch() -> None:
        wait_for(lambda: is_at(lambda count: count == 3), "three encoders")
        (tmp_path / "grown").touch()
        wait_for(lambda: is_at(lambda count: count < 3), "an encoder to go")
        (tmp_path / "shrunk").touch()

    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(watch)
        assert sorted(row["item"] for row in encoded.iter_rows()) == list(range(BACKLOG + 1))
        watched.result()
    assert max(seen) == 3 and 1 in seen[: seen.index(3)], "from one to three"
    assert "constructor arguments" not in capfd.readouterr().err, "a restart needs nothing that could be lost"
