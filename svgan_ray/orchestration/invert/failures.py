"""Turns an exception into a failure record: stage, short stable reason, whether others would fail too."""

from __future__ import annotations

import re

from ray.exceptions import RayError, RayTaskError

from svgan_ray.errors import ConflictError, CorruptObjectError, LandmarksError, StoreError, VideoError
from svgan_ray.orchestration.invert.items import Clip, Failure, Inversion
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store.backend import ObjectNotFoundError
from svgan_ray.store.records import FailureRecord

__all__ = ["WORKER_DIED", "clip_failure", "source_failure", "unread_id"]

WORKER_DIED = "worker_died"
_FILE_REASONS = frozenset({"changed", "missing", "unreadable"})
"""Reasons that blame the file and not its bytes: the same video may succeed in another file."""
_OF_ONE_OBJECT = (ConflictError, CorruptObjectError, ObjectNotFoundError)
"""Store errors that concern this video alone; the rest of the store is sound."""
_MESSAGE_CHARACTERS = 2000


def source_failure(job: Inversion, source: Source, video_id: str | None, error: BaseException) -> Failure:
    """The failure of a source that was not tracked; it is recorded for the file if not its bytes failed."""
    item_id = unread_id(source) if video_id is None or _blames_the_file(error) else video_id
    return _failure(job.tracking_id, item_id, source.uri, "track", error)


def unread_id(source: Source) -> str:
    """The id of a source whose bytes were not read, in place of a video id; it is unique to the file."""
    return source.id


def clip_failure(job: Inversion, clip: Clip, stage: str, error: BaseException) -> Failure:
    """The failure of a clip whose block was not cropped or encoded, or of its source if the file failed."""
    if _blames_the_file(error):
        return _failure(job.tracking_id, unread_id(clip.source), clip.source.uri, stage, error)
    return _failure(job.inversion_id, clip.clip_id, clip.source.uri, stage, error)


def _blames_the_file(error: BaseException) -> bool:
    return isinstance(error, VideoError) and error.reason in _FILE_REASONS


def _failure(scope_id: str, item_id: str, uri: str, stage: str, error: BaseException) -> Failure:
    message = (str(error) or repr(error))[:_MESSAGE_CHARACTERS]
    record = FailureRecord(item_id, uri, stage, reason_of(error), message, attempts=1)
    is_fatal = isinstance(error, StoreError) and not isinstance(error, _OF_ONE_OBJECT)
    return Failure(scope_id, record, is_fatal)


def reason_of(error: BaseException) -> str:
    """A short stable code."""
    if isinstance(error, VideoError | LandmarksError):
        return error.reason
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return WORKER_DIED
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
