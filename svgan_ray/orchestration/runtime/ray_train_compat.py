"""The parts of Ray Train that svgan-ray needs and that are not public; `tests/test_compat.py` checks them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

# At run time, the public names are those of Ray Train version 2. Type checkers see version 1 under these
# names, which has neither labels of machines nor validation.
if TYPE_CHECKING:
    from ray.train.v2.api.config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.result import Result
    from ray.train.v2.torch.torch_trainer import TorchTrainer
else:
    from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

__all__ = [
    "CheckpointConfig",
    "FailureConfig",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "TorchTrainer",
    "silence_reports",
]


def silence_reports() -> None:
    """Keep Ray Train from printing a line for each report of a worker in this process.

    Its logger is named after its module, for which there is no public name.
    """
    from ray.train.v2._internal.execution import context

    logging.getLogger(context.__file__).setLevel(logging.WARNING)
