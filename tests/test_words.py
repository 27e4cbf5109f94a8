"""The glossary of docs/architecture.md is kept: names and words that were given up do not come back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "svgan_ray"
FOLDERS = ("svgan_ray", "jobs", "benchmarks", "analysis", "examples", "tests")

ABANDONED_NAMES = {
    "repeatedly": "repeat_in_background",
    "restless": "most_jittery",
    "contained": "without_retries",
    "booked": "recorded_items",
    "LOSSES": "LOST_MACHINE_ERRORS, where machines are meant",
    "Made": "VideoFolder",
    "Seen": "SnippetFeatures",
    "around": "suggest_config, where a trial's options are meant",
    "stand": "put_once",
    "say": "print_line",
    "figures_of": "scores_of",
    "head_snapshot": "latest_snapshot",
    "footage_clips": "footage_snippets",
    "ClipShape": "SnippetShape",
    "Tracker": "Run",
    "open_tracker": "open_run",
    "evaluations": "rungs",
    "head": "latent_space or output of a temporal generator, latest of a snapshot, node of a cluster",
    "head_widths": "output_widths",
    "gradient_penalty": "critic_penalty_weight",
    "gradient_penalty_interval": "critic_penalty_interval",
    "angle_penalty": "angle_penalty_weight",
    "moment_matching": "moment_matching_weight",
    "one_by_one": "run_isolated",
    "side_of": "background_executor",
    "AtOnce": "InlineExecutor",
    "ChangeStatistics": "HiddenChangeStatistics",
}
"""Names that say nothing by themselves, with what took their place."""
ABANDONED_MODULES = {"kept": "checkpoints", "beside": "background", "side": "background"}
OTHER_MEANING = {"tests": {"head"}, "svgan_ray/demo/portrait.py": {"around"}}
"""Files and folders in which a name of that list is the plain word: tests call a head node of Ray a head."""


def names(tree: ast.AST) -> Iterator[str]:
    """The functions, classes, arguments and fields of a module; local variables are free."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_abandoned_names_stay_away() -> None:
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        place = str(path.relative_to(ROOT))
        allowed = OTHER_MEANING.get(place, set()) | OTHER_MEANING.get(path.relative_to(ROOT).parts[0], set())
        assert path.stem not in ABANDONED_MODULES, f"{place}: call it {ABANDONED_MODULES[path.stem]}"
        found = set(names(ast.parse(path.read_text("utf-8")))) & ABANDONED_NAMES.keys()
        for name in found - allowed:
            raise AssertionError(f"{place}: {name} was given up for {ABANDONED_NAMES[name]}")
