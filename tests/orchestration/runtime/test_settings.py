"""What a run tells of its settings."""

from __future__ import annotations

import dataclasses
import json

import pytest

from svgan_ray.config import EvaluateConfig, InvertConfig, SampleConfig, TrainConfig, TuneConfig, flatten
from svgan_ray.orchestration.runtime.settings import SETTINGS, chosen, log_settings
from svgan_ray.temporal.recipes import faces_1024


class RecordedRun:
    def __init__(self) -> None:
        self.params: dict[str, object] = {}
        self.files: dict[str, bytes] = {}

    def log_params(self, params: dict[str, object]) -> None:
        self.params |= params

    def log_file(self, path: str, content: bytes) -> None:
        self.files[path] = content


@pytest.mark.parametrize("job", [InvertConfig, SampleConfig, EvaluateConfig])
def test_a_job_of_defaults_has_chosen_nothing(job: type) -> None:
    assert chosen(job()) == {}


@pytest.mark.parametrize("job", [TrainConfig, TuneConfig])
def test_options_of_a_recipe_follow_from_its_name(job: type) -> None:
    recipe = faces_1024()
    config = job(recipe="faces_1024", temporal=dataclasses.replace(recipe, steps=7), subject="anna")
    assert chosen(config) == {"recipe": "faces_1024", "temporal.steps": 7, "subject": "anna"}
    assert chosen(job()) == {"recipe": "demo"}


def test_all_settings_stand_in_a_file() -> None:
    told, config = RecordedRun(), TrainConfig(workers=2)
    log_settings(told, config)
    assert told.params == {"recipe": "demo", "workers": 2}
    assert json.loads(told.files[SETTINGS]).keys() == flatten(config).keys()
