"""The data of a training or a study: a frozen snapshot of one subject's clips, of one generator."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from svgan_ray.config import DataChoice
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.store import Filters, LatentStore, Snapshot, select

__all__ = [
    "links_of",
    "named_snapshot",
    "resolve_snapshot",
    "snapshot_rows",
    "subjects_of",
    "take_snapshot",
]

_NAME_LENGTH, _MARK_LENGTH = 64, 8
_LINKS = {"inversion": "inversion_id", "snapshot": "snapshot_digest", "model": "store_name"}


def resolve_snapshot(
    store: LatentStore, choice: DataChoice, generator_sha256: str, put: bool = True
) -> Snapshot:
    """The snapshot that was chosen, or a new one of the subject's clips, which `put` stores.

    Raises DataError if there are no clips, or if they are of several subjects or of another generator, and
    ConfigError if filters are given together with a snapshot.
    """
    if choice.snapshot is not None:
        if choice.min_clip_s > 0 or choice.max_error is not None:
            raise ConfigError(
                f"--snapshot {choice.snapshot}: its clips are chosen already; leave out --min-clip-s and "
                "--max-error, or name no snapshot"
            )
        snapshot = named_snapshot(store, choice.snapshot)
    else:
        snapshot = _selected(store, choice, _inversion(store, choice.inversion, generator_sha256))
    _require_fit(store, snapshot, choice, generator_sha256)
    return store.put_snapshot(snapshot) if put and not snapshot.generation else snapshot


def take_snapshot(store: LatentStore, choice: DataChoice) -> Snapshot:
    """Freeze the chosen clips as `choice.snapshot` or under the subject's name, whatever their generator is.

    Raises DataError if there are no clips, or if they are of several subjects or inversions and none is
    chosen.
    """
    return store.put_snapshot(_selected(store, choice, _inversion(store, choice.inversion)))


def _selected(store: LatentStore, choice: DataChoice, inversion: str) -> Snapshot:
    """A snapshot, not yet stored, of one subject's clips."""
    subject = choice.subject or _only_subject(store, inversion)
    filters = Filters(subject, choice.min_clip_s, choice.max_error)
    return select(store, choice.snapshot or _name(store, subject), inversion, filters)


def named_snapshot(store: LatentStore, name: str) -> Snapshot:
    """The snapshot NAME (its latest generation) or NAME@GENERATION. Raises DataError if there is none."""
    stem, _, generation = name.partition("@")
    if generation and not generation.isdecimal():
        raise DataError(f"snapshot {name}: expected NAME or NAME@GENERATION, such as {stem}@1")
    found = store.get_snapshot(stem, int(generation)) if generation else store.latest_snapshot(stem)
    if found is None:
        names = ", ".join(store.snapshot_names()) or "none"
        raise DataError(f"{store.uri}: no snapshot {name}; it holds: {names}")
    return found


def subjects_of(store: LatentStore, inversion_id: str) -> list[str]:
    """The subjects of an inversion's clips, sorted."""
    return sorted({record.subject for record in store.commits(inversion_id)})


def snapshot_rows(snapshot: Snapshot, table: Table) -> None:
    """Add the rows that describe the data to the table of a plan or a report."""
    generation = f"@{snapshot.generation}" if snapshot.generation else " (to be taken)"
    seconds = sum(clip.frames / clip.frame_rate_hz for clip in snapshot.clips)
    table.add_row("subject", snapshot.clips[0].subject)
    table.add_row("snapshot", f"{snapshot.name}{generation}, digest {snapshot.digest[:12]}")
    table.add_row("footage", f"{len(snapshot.clips)} clips, {snapshot.frames:,} frames, {seconds:.0f} s")


def _inversion(store: LatentStore, wanted: str | None, generator_sha256: str | None = None) -> str:
    """The only inversion that matches; if a generator is named, only inversions made with it match."""
    generators = {name: _generator_of(store, name) for name in store.inversion_ids()}
    if not generators:
        raise DataError(f"{store.uri}: holds no clips yet; jobs/invert.py turns footage into latents")
    if wanted is not None and wanted not in generators:
        raise DataError(f"{store.uri}: no inversion {wanted}; it holds: {', '.join(generators)}")
    if wanted is not None:
        return wanted
    fitting = [name for name, sha256 in generators.items() if generator_sha256 in (None, sha256)]
    if not fitting and generator_sha256 is not None:
        made_with = ", ".join(sorted({sha256[:12] for sha256 in generators.values()}))
        raise DataError(
            f"{store.uri}: its latents were made with another generator ({made_with}) than --weights holds "
            f"({generator_sha256[:12]}); name the weights that made them, or invert the footage with these"
        )
    if len(fitting) > 1:
        raise DataError(
            f"{store.uri}: {len(fitting)} inversions fit; choose with --inversion: " + ", ".join(fitting)
        )
    return fitting[0]


def _generator_of(store: LatentStore, inversion_id: str) -> str:
    """The generator of an inversion; all its commits name the same one."""
    return next(store.commits(inversion_id)).generator_sha256


def links_of(card: Mapping[str, Any]) -> dict[str, str]:
    """The links between the runs that led to a model and those that use it, as `Run.link` takes them."""
    return {name: str(card[field]) for name, field in _LINKS.items() if field in card}


def _only_subject(store: LatentStore, inversion_id: str) -> str:
    subjects = subjects_of(store, inversion_id)
    if len(subjects) > 1:
        raise DataError(
            f"{store.uri}: shows {len(subjects)} subjects and a model learns one; choose with --subject: "
            + ", ".join(subjects)
        )
    return subjects[0]


def _require_fit(store: LatentStore, snapshot: Snapshot, choice: DataChoice, generator_sha256: str) -> None:
    subjects = sorted({clip.subject for clip in snapshot.clips})
    if len(subjects) > 1 or choice.subject not in (None, subjects[0]):
        wanted = choice.subject or "one subject"
        raise DataError(
            f"snapshot {snapshot.name}: expected clips of {wanted}, got {', '.join(subjects)}; "
            "name another snapshot, or none, and a subject"
        )
    if snapshot.generator_sha256 != generator_sha256:
        raise DataError(
            f"snapshot {snapshot.name} of {store.uri}: its latents were made with generator "
            f"{snapshot.generator_sha256[:12]}, expected {generator_sha256[:12]}; name those weights"
        )


def _name(store: LatentStore, subject: str) -> str:
    """A name that is valid in the store and that no other subject's snapshot has.

    For a subject in Latin letters, it is the subject with `-` in place of characters that a key cannot hold.
    If that drops letters, or if another subject has the name, a part of the subject's hash is added.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", subject).strip("-._")
    short = name[:_NAME_LENGTH] or "subject"
    holder = store.latest_snapshot(short)
    if holder is not None:
        is_free = {clip.subject for clip in holder.clips} == {subject}
    else:
        is_free = subject.isascii() and len(name) in range(1, _NAME_LENGTH + 1)
    if is_free:
        return short
    mark = hashlib.sha256(subject.encode()).hexdigest()[:_MARK_LENGTH]
    return f"{short[: _NAME_LENGTH - _MARK_LENGTH - 1]}-{mark}"
