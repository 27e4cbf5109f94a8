"""The doctor's job: it runs every check and prints one line for each."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from svgan_ray.config import DoctorConfig
from svgan_ray.orchestration.runtime.checks import Check
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.cluster_checks import cluster_checks

__all__ = ["DoctorReport", "run"]

_MARKS = {"ok": Text("ok", "green"), "note": Text("note", "yellow"), "failed": Text("FAILED", "red")}


@dataclass(frozen=True)
class DoctorReport:
    """The results of the checks; the exit code is 0 if jobs can run."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        return int(any(check.state == "failed" for check in self.checks))

    def __rich__(self) -> RenderableType:
        table = Table("", "check", "machine", "found", "what helps", box=None)
        for check in self.checks:
            table.add_row(_MARKS[check.state], check.name, check.machine, check.found, check.remedy)
        count = sum(check.state == "failed" for check in self.checks)
        return Group(table, f"{count} of {len(self.checks)} checks failed" if count else "jobs can run here")


def run(config: DoctorConfig) -> DoctorReport:
    """Check this machine, or each machine of the cluster that the job was submitted to."""
    place = durable(config.store, "--store")
    weights = config.weights if config.weights == "demo" else durable(config.weights, "--weights")
    return DoctorReport(tuple(cluster_checks(DoctorConfig(place, weights, config.free_disk_gb))))
