"""Commits in threads: many at once, few ahead, each told."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from svgan_ray.errors import StoreError
from svgan_ray.orchestration.invert.commits import COMMITS_AT_ONCE, Commits
from svgan_ray.orchestration.invert.items import Clip
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store import CommitRecord
from tests.store.samples import commit_record

MANY = 5 * COMMITS_AT_ONCE


def begin(commits: Commits, count: int) -> list[str]:
    """Begin so many commits; returns the ids of their clips."""
    ids = [f"{number:032x}" for number in range(count)]
    for clip_id in ids:
        clip = Clip(clip_id, "", Source("v.mp4", 1, "1"), "anna", 0, 6, 25.0)
        commits.begin(clip, replace(commit_record([]), clip_id=clip_id))
    return ids


def test_many_are_on_their_way_at_once_and_told_in_order() -> None:
    together = threading.Barrier(COMMITS_AT_ONCE)
    commits = Commits(lambda record: together.wait(timeout=60))
    ids = begin(commits, 2 * COMMITS_AT_ONCE)
    assert [(clip.clip_id, error) for clip, _, error in commits.ended(all_of_them=True)] == [
        (clip_id, None) for clip_id in ids
    ]


def test_a_slow_store_holds_up_who_commits_too_far_ahead() -> None:
    answer = threading.Event()
    commits = Commits(lambda record: answer.wait(timeout=60))
    begin(commits, COMMITS_AT_ONCE)
    assert list(commits.ended()) == [], "a few may wait"
    begin(commits, MANY - COMMITS_AT_ONCE)
    threading.Timer(0.1, answer.set).start()
    assert len(list(commits.ended())) >= COMMITS_AT_ONCE
    list(commits.ended(all_of_them=True))


def test_what_the_store_says_is_told_and_anything_else_raised() -> None:
    def refuse(record: CommitRecord) -> None:
        raise StoreError(record.clip_id) if int(record.clip_id, 16) < 2 else ZeroDivisionError

    commits = Commits(refuse)
    begin(commits, 3)
    ended = commits.ended(all_of_them=True)
    for _ in range(2):
        clip, record, error = next(ended)
        assert isinstance(error, StoreError) and str(error) == clip.clip_id == record.clip_id
    with pytest.raises(ZeroDivisionError):
        next(ended)


def test_those_not_begun_are_given_up_when_the_job_ends() -> None:
    answer, begun = threading.Event(), []

    def wait(record: CommitRecord) -> None:
        begun.append(record.clip_id)
        answer.wait(timeout=60)

    commits = Commits(wait)
    begin(commits, MANY)
    commits.close()
    answer.set()
    commits.close()
    assert len(begun) <= COMMITS_AT_ONCE
