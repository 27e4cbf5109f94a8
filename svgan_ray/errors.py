"""Every error that svgan-ray raises on purpose.

SvganRayError
├── ConfigError              a flag, a preset or a field of experiment.toml is wrong
├── InputError               what the user handed in cannot be used
│   ├── VideoError           a video cannot be read; carries a reason code
│   ├── LandmarksError       landmarks are missing or malformed, or no usable face is seen; reason code
│   ├── WeightsError         a weight file is foreign, damaged or does not fit
│   └── DataError            latents do not suit what is asked of them
├── StoreError               the latent store cannot serve a request
│   ├── StoreAccessError     the store is missing, forbidden, read-only or unreachable
│   ├── StoreSchemaError     a newer version wrote the store
│   ├── CorruptObjectError   an object's content differs from its hash
│   └── ConflictError        two different results were offered under one id
├── ClusterError             the Ray cluster, or a machine of it, cannot do the job
├── MachineError             this machine lacks what the work needs
├── TrainingError            training cannot go on
│   └── DivergenceError      a loss is not finite, or a metric exploded
└── MlflowError              MLflow does not answer, or refuses a request for good
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "ConfigError",
    "ConflictError",
    "CorruptObjectError",
    "DataError",
    "DivergenceError",
    "InputError",
    "LandmarksError",
    "MachineError",
    "MlflowError",
    "StoreAccessError",
    "StoreError",
    "StoreSchemaError",
    "SvganRayError",
    "TrainingError",
    "VideoError",
    "WeightsError",
]


class SvganRayError(Exception):
    """Base of all errors raised on purpose. It says what is wrong, where, what was expected, what to do."""


class ConfigError(SvganRayError):
    """A flag, a preset or a field of experiment.toml is wrong."""


class InputError(SvganRayError):
    """What the user handed in cannot be used."""


class VideoError(InputError):
    """A video cannot be read.

    `reason` is a short stable code (`empty`, `not_a_video`, `no_video_stream`, `truncated`, `decode`, ...)
    that failure records keep.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class LandmarksError(InputError):
    """Landmarks are missing, malformed or belong to another video, or show no usable face.

    `reason` is a short stable code that failure records keep: `landmarks`, `no_face`, `small_face` or
    `no_such_person`.
    """

    def __init__(self, message: str, reason: str = "landmarks") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class WeightsError(InputError):
    """A weight file is foreign, damaged or does not fit."""


class DataError(InputError):
    """Latents do not suit what is asked of them: too short, of several subjects, of another generator."""


class StoreError(SvganRayError):
    """The latent store cannot serve a request."""


class StoreAccessError(StoreError):
    """The store is missing, forbidden, read-only or unreachable."""


class StoreSchemaError(StoreError):
    """The store was written by a newer version."""


class CorruptObjectError(StoreError):
    """An object's content differs from its hash."""


class ConflictError(StoreError):
    """Two different results were offered under one id; the first one is kept."""


class MachineError(SvganRayError):
    """This machine lacks what the work needs, such as memory; nothing was started."""


class ClusterError(SvganRayError):
    """The Ray cluster cannot be used, or a machine of it cannot do the job."""


class TrainingError(SvganRayError):
    """Training cannot go on."""


class DivergenceError(TrainingError):
    """A loss or gradient became non-finite, or a metric exploded."""


class MlflowError(SvganRayError):
    """MLflow does not answer, or refuses a request for good."""
