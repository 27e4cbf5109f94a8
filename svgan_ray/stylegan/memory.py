"""The CPU memory that pictures need, and a check that it is free before a machine begins to swap.

The number of feature maps that are alive at once was measured. A GPU needs no check: it raises an error
itself when its memory is full.
"""

from __future__ import annotations

from pathlib import Path

from svgan_ray.errors import MachineError
from svgan_ray.stylegan.encoder import EncoderConfig
from svgan_ray.stylegan.generator import GeneratorConfig

__all__ = ["encoding_bytes", "free_memory_bytes", "require_memory", "synthesis_bytes"]

_MAPS_ALIVE = 5
_FLOAT_BYTES = 4
# The memory of Python, PyTorch and the rest of a job.
_OVERHEAD_BYTES = 2**28


def synthesis_bytes(config: GeneratorConfig, batch: int, with_gradients: bool = False) -> int:
    """The peak memory of generating a batch of pictures, without the weights.

    Large blocks process one sample at a time; but with gradients, the feature maps of all samples are kept.
    """
    maps = [config.channels(side) * side**2 for side in config.block_resolutions]
    pictures = 3 * batch * config.img_channels * config.resolution**2  # before, as and after they are scaled
    alive = _MAPS_ALIVE * (batch * sum(maps) if with_gradients else max(maps))
    return _FLOAT_BYTES * (alive + pictures) + _OVERHEAD_BYTES


def encoding_bytes(config: EncoderConfig, batch: int) -> int:
    """The peak memory of encoding a batch of pictures, without the weights."""
    return _FLOAT_BYTES * _MAPS_ALIVE * batch * config.stem_width * config.input_side**2 + _OVERHEAD_BYTES


def require_memory(needed_bytes: int, work: str) -> None:
    """Raise MachineError if less memory is free than `work` needs."""
    free_bytes = free_memory_bytes()
    if free_bytes is not None and free_bytes < needed_bytes:
        raise MachineError(
            f"{work} takes {needed_bytes / 1e9:.1f} GB of memory, {free_bytes / 1e9:.1f} GB are free; "
            "nothing was started: close other programs, or use a larger machine or a GPU"
        )


def free_memory_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The memory that this process can use without swapping: the free memory of the machine or its container.

    None if the system does not report it.
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
    """The number after a name, in a file with lines of names and numbers."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[:1] == [name])
