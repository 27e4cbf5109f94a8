"""Resolves `--videos`: which files are taken, whom each one shows, which files are passed over, and why."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.sources import Source, local_source, s3_source
from svgan_ray.orchestration.runtime.terminal import printable
from svgan_ray.store.s3 import S3Backend
from svgan_ray.video.containers import VIDEO_ENDINGS, is_video_file, is_video_name

__all__ = ["Footage", "PassedOver", "choose", "expand"]

_GLOB = frozenset("*?[")
_BESIDE = (".landmarks.safetensors", ".factors.safetensors")
"""Endings of the files that belong to a video and lie beside it."""
_NO_VIDEO = "no video"
_ODD_NAME = "its name holds control characters or is no UTF-8: rename it"


@dataclass(frozen=True)
class PassedOver:
    """A file or folder below a named place that is not taken, and the reason."""

    place: str
    reason: str


@dataclass(frozen=True)
class Footage:
    """Videos, sorted and unique, each with the subject that it is assumed to show."""

    sources: tuple[Source, ...]
    passed_over: tuple[PassedOver, ...] = ()

    def remarks(self) -> list[str]:
        """Notes on choices that the user did not make, such as subjects that are named after folders."""
        by_subject = defaultdict(set)
        for source in self.sources:
            by_subject[source.subject].add(_folder(source))
        renamed = sorted({source.subject for source in self.sources if source.subject != source.name})
        remarks = []
        if renamed:
            remarks.append(
                "files of the same name lie in different folders: their folders name the subjects "
                f"{', '.join(renamed)}; --subject names another"
            )
        for subject, folders in sorted(by_subject.items()):
            if len(folders) > 1:
                remarks.append(f"{subject} is assumed to be one person in {', '.join(sorted(folders))}")
        return remarks


def expand(videos: Iterable[str]) -> list[Source]:
    """The videos of files, folders, globs and s3:// prefixes, sorted and unique. Raises ConfigError."""
    return list(choose(videos).sources)


def choose(videos: Iterable[str]) -> Footage:
    """Like `expand`, and also returns what was passed over. Raises ConfigError if a pattern names no video.

    A file that is named directly may have any ending. From a folder, and from the folders that links in it
    lead to, all videos are taken that are not hidden and not in a hidden folder; each folder is visited once.
    """
    found: dict[str, Source] = {}
    passed: dict[str, PassedOver] = {}
    for pattern in videos:
        taken = 0
        for item in _on_s3(pattern) if pattern.startswith("s3://") else _local(pattern):
            if isinstance(item, Source):
                found[item.uri] = item
                taken += 1
            else:
                passed[item.place] = item
        if not taken:
            endings = ", ".join(sorted(VIDEO_ENDINGS))
            raise ConfigError(
                f"--videos {pattern}: no video found; looked for files ending in {endings}; "
                "a file of another ending can be named outright"
            )
    left = tuple(passed[place] for place in sorted(passed.keys() - found.keys()))
    return Footage(tuple(_with_subjects([found[uri] for uri in sorted(found)])), left)


def _with_subjects(sources: list[Source]) -> Iterator[Source]:
    """If several folders hold files of the same name, all videos in them are named after their folder."""
    folders_of = defaultdict(set)
    for source in sources:
        folders_of[source.name].add(_folder(source))
    clashing = {folder for folders in folders_of.values() if len(folders) > 1 for folder in folders}
    names = _short_names(clashing)
    for source in sources:
        yield dataclasses.replace(source, label=names.get(_folder(source)))


def _folder(source: Source) -> str:
    return source.uri.rpartition("/")[0]


def _short_names(folders: set[str]) -> dict[str, str]:
    """The last parts of the folders' paths, as many as are needed to make them different."""
    parts = {folder: PurePosixPath(folder).parts for folder in folders}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {folder: "-".join(parts[folder][-depth:]).strip("/") for folder in folders}
        if len(set(names.values())) == len(folders):
            return names
    return {folder: folder for folder in folders}


def _local(pattern: str) -> Iterator[Source | PassedOver]:
    path = Path(pattern).expanduser().absolute()
    if path.is_file():
        if _is_odd(str(path)):
            raise ConfigError(f"--videos {pattern!r}: {_ODD_NAME}")
        yield local_source(path)
    elif path.is_dir():
        yield from _below(path, set())
    elif _GLOB & set(pattern):
        for name in glob.glob(str(path), recursive=True):
            if Path(name).is_file():
                yield _judged(Path(name))
    else:
        raise ConfigError(f"--videos {pattern}: no such file or folder")


def _below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Source | PassedOver]:
    """The files below a folder; a folder that several links lead to is visited once."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            yield PassedOver(str(folder), "a link to a folder that was seen already")
            return
        seen.add((status.st_dev, status.st_ino))
        # A folder is visited before links to it, so that its videos are listed under their real path.
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        yield PassedOver(str(folder), f"cannot be read: {error.strerror}")
        return
    for entry in entries:
        if entry.is_dir() and _is_hidden(entry.name):
            yield PassedOver(printable(str(entry)), "hidden")
        elif entry.is_dir():
            yield from _below(entry, seen)
        elif entry.is_file() and not entry.name.endswith(_BESIDE):
            yield _judged(entry)


def _judged(path: Path) -> Source | PassedOver:
    if _is_odd(str(path)):
        return PassedOver(printable(str(path)), _ODD_NAME)
    if _is_hidden(path.name):
        return PassedOver(str(path), "hidden")
    return local_source(path) if is_video_file(path) else PassedOver(str(path), _NO_VIDEO)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _is_odd(name: str) -> bool:
    """Whether a name cannot be stored in records and printed in lines."""
    return "\n" in name or printable(name) != name


def _on_s3(pattern: str) -> Iterator[Source | PassedOver]:
    """The object of a key or the objects below a prefix; if there are none, the pattern is used as a glob."""
    bucket, _, key = pattern.removeprefix("s3://").partition("/")
    backend = S3Backend(bucket, "")
    prefix = f"{key.rstrip('/')}/" if key else ""
    listed = backend.list(key.rstrip("/"))
    entries = [entry for entry in listed if entry.key == key or entry.key.startswith(prefix)]
    is_glob = not entries and bool(_GLOB & set(key))
    if is_glob:
        beginning = key[: min(key.index(sign) for sign in _GLOB if sign in key)]
        entries = [entry for entry in backend.list(beginning) if fnmatch.fnmatchcase(entry.key, key)]
    for entry in entries:
        uri = f"s3://{bucket}/{entry.key}"
        if entry.key.endswith(("/", *_BESIDE)):  # S3 consoles create objects that only mark a folder
            continue
        if entry.key == key:
            yield s3_source(backend, entry)
        elif _is_odd(entry.key):
            yield PassedOver(printable(uri), _ODD_NAME)
        elif any(map(_is_hidden, entry.key[0 if is_glob else len(prefix) :].split("/"))):
            yield PassedOver(uri, "hidden")
        else:  # only the name is checked, because checking the content would download the object
            yield s3_source(backend, entry) if is_video_name(entry.key) else PassedOver(uri, _NO_VIDEO)
