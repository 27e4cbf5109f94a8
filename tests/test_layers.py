"""Imports point down only, and the pure layer needs neither Ray nor MLflow nor a cloud."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from svgan_ray.orchestration.main import JOBS

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
    "decoding",
    "device",
    "experiment_file",
    "errors",
    "files",
    "former_names",
    "places",
    "ranges",
)
LAYERS = {name: 0 for name in PURE} | {"store": 1, "runs": 1, "orchestration": 2}

# Who may import what: at all, and when the module is imported (what is heavy waits until it is used).
HOMES = {
    "ray": ("orchestration",),
    "optuna": ("orchestration",),
    "tyro": ("orchestration",),
    "rich": ("orchestration",),
    "boto3": ("store",),
    "botocore": ("store",),
    "mlflow": ("runs",),
    "av": ("video",),
    "PIL": ("video", "runs", "report", "orchestration"),
}
ORCHESTRATION = PACKAGE / "orchestration"
ROOMS_BELOW = {"fit": {"invert"}, "tune": {"train"}, "evaluate": {"train", "sample"}}
"""What a job's folder may import beside `runtime`; the demo may import all of them."""
JOB_FILE = """
import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main([JOB, *sys.argv[1:]]))
"""
CODE_OF_MODELS = PACKAGE / "runs" / "motion_pyfunc.py"  # MLflow alone runs it
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


def test_imports_point_down() -> None:
    for path in modules():
        check_imports(path)


def check_imports(path: Path) -> None:
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


def test_heavy_libraries_wait_until_they_are_used() -> None:
    for path in modules():
        if path != CODE_OF_MODELS:
            found = {name.split(".")[0] for name in imports(path, top_level_only=True)} & LAZY
            assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)} at once"


def room(module: str) -> str:
    """`svgan_ray.orchestration.train.loop` lies in `train`."""
    return module.split(".")[2]


def rooms() -> set[str]:
    return {path.parent.name for path in ORCHESTRATION.rglob("*.py") if path.parent != ORCHESTRATION}


def test_jobs_import_what_they_share_and_no_other_job() -> None:
    for name in rooms():
        check_room(name)


def check_room(name: str) -> None:
    allowed = {name, "runtime"} | (rooms() if name == "demo" else ROOMS_BELOW.get(name, set()))
    for path in (ORCHESTRATION / name).glob("*.py"):
        found = {room(other) for other in imports(path) if other.startswith("svgan_ray.orchestration.")}
        assert found <= allowed, f"{path.relative_to(ROOT)} imports from {sorted(found - allowed)}"


def test_every_job_is_run_and_planned_by_the_same_two_names() -> None:
    for name in rooms() - {"runtime", "store_tool"}:
        tree = ast.parse((ORCHESTRATION / name / "job.py").read_text("utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {"run", "plan"} <= functions, name
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == JOBS.keys()


def test_the_files_in_jobs_differ_by_one_word() -> None:
    for path in sorted((ROOT / "jobs").glob("*.py")):
        code = path.read_text("utf-8").split('"""\n')[1]
        assert code.replace(f'"{path.stem}"', "JOB") == JOB_FILE, path.name


def test_programs_find_what_they_import() -> None:
    paths = [str(path) for folder in ("analysis", "benchmarks") for path in (ROOT / folder).glob("*.py")]
    assert len(paths) > 10
    program = f"""
import runpy, sys

sys.path.insert(0, "benchmarks")
for path in {paths!r}:
    runpy.run_path(path, run_name="imported")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


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
