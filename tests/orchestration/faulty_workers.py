"""Workers of an inversion that keep a journal of what they encode, wait where a test wants, or are poisoned.

A test and its workers meet in one folder: `encoded` is the journal. While `hold-encode` or `hold-read` is
there, a worker that has just encoded a block, or read frames, writes `holding-encode` or `holding-read` and
waits; the number in the file is that of the blocks which pass before. Pictures are as large as those of real
networks, so that Ray keeps them where they were made.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svgan_ray.config import InvertConfig

FOLDER = "SVGAN_RAY_TEST_FOLDER"
POISON = "poison"
"""Encoding a clip of this subject kills its process, every time."""
ENLARGED = 8
_PATIENCE_S = 500


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One block that a worker began to encode."""

    clip_id: str
    number: int
    subject: str
    pid: int
    node: str
    began_s: float


def journal(folder: Path) -> list[Encoded]:
    """All blocks that were begun, in order."""
    path = folder / "encoded"
    lines = path.read_text().splitlines() if path.exists() else []
    return [Encoded(**json.loads(line)) for line in lines]


def wait_for(condition: Any, what: str) -> None:
    """Until condition() is true."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def held(folder: Path, stage: str, passing: int = 0) -> Iterator[None]:
    """Workers wait after this stage (`encode`, `read`), once so many blocks were encoded."""
    hold, holding = folder / f"hold-{stage}", folder / f"holding-{stage}"
    holding.unlink(missing_ok=True)
    hold.write_text(str(passing))
    try:
        yield
    finally:
        hold.unlink()


def nodes_at_work(folder: Path) -> set[str]:
    """Those on which a block was begun."""
    return {entry.node for entry in journal(folder)}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # empty: dead, and not yet taken note of
    except OSError:
        return False


def set_up() -> None:
    """Runs when a worker starts."""
    from svgan_ray.orchestration.invert import encoding
    from svgan_ray.orchestration.invert.encoding import BlockEncoder
    from svgan_ray.video.reading import VideoReader

    folder = Path(os.environ[FOLDER])
    compute, read, pair = BlockEncoder.compute, VideoReader.read, encoding._pair

    def journalled(self: BlockEncoder, crops: Any) -> Any:
        clip = crops.block.clip
        entry = Encoded(clip.clip_id, crops.block.number, clip.subject, os.getpid(), self.node, time.time())
        with (folder / "encoded").open("a") as file:
            file.write(json.dumps(dataclasses.asdict(entry)) + "\n")
        if clip.subject == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return _held(folder, "encode", compute(self, crops))

    def held_read(self: VideoReader, start: int, stop: int) -> Any:
        return _held(folder, "read", read(self, start, stop))

    def large_pair(*arguments: Any) -> Any:
        small = pair(*arguments)
        return dataclasses.replace(
            small, pixels=small.pixels.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
        )

    encoding._pair = large_pair
    BlockEncoder.compute = journalled  # type: ignore[method-assign]
    VideoReader.read = held_read  # type: ignore[method-assign]


def _held(folder: Path, stage: str, result: Any) -> Any:
    hold = folder / f"hold-{stage}"
    if hold.exists() and len(journal(folder)) >= int(hold.read_text()):
        (folder / f"holding-{stage}").touch()
        wait_for(lambda: not hold.exists(), f"{hold.name} to go")
    return result


@contextmanager
def connected(address: str, folder: Path) -> Iterator[None]:
    """Ray for this process, whose workers are those above."""
    import ray

    environment = {FOLDER: str(folder), "OMP_NUM_THREADS": "1"}  # the hook loads torch before Ray counts CPUs
    hook = {"worker_process_setup_hook": set_up, "env_vars": environment}
    ray.init(address=address, runtime_env=hook, logging_level="ERROR", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def all_encoders_first() -> Iterator[None]:
    """Work begins when all encoders are there, so that all of them get some."""
    from ray.data import DataContext

    context = DataContext.get_current()
    before, context.wait_for_min_actors_s = context.wait_for_min_actors_s, _PATIENCE_S
    try:
        yield
    finally:  # the context is the process's: other tests would have it
        context.wait_for_min_actors_s = before


class Occupant:
    """Takes a GPU, so that an encoder goes elsewhere."""

    def is_there(self) -> bool:
        return True


def occupant_of_gpu() -> Any:
    """An actor that has a GPU of the driver's node, until it is killed."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    occupant = ray.remote(num_cpus=0, num_gpus=1, scheduling_strategy=here)(Occupant).remote()
    ray.get(occupant.is_there.remote())
    return occupant


def main(address: str, folder: str, config: str) -> None:
    """A driver of its own process: `python -c "from ... import main; main(*sys.argv[1:])"`."""
    from svgan_ray.orchestration.invert.job import run as invert

    settings = json.loads(config)
    with connected(address, Path(folder)), all_encoders_first():
        invert(InvertConfig(**{**settings, "videos": tuple(settings["videos"])}))
