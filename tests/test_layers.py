"""Imports point down only, and the pure layer needs neither Ray nor a tracking server nor a cloud."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "svgan_ray"
PURE = (
    "video",
    "stylegan",
    "latents",
    "temporal",
    "metrics",
    "demo",
    "report",
    "config",
    "experiment",
    "errors",
    "ranges",
)
LAYERS = {name: 0 for name in PURE} | {"store": 1, "tracking": 1, "orchestration": 2}

# Who may import what: at all, and when the module is imported (what is heavy waits until it is used).
HOMES = {
    "ray": ("orchestration",),
    "optuna": ("orchestration",),
    "tyro": ("orchestration",),
    "rich": ("orchestration",),
    "boto3": ("store",),
    "botocore": ("store",),
    "mlflow": ("tracking",),
    "av": ("video",),
    "PIL": ("video", "tracking", "report", "orchestration"),
}
CODE_OF_MODELS = PACKAGE / "tracking" / "motion_pyfunc.py"  # MLflow alone runs it
LAZY = {"mlflow", "av", "PIL", "mediapipe"}
BLOCKED = ("ray", "mlflow", "boto3", "botocore", "optuna", "av", "PIL", "tyro", "rich", "pyarrow")


def modules(folder: str = "") -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def layer_name(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = layer_name(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "svgan_ray" and len(parts) > 1:
            other = parts[1]
            assert LAYERS[other] <= LAYERS.get(own, 0), f"{own} imports {name}, which lies above it"
            same_height = LAYERS[other] == LAYERS.get(own, 0) == 1
            assert not same_height or other == own, f"{own} imports {name}, which stands beside it"
        homes = HOMES.get(parts[0])
        assert homes is None or own in homes, f"{own} imports {name}; only {homes} may"
        assert parts[0] != "jobs", f"{own} imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if p != CODE_OF_MODELS], ids=lambda p: str(p.relative_to(ROOT))
)
def test_heavy_libraries_wait_until_they_are_used(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & LAZY


def test_every_folder_has_a_layer() -> None:
    folders = {layer_name(path) for path in modules() if path.parent != PACKAGE}
    assert folders <= LAYERS.keys()


def test_jobs_are_thin() -> None:
    jobs = sorted((ROOT / "jobs").glob("*.py"))
    assert jobs
    for job in jobs:
        text = job.read_text("utf-8")
        assert len(text.splitlines()) <= 40, f"{job.name} is longer than 40 lines"
        assert text.startswith("#!/usr/bin/env python3\n"), f"{job.name} lacks its shebang"
        assert job.stat().st_mode & 0o111, f"{job.name} lacks the run bit"


def test_pure_layer_imports_where_nothing_else_is_installed() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        if layer_name(path) in PURE
    ]
    assert len(names) > 20
    program = f"""
import importlib, importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Block())
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
