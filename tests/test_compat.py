"""Parts of libraries that are not public: where they are used, and that they are still what they were.

Each `*_compat.py` says why it needs them. A test here that fails after an upgrade says what to do.
"""

from __future__ import annotations

import ast
import inspect
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray.train
from ray.tune.search.optuna import OptunaSearch

from svgan_ray.orchestration.runtime import ray_compat
from svgan_ray.orchestration.runtime.ray_train_compat import silence_reports
from svgan_ray.orchestration.tune.optuna_compat import proposed_numbers, study_of
from svgan_ray.store.botocore_compat import quick_session, sign_known_content

ROOT = Path(__file__).parents[1]
INNER_MODULES = ("ray.train.v2", "ray.autoscaler.v2", "ray.dashboard", "ray.core", "botocore.auth")
"""Modules without an underscore of which their libraries promise nothing."""
OURS = ("self", "cls", "PickleReader", "reader")
"""Objects whose own inner names are meant."""
ONE_VERSION = "torch."
"""Exactly one version of torch is allowed, so that its inner parts move only when we change it."""


def is_inner(dotted: str) -> bool:
    parts = dotted.split(".")
    hidden = any(part.startswith("_") and not part.startswith("__") for part in parts)
    return hidden or any(f"{dotted}.".startswith(f"{name}.") for name in INNER_MODULES)


def inner_parts(text: str) -> Iterator[str]:
    """Every import and every attribute that is an inner part of something else."""
    tree = ast.parse(text)
    own_classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_inner(alias.name))
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if is_inner(name))
        elif isinstance(node, ast.Attribute) and is_inner(node.attr):
            owner = ast.unparse(node.value)
            if owner not in OURS and owner not in own_classes:
                yield f"{owner}.{node.attr}"


def test_inner_parts_of_libraries_are_used_by_compat_modules_alone() -> None:
    for folder in ("svgan_ray", "jobs", "analysis", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.endswith("_compat.py"):
                every = inner_parts(path.read_text("utf-8"))
                found = {part for part in every if not part.startswith(ONE_VERSION)}
                assert not found, f"{name} uses {sorted(found)}: take a public way, or a *_compat.py"


@pytest.mark.parametrize(
    "text",
    [
        "import ray._private.worker",
        "from ray.train.v2.api.config import RunConfig",
        "from ray import _private",
        "from botocore.auth import AUTH_TYPE_MAPS",
        "study._storage",
        "import ray.autoscaler.v2.sdk as sdk",
    ],
)
def test_the_walk_sees_inner_parts(text: str) -> None:
    assert list(inner_parts(text))


def test_ray_train_is_its_second_version_under_public_names() -> None:
    """If this fails: ray_train_compat.py names the types of another version than the one that runs."""
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import RunConfig, ScalingConfig
    from ray.train.v2.api.result import Result
    from ray.train.v2.torch.torch_trainer import TorchTrainer as SecondTrainer

    assert (ray.train.RunConfig, ray.train.ScalingConfig) == (RunConfig, ScalingConfig)
    assert (ray.train.Result, TorchTrainer) == (Result, SecondTrainer)


def test_ray_train_logs_reports_under_the_path_of_its_file() -> None:
    """If this fails: find the logger of `ray.train.report`, and name it in runtime/ray_train_compat.py."""
    from ray.train.v2._internal.execution import context

    before = context.logger.level
    try:
        silence_reports()
        assert context.logger is logging.getLogger(context.__file__)
        assert context.logger.level == logging.WARNING
    finally:
        context.logger.setLevel(before)


def test_the_autoscaler_counts_its_reports() -> None:
    """If this fails: `grows` in runtime/machines.py asks whether there is an autoscaler; see `ray status`."""
    from ray.autoscaler.v2.schema import Stats
    from ray.autoscaler.v2.sdk import get_cluster_status

    assert callable(get_cluster_status) and Stats().autoscaler_version is None


def test_a_search_keeps_its_trials_by_the_id_that_tune_gave_them() -> None:
    """If this fails: read how OptunaSearch keeps trials now, and mend tune/optuna_compat.py.

    Without that, a study that is restored forgets trials, or trains some twice.
    """
    search = OptunaSearch(lambda trial: {"x": trial.suggest_float("x", 0, 1)}, metric="loss", mode="min")
    for name in ("first", "second"):
        search.suggest(name)
    assert proposed_numbers(search) == {0, 1}
    study = study_of(search)
    assert isinstance(study, optuna.Study) and [trial.number for trial in study.trials] == [0, 1]


def test_botocore_takes_another_reader_of_dates() -> None:
    """If this fails: mend `quick_session` in store/botocore_compat.py, or take botocore's own session there.

    Listings are then right and several times slower; `python benchmarks/store.py` tells.
    """
    parser = quick_session().get_component("response_parser_factory").create_parser("rest-xml")
    moment = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
    for text in ("2026-11-30T12:00:00.000Z", "Mon, 30 Nov 2026 12:00:00 GMT"):
        assert parser._timestamp_parser(text) == moment


def test_botocore_finds_signers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails: mend `sign_known_content` in store/botocore_compat.py, or leave it out.

    Content is then hashed twice, and stored as before.
    """
    sent: list[Any] = []
    session = quick_session()
    client = session.create_client(
        "s3", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b", endpoint_url="http://127.0.0.1:9"
    )
    sign_known_content(client)
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request) or _answer())
    hashed = "A" * 43 + "="
    client.put_object(Bucket="bucket", Key="key", Body=b"other bytes", ChecksumSHA256=hashed)
    assert sent[0].headers["x-amz-content-sha256"].decode() == "00" * 32
    client.close()


def _answer() -> Any:
    from botocore.awsrequest import AWSResponse

    return AWSResponse("http://127.0.0.1:9", 200, {}, _Empty())


class _Empty:
    """The body of an answer without one."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b""


def test_ray_data_has_the_settings_of_actors_by_value_too() -> None:
    """Otherwise every inversion prints an error line of Ray's: `hand_settings_to_actors_by_value`."""
    from ray.data._internal.execution.operators import map_operator

    source = inspect.getsource(map_operator.MapOperator)
    for reference, value in ray_compat._HANDED_ON.items():
        assert f"def {reference}(self)" in source, f"Ray Data hands over {reference} no more"
        assert f"ray.put(self.{value})" in source, f"{reference} is of another value"
