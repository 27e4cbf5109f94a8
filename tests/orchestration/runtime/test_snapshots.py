"""Which clips a job gets: by subject, by name, and only those of the generator at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.config import DataChoice
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.orchestration.runtime.snapshots import named_snapshot, resolve_snapshot
from svgan_ray.store import open_store
from svgan_ray.store.snapshots import select
from tests.motion import INVERSION, motion, put_clip

OURS, OTHERS = "a" * 64, "b" * 64


def test_the_only_subject_is_taken_and_the_snapshot_is_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    clips = {put_clip(store, "ann lee", motion(50, seed), OURS) for seed in range(3)}

    snapshot = resolve_snapshot(store, DataChoice(), OURS)

    assert {clip.clip_id for clip in snapshot.clips} == clips
    assert (snapshot.name, snapshot.generation) == ("ann-lee", 1)
    assert resolve_snapshot(store, DataChoice(), OURS) == snapshot
    put_clip(store, "ann lee", motion(50, 9), OURS)
    assert resolve_snapshot(store, DataChoice(), OURS, put=False).generation == 0
    assert resolve_snapshot(store, DataChoice(), OURS).generation == 2
    assert named_snapshot(store, "ann-lee@1") == snapshot
    assert resolve_snapshot(store, DataChoice(snapshot="ann-lee@1"), OURS) == snapshot


def test_filters_leave_clips_out(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    good = put_clip(store, "ann", motion(100, 1), OURS, mean_error=0.05)
    put_clip(store, "ann", motion(20, 2), OURS, mean_error=0.05)
    put_clip(store, "ann", motion(100, 3), OURS, mean_error=0.5)

    snapshot = resolve_snapshot(store, DataChoice(min_clip_s=2.0, max_error=0.1), OURS)

    assert [clip.clip_id for clip in snapshot.clips] == [good]
    for filters in (DataChoice(snapshot="ann", min_clip_s=2.0), DataChoice(snapshot="ann", max_error=0.1)):
        with pytest.raises(ConfigError, match="--snapshot ann: its clips are chosen already"):
            resolve_snapshot(store, filters, OURS)


def test_what_does_not_fit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    with pytest.raises(DataError, match=r"holds no clips yet.*invert"):
        resolve_snapshot(store, DataChoice(), OURS)
    put_clip(store, "ann", motion(50, 1), OURS)
    put_clip(store, "bob", motion(50, 2), OURS)
    with pytest.raises(DataError, match=r"shows 2 subjects.*ann, bob"):
        resolve_snapshot(store, DataChoice(), OURS)
    with pytest.raises(DataError, match=r"none of 2 clips .* shows cat; it holds: ann .*; bob "):
        resolve_snapshot(store, DataChoice(subject="cat"), OURS)
    with pytest.raises(DataError, match=r"another generator.*aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        resolve_snapshot(store, DataChoice(subject="ann"), OTHERS)
    with pytest.raises(DataError, match="no inversion"):
        resolve_snapshot(store, DataChoice(inversion="else"), OURS)
    put_clip(store, "ann", motion(50, 3), OURS, inversion_id="inversion-2")
    with pytest.raises(DataError, match="choose with --inversion: inversion-1, inversion-2"):
        resolve_snapshot(store, DataChoice(subject="ann"), OURS)
    chosen = resolve_snapshot(store, DataChoice(subject="ann", inversion=INVERSION), OURS)
    assert chosen.inversion_id == INVERSION


def test_a_named_snapshot_of_others_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    put_clip(store, "ann", motion(50, 1), OURS)
    resolve_snapshot(store, DataChoice(), OURS)
    with pytest.raises(DataError, match="no snapshot bob; it holds: ann"):
        named_snapshot(store, "bob")
    with pytest.raises(DataError, match="NAME@GENERATION"):
        named_snapshot(store, "ann@first")
    with pytest.raises(DataError, match="expected clips of bob, got ann"):
        resolve_snapshot(store, DataChoice(subject="bob", snapshot="ann"), OURS)
    with pytest.raises(DataError, match="made with generator"):
        resolve_snapshot(store, DataChoice(snapshot="ann"), OTHERS)


def test_a_named_snapshot_of_several_subjects_trains_nobody(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    for subject in ("ann", "bob"):
        put_clip(store, subject, motion(50, 1), OURS)
    store.put_snapshot(select(store, "everybody", INVERSION))
    for choice in (DataChoice(snapshot="everybody"), DataChoice(subject="ann", snapshot="everybody")):
        with pytest.raises(DataError, match=r"expected clips of .*, got ann, bob; name another"):
            resolve_snapshot(store, choice, OURS)


def test_subjects_in_other_scripts_have_snapshots_of_their_own(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    subjects = ["李娜", "Анна", "Zoë", "Zoé", "ann lee", "ann-lee", "x" * 80 + "1", "x" * 80 + "2"]
    for seed, subject in enumerate(subjects):
        put_clip(store, subject, motion(50, seed), OURS)
    names = [resolve_snapshot(store, DataChoice(subject=subject), OURS).name for subject in subjects]
    assert len(set(names)) == len(subjects)
    assert names[4] == "ann-lee" and names[5].startswith("ann-lee-")
    assert [resolve_snapshot(store, DataChoice(subject=subject), OURS).name for subject in subjects] == names


def test_a_snapshot_taken_under_a_shorter_name_keeps_it(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    put_clip(store, "Zoë", motion(50, 1), OURS)
    store.put_snapshot(select(store, "Zo", INVERSION))
    assert resolve_snapshot(store, DataChoice(), OURS).name == "Zo"
