"""From an exception to a failure record: the stage, a short stable reason, whether others would fail too."""

from __future__ import annotations

import re

from svgan_ray.errors import LandmarksError, StoreError, VideoError
from svgan_ray.orchestration.inversion.items import Clip, Failure, Inversion, Source
from svgan_ray.store.keys import content_id
from svgan_ray.store.records import FailureRecord

__all__ = ["WORKER_DIED", "clip_failure", "source_failure", "unread_id"]

WORKER_DIED = "worker_died"
_MESSAGE_CHARACTERS = 2000


def source_failure(job: Inversion, source: Source, video_id: str | None, error: BaseException) -> Failure:
    """A source that could not be tracked; one whose bytes could not be read goes by its address."""
    return _failure(job.tracking_id, video_id or unread_id(source), source.uri, "track", error)


def unread_id(source: Source) -> str:
    """Stands in for the video id of a source whose bytes were not read yet."""
    return content_id({"uri": source.uri})


def clip_failure(job: Inversion, clip: Clip, stage: str, error: BaseException) -> Failure:
    """A clip one of whose blocks could not be cropped or encoded."""
    return _failure(job.inversion_id, clip.clip_id, clip.source.uri, stage, error)


def _failure(scope_id: str, item_id: str, uri: str, stage: str, error: BaseException) -> Failure:
    message = (str(error) or repr(error))[:_MESSAGE_CHARACTERS]
    record = FailureRecord(item_id, uri, stage, reason_of(error), message, attempts=1)
    return Failure(scope_id, record, is_fatal=isinstance(error, StoreError))


def reason_of(error: BaseException) -> str:
    """A short stable code."""
    if isinstance(error, VideoError):
        return error.reason
    if isinstance(error, LandmarksError):
        return "landmarks"
    if type(error).__name__ in (
        "WorkerCrashedError",
        "ActorDiedError",
        "OutOfMemoryError",
        "LocalRayletDiedError",
    ):
        return WORKER_DIED
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
