"""Verification of a whole store; it also finds the keys to delete so that a next run repairs the damage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from svgan_ray.errors import CorruptObjectError, StoreSchemaError
from svgan_ray.store import codec, keys
from svgan_ray.store.backend import Entry, ObjectNotFoundError
from svgan_ray.store.latent_store import LatentStore
from svgan_ray.store.objects import OnProgress, in_threads, unwatched, watched
from svgan_ray.store.records import CommitRecord, ObjectRef, Record, Snapshot, record_type

__all__ = ["Problem", "VerificationReport", "repair", "verify"]

_MADE_AGAIN = ("tracks", "chunks", "commits", "failures", "bases", "catalog")


@dataclass(frozen=True)
class Problem:
    """One fault. The next run makes deleted `repair_keys` again; if there are none, a person must act."""

    key: str
    fault: str
    repair_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerificationReport:
    """The number of checked objects, and the problems that were found."""

    objects: int
    size_bytes: int
    problems: list[Problem]


def verify(store: LatentStore, deep: bool = False, on_progress: OnProgress = unwatched) -> VerificationReport:
    """Check every record, and that all objects it names exist; with `deep`, read and hash every object too.

    Progress counts objects.
    """
    entries = {entry.key: entry for entry in store.backend.list("")}
    records: dict[str, Record] = {}
    problems: list[Problem] = []
    record_keys = [key for key in entries if record_type(key)]
    others = [key for key in entries if not record_type(key)]
    read = watched(in_threads(lambda key: _read(store, key), record_keys), on_progress, len(entries))
    for key, found in zip(record_keys, read, strict=True):
        if isinstance(found, Problem):
            problems.append(found)
        elif found is not None:
            records[key] = found
    named_by = {ref.key: key for key, record in records.items() for ref in record.objects()}
    for key, record in records.items():
        problems += _reference_problems(store, key, record.objects(), entries)
        if isinstance(record, Snapshot):
            problems += _snapshot_problems(store, key, record, records)
    checked = in_threads(lambda key: _content_problem(store, key, named_by, deep), others)
    for done, problem in enumerate(checked, start=len(record_keys) + 1):
        problems += [problem] if problem else []
        on_progress(done, len(entries))
    return VerificationReport(len(entries), sum(entry.size_bytes for entry in entries.values()), problems)


def repair(store: LatentStore, report: VerificationReport, break_lock: bool = False) -> list[str]:
    """Delete the objects that the next run makes again; returns their keys. Snapshots and models stay."""
    doomed = sorted({key for problem in report.problems for key in problem.repair_keys})
    with store.exclusive(break_lock):
        for key in doomed:
            store.backend.delete(key)
    return doomed


def _read(store: LatentStore, key: str) -> Record | Problem | None:
    cls = record_type(key)
    assert cls is not None
    try:
        return cls.from_json(store.backend.get(key), key)
    except ObjectNotFoundError:  # deleted since the listing
        return None
    except CorruptObjectError as error:
        return Problem(key, str(error), _made_again(key))
    except StoreSchemaError as error:
        return Problem(key, str(error))


def _reference_problems(
    store: LatentStore, key: str, refs: Iterable[ObjectRef], entries: dict[str, Entry]
) -> list[Problem]:
    problems = []
    for ref in refs:
        # An object that is not in the listing may have been written after the listing passed its key.
        entry = entries.get(ref.key) or store.backend.stat(ref.key)
        if entry is None:
            problems.append(Problem(ref.key, f"missing, but named by {key}", _made_again(key)))
        elif entry.size_bytes != ref.size_bytes:
            fault = f"has {entry.size_bytes:,} bytes, expected {ref.size_bytes:,}"
            problems.append(Problem(ref.key, fault, _made_again(key, ref.key)))
    return problems


def _snapshot_problems(
    store: LatentStore, key: str, snapshot: Snapshot, records: dict[str, Record]
) -> list[Problem]:
    problems = []
    for clip in snapshot.clips:
        commit_key = keys.commit(snapshot.inversion_id, clip.clip_id)
        commit = records.get(commit_key) or _read(store, commit_key)
        if not isinstance(commit, CommitRecord) or commit.work_sha256 != clip.work_sha256:
            fault = f"names clip {clip.clip_id}, which is not committed with these latents"
            problems.append(Problem(key, fault))
    return problems


def _content_problem(store: LatentStore, key: str, named_by: dict[str, str], deep: bool) -> Problem | None:
    section, sha256 = key.partition("/")[0], keys.content_sha256(key)
    if sha256 is None and section not in ("sources", "bases", "catalog"):
        return Problem(key, "no object of the store has such a key; delete it by hand")
    if not deep or section == "sources" or key == keys.CATALOG:
        return None
    try:
        data = store.backend.get(key)
        if section == "catalog":
            if codec.sha256_of(data) != keys.stem(key):
                return Problem(key, "content differs from its sha256", _made_again(key))
        elif sha256 is None:
            codec.unseal_tensors(data, key)
        elif codec.sha256_of(data) != sha256:
            return Problem(key, "content differs from its sha256", _made_again(key, named_by.get(key, key)))
    except ObjectNotFoundError:  # deleted since the listing
        return None
    except CorruptObjectError as error:
        return Problem(key, str(error), _made_again(key))
    return None


def _made_again(*doomed: str) -> tuple[str, ...]:
    """The keys, if the next run makes these objects again after they are deleted; else nothing."""
    return doomed if all(key.startswith(_MADE_AGAIN) for key in doomed) else ()
