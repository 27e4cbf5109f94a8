"""Ray Train where its public names are not enough; `tests/test_compat.py` tells when something moved."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

# At run time the public names are version 2 of Ray Train. Type checkers see version 1 under them, which knows
# neither labels of machines nor validation.
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
    """Ray Train prints no line for each report of a worker, in this process.

    Its logger is named by the path of the file, which no public name tells.
    """
    from ray.train.v2._internal.execution import context

    logging.getLogger(context.__file__).setLevel(logging.WARNING)
