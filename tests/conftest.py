"""What all tests share."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Generator, Iterator

import hypothesis
import pytest

# How long an example takes is the machine's doing.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
# Hardware, optional extras and files that are not ours may be absent anywhere; a system package may not be
# where it can be installed. Containers may lack the right to mount or to make namespaces.
PARDONED_SKIPS = ("needs a GPU", "needs the extra", "needs the KubeRay CRDs", "needs the right")
# OpenMP's threads spin while they wait for each other, which takes from other processes the cores that these
# threads wait for: with two test processes on two cores a test of 2 s took 160.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
STRICT = os.environ.get("SVGAN_RAY_TESTS_STRICT") == "1"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of loopback that refuses connections, and that nobody else can take during the test."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # bound, but not listening
        yield int(holder.getsockname()[1])


@pytest.fixture(scope="session")
def system_program() -> Callable[[str], str]:
    """`system_program("chromium")` -> its path, or a skip that .ci/run turns into a failure."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"needs the system package that brings `{name}`")
        return path

    return find


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, object, None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = call.excinfo.value.args[0] if call.excinfo else str(report.longrepr)
        if not str(reason).startswith(PARDONED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"skipped under SVGAN_RAY_TESTS_STRICT: {reason}"
