"""The settings of each job: one frozen dataclass for each job, and the meaning of each option.

Precedence: flags of the command line, then the experiment file (svgan_ray/experiment_file.py), then the
defaults of the dataclasses. Former names of options are read, too (svgan_ray/former_names.py).
"""

from svgan_ray.config.common import DataChoice, Machines, flatten
from svgan_ray.config.footage import FitConfig, InvertConfig
from svgan_ray.config.learning import LearningConfig, TrainConfig, TuneConfig
from svgan_ray.config.results import EvaluateConfig, SampleConfig
from svgan_ray.config.surroundings import DemoConfig, DoctorConfig, ReplayConfig

__all__ = [
    "DataChoice",
    "DemoConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "FitConfig",
    "InvertConfig",
    "LearningConfig",
    "Machines",
    "ReplayConfig",
    "SampleConfig",
    "TrainConfig",
    "TuneConfig",
    "flatten",
]
