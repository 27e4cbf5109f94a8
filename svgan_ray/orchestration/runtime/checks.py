"""Checks that one machine can run the jobs. Each check uses the thing itself rather than asking about it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from packaging.requirements import Requirement

from svgan_ray.config import DoctorConfig
from svgan_ray.errors import MlflowError, StoreError, SvganRayError
from svgan_ray.orchestration.runtime.surroundings import troubles
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.runs import default_uri
from svgan_ray.runs.probe import probe_mlflow
from svgan_ray.store import open_store
from svgan_ray.store.probe import probe_store
from svgan_ray.store.weights import local_weights
from svgan_ray.stylegan.memory import free_memory_bytes
from svgan_ray.stylegan.weights import load_encoder, load_generator, require_pair
from svgan_ray.video.reading import open_video
from svgan_ray.video.writing import write_video

__all__ = ["Check", "caught", "failed", "machine_checks", "note", "ok", "start_checks"]

MIN_MEMORY_BYTES = 2 * 10**9
MIN_DISK_BYTES = 5 * 10**8
"""No job starts with less free disk space than this; the doctor asks for more."""
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

State = Literal["ok", "note", "failed"]


@dataclass(frozen=True)
class Check:
    """The result of a check: its name, what was found, and what helps if it failed. A `note` stops no job."""

    name: str
    state: State
    found: str
    remedy: str = ""
    machine: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def note(name: str, found: str, remedy: str = "") -> Check:
    return Check(name, "note", found, remedy)


def failed(name: str, found: str, remedy: str) -> Check:
    return Check(name, "failed", found, remedy)


def machine_checks(config: DoctorConfig, networks: Sequence[str] = ()) -> list[Check]:
    """All checks of this machine, causes before effects; `networks` are hashes of networks in the store."""
    checks: dict[str, Callable[[], Check]] = {
        "versions": check_versions,
        "surroundings": check_surroundings,
        "gpu": check_gpu,
        "video": check_video,
        "memory": check_memory,
        "disk": lambda: check_disk(config.free_disk_gb * 1e9),
        "store": lambda: check_store(config.store),
        "fetching": lambda: check_fetching(config.store, networks),
        "mlflow": lambda: check_mlflow(default_uri()),
    }
    if not networks:  # nothing was published yet, or the store does not exist
        del checks["fetching"]
    return [caught(name, check) for name, check in checks.items()]


def start_checks(store: str, networks: Sequence[str]) -> list[Check]:
    """The checks of every machine before a job hands out work; afterwards the machine holds the networks."""
    checks: dict[str, Callable[[], Check]] = {
        "versions": check_versions,
        "disk": lambda: check_disk(MIN_DISK_BYTES, (Path(tempfile.gettempdir()),)),
        "fetching": lambda: check_fetching(store, networks),
    }
    return [caught(name, check) for name, check in checks.items()]


def caught(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # the other checks still run if one fails unexpectedly
        return failed(name, f"{type(error).__name__}: {error}", "this is unexpected: please report it")


def check_versions() -> Check:
    """Compare the installed packages with the versions that this svgan-ray requires."""
    try:
        found = f"svgan-ray {version('svgan-ray')}, Python {platform.python_version()}"
        wrong = list(_wrong_versions(requires("svgan-ray") or []))
    except PackageNotFoundError:
        return failed(
            "versions",
            "svgan-ray is not installed here",
            "install it as cluster/Dockerfile does: pip install .",
        )
    if wrong:
        return failed("versions", f"{found}; {', '.join(wrong)}", "make setup, or rebuild the image")
    names = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "mlflow"))
    return ok("versions", f"{found}, {names}")


def check_surroundings() -> Check:
    """The working directory and the temporary folder of a job that is started here."""
    found = list(troubles(starts_ray=True))
    if found:
        return failed("surroundings", "; ".join(t.found for t in found), "; ".join(t.remedy for t in found))
    return ok("surroundings", f"working directory {Path.cwd()}, temporary files {tempfile.gettempdir()}")


def _wrong_versions(requirements: list[str]) -> Iterator[str]:
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if installed.partition("+")[0] not in requirement.specifier:  # torch 2.13.0+cpu is 2.13.0
            yield f"{requirement.name} {installed} where {requirement.specifier} is expected"


def check_gpu(driver: Path = NVIDIA_DRIVER) -> Check:
    """Compute a product on the GPU. The check fails if the machine has a GPU that torch cannot use."""
    if not torch.cuda.is_available():
        if driver.exists():
            return failed(
                "gpu",
                f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU",
                "install the CUDA build of torch: rm .venv/.ready && make setup TORCH_CUDA_INDEX=URL",
            )
        return note("gpu", "none: networks run on the CPU")
    try:
        torch.ones(64, 64, device="cuda").matmul(torch.ones(64, 64, device="cuda")).sum().item()
    except RuntimeError as error:
        return failed(
            "gpu", str(error).splitlines()[0], "update the NVIDIA driver to one this torch supports"
        )
    return ok("gpu", f"{torch.cuda.get_device_name()}, {torch.cuda.device_count()} in all")


def check_video() -> Check:
    """Write a short video and read its last frame."""
    pixels = np.tile(np.arange(16, dtype=np.uint8)[:, None, None, None] * 15, (1, 64, 64, 3))
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "doctor.mp4"
            write_video(path, pixels, 25.0, {})
            with open_video(path) as video:
                last = video.read(15, 16)
    except (ImportError, SvganRayError) as error:
        return failed("video", str(error), "install the packages of svgan-ray again: make setup")
    if abs(int(last.mean()) - 225) > 3:
        return failed("video", "PyAV reads other pixels than were written", "install av again: make setup")
    return ok("video", "H.264 is written and read (PyAV)")


def check_memory() -> Check:
    """The memory that is free for this process on the machine or in its container."""
    free_bytes = free_memory_bytes()
    if free_bytes is None:
        return note("memory", "this system does not report its free memory")
    text = f"{free_bytes / 1e9:.1f} GB free"
    if free_bytes < MIN_MEMORY_BYTES:
        return failed(
            "memory", text, f"{MIN_MEMORY_BYTES / 1e9:.0f} GB are needed: end programs, or use more memory"
        )
    return ok("memory", text)


def check_disk(needed_bytes: float, places: tuple[Path, ...] | None = None) -> Check:
    """The disks that jobs write to besides the store: working directory, temporary files (Ray's, videos)."""
    places = places or (Path.cwd(), Path(tempfile.gettempdir()))
    free = {place: shutil.disk_usage(place).free for place in places}
    text = ", ".join(f"{size / 1e9:.1f} GB free in {place}" for place, size in free.items())
    if min(free.values()) < needed_bytes:
        return failed(
            "disk", text, f"--free-disk-gb asks for {needed_bytes / 1e9:g}: remove files, or set TMPDIR"
        )
    unwritable = [str(place) for place in places if not os.access(place, os.W_OK)]
    if unwritable:
        return failed(
            "disk", f"{', '.join(unwritable)} cannot be written", "run in a folder of your own, set TMPDIR"
        )
    return ok("disk", text)


def check_weights(weights: str) -> Check:
    """Load the generator and the encoder, and check that they fit together."""
    try:
        generator_folder, encoder_folder = folders_of(weights)
        generator, encoder = load_generator(generator_folder), load_encoder(encoder_folder)
        require_pair(generator, encoder)
    except SvganRayError as error:
        return failed(
            "weights",
            str(error).splitlines()[0],
            "jobs/import_weights.py makes such folders (docs/weights.md)",
        )
    return ok(
        "weights", f"{weights}: generator of {generator.config.resolution} px, encoder {encoder.config.kind}"
    )


def check_fetching(uri: str, networks: Sequence[str]) -> Check:
    """Fetch the networks that a job published in the store, with this machine's own access to it."""
    try:
        store = open_store(uri)
        for sha256 in networks:
            local_weights(store, sha256)
    except StoreError as error:
        return failed("fetching", str(error), "every machine needs a way to the store: docs/cluster.md")
    return ok("fetching", f"{len(networks)} networks from {uri}")


def check_store(uri: str) -> Check:
    """Write an object conditionally, try to write it again, read it, list it and remove it."""
    try:
        return ok("store", probe_store(uri))
    except StoreError as error:
        return failed(
            "store", str(error), "docs/cluster.md names the rights and the settings that a store needs"
        )
    except SvganRayError as error:
        return failed("store", str(error), "give --store a folder or s3://bucket/prefix")


def check_mlflow(uri: str) -> Check:
    """Check that MLflow answers, accepts our credentials and is not older than the client."""
    try:
        return ok("mlflow", probe_mlflow(uri))
    except MlflowError as error:
        return failed(
            "mlflow", str(error), "mend MLFLOW_TRACKING_URI and its credentials; jobs run on meanwhile"
        )
