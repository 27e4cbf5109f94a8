"""The spool keeps every whole event in order, whatever happens to its writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.runs.events import Attachment, Event
from svgan_ray.runs.spool import RunInfo, Spool

RUN = RunInfo("motion", "a run", "train", "some identity", None, 1, {"mlflow.source.name": "train.py"})

START, NO_TAGS = Event("start", {}), Event("tags", {"values": {}})

events = st.lists(
    st.one_of(
        st.builds(
            Event,
            st.just("metrics"),
            st.fixed_dictionaries({"step": st.integers(), "values": st.just({"loss": 0.5})}),
        ),
        st.builds(
            Event,
            st.just("tags"),
            st.fixed_dictionaries({"values": st.dictionaries(st.text(), st.text())}),
        ),
    ),
    max_size=20,
)


def drain(spool: Spool) -> list[Event]:
    drained: list[Event] = []
    while not spool.is_delivered:
        some, stop = spool.pending()
        assert len(some) == 1 or all(event.kind == "metrics" for event in some)
        spool.advance(stop, some)
        drained += some
    return drained


@settings(max_examples=50, deadline=None)
@given(events=events)
def test_events_come_out_as_they_went_in(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool.create(folder, RUN)
    for event in events:
        spool.append(event)
    assert drain(spool) == events
    spool.close()
    assert not list(folder.iterdir()), "a delivered spool leaves nothing"


@settings(max_examples=50, deadline=None)
@given(events=events, torn_bytes=st.integers(1, 40))
def test_a_torn_last_line_costs_only_that_event(tmp_path_factory, events, torn_bytes):
    folder = tmp_path_factory.mktemp("spool")
    last = Event("tags", {"values": {"name": "x" * 40}})
    spool = Spool.create(folder, RUN)
    for event in [*events, last]:
        spool.append(event)
    path = spool.folder / "events.jsonl"
    os.truncate(path, path.stat().st_size - torn_bytes)
    spool.close()
    left = list(Spool.abandoned(folder, RUN.identity))
    assert [event for spool in left for event in drain(spool)] == events
    for spool in left:
        spool.close()
    assert not list(folder.iterdir())


def test_a_line_that_is_not_an_event_is_passed_over(tmp_path):
    spool = Spool.create(tmp_path, RUN)
    with (spool.folder / "events.jsonl").open("ab") as file:
        file.write(b"\x00\x00\n[1]\n{}\n")
    spool.append(START)
    assert drain(spool) == [START]
    spool.close()


def test_an_event_longer_than_one_read_is_whole(tmp_path):
    spool = Spool.create(tmp_path, RUN)
    long = Event("tags", {"values": {"name": "x" * 1_000_000}})
    spool.append(long)
    assert drain(spool) == [long]
    spool.close()


def test_a_power_cut_that_emptied_a_file_harms_no_other_spool(tmp_path):
    spools = [Spool.create(tmp_path, RUN) for _ in range(3)]
    for spool in spools:
        spool.append(START)
        spool.advance(0, [])
        spool.close()
    (spools[0].folder / "run.json").write_text("")
    (spools[1].folder / "delivered").write_text("")
    left = list(Spool.abandoned(tmp_path))
    assert [spool.folder for spool in left] == [spool.folder for spool in spools[1:]]
    for spool in left:
        assert drain(spool) == [START]
        spool.close()


def test_a_write_cut_short_by_a_full_disk_costs_only_that_event(tmp_path, monkeypatch):
    spool = Spool.create(tmp_path, RUN)

    class Full:
        """The disk takes five bytes of the first line."""

        def write(self, data: bytes) -> int:
            spool._events = whole
            return whole.write(data[:5])

    whole, spool._events = spool._events, Full()
    with pytest.raises(OSError, match="space"):
        spool.append(START)
    spool.append(NO_TAGS)
    assert drain(spool) == [NO_TAGS]
    spool.close()


def test_a_living_spool_is_left_to_its_owner(tmp_path):
    spool = Spool.create(tmp_path, RUN)
    spool.append(START)
    assert not list(Spool.abandoned(tmp_path))
    spool.close()
    (left,) = Spool.abandoned(tmp_path)
    assert left.info == RUN
    assert not list(Spool.abandoned(tmp_path, "another identity"))
    left.close()


def test_delivered_files_are_deleted_and_undelivered_ones_kept(tmp_path):
    spool = Spool.create(tmp_path, RUN)
    for name in ("first.txt", "second.txt"):
        spool.append(Event("artifact", {"folder": ""}, Attachment(name, name.encode())))
    some, stop = spool.pending()
    spool.advance(stop, some)
    assert [path.name for path in spool.folder.rglob("*.txt")] == ["second.txt"]
    spool.close()


def test_importing_the_package_does_not_import_mlflow():
    code = "import sys, svgan_ray.runs; sys.exit('mlflow' in sys.modules)"
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0
