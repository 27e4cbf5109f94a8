"""Versions that pyproject.toml allows and the locks hold, and a wheel that works where it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = {"requirements.lock": ("cluster", "dev", "docs", "test"), "requirements-face.lock": ("face", "test")}
EXACT = {"torch"}
"""Run-time dependencies with one version: torch's CPU and CUDA builds stay interchangeable."""
LOAD_DEMO_WEIGHTS = """
import svgan_ray
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders

generator, encoder = weights_folders("demo")
load_generator(generator)
load_encoder(encoder)
print(svgan_ray.__file__)
"""


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def requirements(*extras: str) -> Iterator[Requirement]:
    texts = [*project()["dependencies"], *(r for e in extras for r in project()["optional-dependencies"][e])]
    yield from (found for found in map(Requirement, texts) if found.name != "svgan-ray")


def locked(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    return {r.name.lower(): Version(str(r.specifier).removeprefix("==")) for r in found}


def test_dependencies_of_a_run_are_ranges_with_both_ends() -> None:
    for requirement in requirements("cluster"):
        operators = {one.operator for one in requirement.specifier}
        expected = {"=="} if requirement.name in EXACT else {">=", "<"}
        assert expected <= operators, f"{requirement} names no {' and '.join(expected)}"


def test_locks_are_plain_constraints_that_fit_pyproject() -> None:
    for name, extras in LOCKS.items():
        for line in (ROOT / name).read_text("utf-8").splitlines():
            assert line.startswith("#") or re.match(r"[\w.-]+==\S+( ; .*)?$", line), f"{name}: {line}"
        versions = locked(name)
        for requirement in requirements(*extras):
            found = versions.get(requirement.name.lower())
            assert found in requirement.specifier, f"{name}: {requirement}, not {found}; run `make lock`"


def test_the_clusters_files_name_the_ray_that_the_image_holds() -> None:
    for path in sorted((ROOT / "cluster" / "kuberay").glob("ray*.yaml")):
        [version] = re.findall(r'rayVersion: "(.*)"', path.read_text("utf-8"))
        assert Version(version) == locked("requirements.lock")["ray"], path.name


@pytest.mark.cluster
def test_a_wheel_installed_elsewhere_has_its_command_and_the_demos_weights(tmp_path: Path) -> None:
    """Its dependencies are those of this environment; svgan_ray itself comes from the wheel alone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = [sys.executable, "-m", "pip", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path, ROOT)
    [wheel] = tmp_path.glob("svgan_ray-*.whl")
    venv.create(tmp_path / "venv", symlinks=True)
    bin_folder = tmp_path / "venv" / "bin"
    run(*pip, "--python", bin_folder / "python", "install", "--no-deps", "--no-index", wheel)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("-packages"))
    )

    assert Path(run(bin_folder / "python", "-c", LOAD_DEMO_WEIGHTS).strip()).parent.parent == packages
    assert "svgan-ray JOB" in run(bin_folder / "svgan-ray", "--help")
    assert "--free-disk-gb" in run(bin_folder / "svgan-ray", "doctor", "--help")
