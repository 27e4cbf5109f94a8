"""What pictures take of a CPU's memory, and whether it is there: said before a machine begins to swap.

The numbers of feature maps alive at once were measured; GPUs tell by themselves when theirs is full.
"""

from __future__ import annotations

from pathlib import Path

from svgan_ray.errors import MachineError
from svgan_ray.stylegan.encoder import EncoderConfig
from svgan_ray.stylegan.generator import GeneratorConfig

__all__ = ["encoding_bytes", "free_memory_bytes", "require_memory", "synthesis_bytes"]

_MAPS_ALIVE = 5
_FLOAT_BYTES = 4
# Python, PyTorch and what else a job holds.
_OVERHEAD_BYTES = 2**28


def synthesis_bytes(config: GeneratorConfig, batch: int, with_gradients: bool = False) -> int:
    """Peak of generating a batch of pictures, weights left out.

    Large blocks take a sample at a time, but that gradients need the feature maps of all.
    """
    maps = [config.channels(side) * side**2 for side in config.block_resolutions]
    pictures = 3 * batch * config.img_channels * config.resolution**2  # before, as and after they are scaled
    alive = _MAPS_ALIVE * (batch * sum(maps) if with_gradients else max(maps))
    return _FLOAT_BYTES * (alive + pictures) + _OVERHEAD_BYTES


def encoding_bytes(config: EncoderConfig, batch: int) -> int:
    """Peak of encoding a batch of pictures, weights left out."""
    return _FLOAT_BYTES * _MAPS_ALIVE * batch * config.stem_width * config.input_side**2 + _OVERHEAD_BYTES


def require_memory(needed_bytes: int, work: str) -> None:
    """Raises MachineError where less memory is free than some work takes."""
    free_bytes = free_memory_bytes()
    if free_bytes is not None and free_bytes < needed_bytes:
        raise MachineError(
            f"{work} takes {needed_bytes / 1e9:.1f} GB of memory, {free_bytes / 1e9:.1f} GB are free; "
            "nothing was started: close other programs, or use a larger machine or a GPU"
        )


def free_memory_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that this process can have without swapping: the machine's, or what its container has left.

    None where the system does not tell.
    """
    try:
        free_bytes = 1024 * _field(proc / "meminfo", "MemAvailable:")
    except OSError:
        return None
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        given_back_bytes = _field(cgroup / "memory.stat", "inactive_file")  # files that are only cached
    except OSError:
        return free_bytes
    return free_bytes if limit == "max" else min(free_bytes, int(limit) - int(used) + given_back_bytes)


def _field(path: Path, name: str) -> int:
    """The number behind a name, in a file of such lines."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[:1] == [name])
