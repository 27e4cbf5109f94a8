"""The store's tool: what each subcommand prints, leaves behind and exits with, over a folder and over S3."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from svgan_ray.orchestration.runtime.snapshots import named_snapshot
from svgan_ray.orchestration.store_tool.job import main as run_store_tool
from svgan_ray.store import LatentStore, keys, open_store, select
from tests.store.samples import (
    CLIP,
    INVERSION,
    TRACKING,
    VIDEO,
    chunk_tensors,
    failure_record,
    put_chunks,
    put_clip,
    track_record,
    track_tensors,
)

BEN = "44" * 16


@pytest.fixture(autouse=True)
def wide_terminal_in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")


def filled(uri: str) -> LatentStore:
    """Two subjects, two failures, a snapshot, a model, and a chunk that nothing names."""
    store = open_store(uri, create=True)
    store.put_track(track_record(), track_tensors())
    put_clip(store)
    put_clip(store, BEN, "ben")
    store.put_failure(INVERSION, failure_record("88" * 16))
    store.put_failure(TRACKING, failure_record("99" * 32, attempts=2))
    store.put_snapshot(select(store, "both", INVERSION))
    Path("model").mkdir()
    Path("model/weights.safetensors").write_bytes(b"weights")
    store.put_model(Path("model"), "anna")
    store.put_chunk(INVERSION, "55" * 16, 0, chunk_tensors())
    return store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest) -> LatentStore:
    if request.param == "folder":
        return filled("store")
    request.getfixturevalue("s3")
    return filled(f"s3://motion/{uuid.uuid4().hex}")


class Tool:
    """Runs a command line on a store, remembers what it printed."""

    def __init__(self, store: LatentStore, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, *argv: str) -> int:
        code = run_store_tool([*argv, "--store", self.store.uri])
        self.out, self.err = self.capsys.readouterr()
        return code

    def row(self, first: str) -> list[str]:
        """The cells of the row that begins so."""
        [row] = [line.split() for line in self.out.splitlines() if line.split()[:1] == [first]]
        return row[1:]


@pytest.fixture
def tool(store: LatentStore, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(store, capsys)


def test_ls_counts_what_stands(tool: Tool) -> None:
    assert tool("ls") == 0
    assert tool.row(INVERSION) == ["2", "1"]
    assert tool.row(TRACKING) == ["1", "1"]
    assert tool.row("both") == ["1"]
    assert tool.row("chunks")[0] == "5"
    assert tool.row("models")[0] == "2" and tool.row("anna") == []


def test_show_tells_all_about_one_thing(tool: Tool) -> None:
    for name, told in {
        INVERSION: ["12 frames", "ben", "0.2500", "worker_died", "not_there"],
        TRACKING[:6]: ["/footage/anna.mp4", "centre_sigma_s 0.04", "not_there"],
        VIDEO[:8]: ["640 × 360", CLIP, "6 to 7", "skipped: no_face", "not_there"],
        CLIP[:5]: ["node-a", "0 to 5", VIDEO, "not_there"],
        "88": ["the worker was killed", "not_there"],
        "both": ["both@1", "chosen by", "0.5 s", "not_there"],
        "both@1": ["both@1", "not_there"],
        "anna": ["weights.safetensors", "7 bytes", "not_there"],
    }.items():
        assert tool("show", name) == 0, tool.err
        assert [words for words in told if words not in tool.out] == ["not_there"], name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ff", "nothing has the id or name ff"),
        ("", "ids begin with , give more digits: 4444"),
        ("both@7", "no snapshot"),
    ],
)
def test_show_asks_for_a_name_that_is_one_things(tool: Tool, name: str, words: str) -> None:
    assert tool("show", name) == 2
    assert words in tool.err


def test_verify_of_a_sound_store(tool: Tool) -> None:
    for flags in ([], ["--deep"], ["--deep", "--repair"]):
        assert tool("verify", *flags) == 0
        assert "15 objects" in tool.out and "all sound" in tool.out


def test_a_chunk_deleted_by_hand_gets_a_repair_plan(tool: Tool) -> None:
    lost = tool.store.get_commit(INVERSION, BEN)
    assert lost is not None
    tool.store.backend.delete(lost.chunks[1].key)
    assert tool("verify") == 1
    assert lost.chunks[1].key in tool.out
    assert f"--repair deletes  {keys.commit(INVERSION, BEN)}" in tool.out
    assert tool.store.get_commit(INVERSION, BEN) is not None, "a plan deletes nothing"

    assert tool("verify", "--repair") == 0
    assert tool.store.get_commit(INVERSION, BEN) is None
    assert tool("verify") == 1 and "repair            by hand" not in tool.out
    assert "snapshots/both" in tool.out, "it names the clip that is gone"
    put_clip(tool.store, BEN, "ben")  # as the next inversion does
    assert tool("verify", "--deep") == 0


def test_a_flipped_bit_is_found_by_a_deep_look_only(tool: Tool) -> None:
    chunk = put_chunks(tool.store)[0]
    content = bytearray(tool.store.backend.get(chunk.key))
    content[-1] ^= 1
    tool.store.backend.put(chunk.key, bytes(content))
    assert tool("verify") == 0
    assert tool("verify", "--deep") == 1
    assert "content differs from its sha256" in tool.out


def test_a_repair_that_must_wait_says_so(tool: Tool) -> None:
    tool.store.backend.delete(put_chunks(tool.store)[0].key)
    with tool.store.exclusive():
        assert tool("verify", "--repair") == 2
        assert "break its lock with --break-lock" in tool.err
        assert tool("verify", "--repair", "--break-lock") == 0


def test_gc_is_dry_until_told(tool: Tool) -> None:
    assert tool("gc") == 0
    assert "would delete 0 objects" in tool.out and "1 unnamed objects that are younger" in tool.out
    orphans = list(tool.store.stored_chunks(INVERSION, "55" * 16))
    assert tool("gc", "--grace-days", "0") == 0
    assert "would delete 1 objects" in tool.out and "--delete deletes them" in tool.out
    assert list(tool.store.stored_chunks(INVERSION, "55" * 16)) == orphans
    assert tool("gc", "--grace-days", "0", "--delete") == 0
    assert not tool.store.stored_chunks(INVERSION, "55" * 16)
    assert tool("verify", "--deep") == 0
    assert tool("gc", "--grace-days", "-1") == 2 and "expected a number, 0 or more" in tool.err


def test_a_snapshot_is_of_one_subject(tool: Tool) -> None:
    assert tool("snapshot") == 2
    assert "choose with --subject: anna, ben" in tool.err
    assert tool("snapshot", "--subject", "ben") == 0
    assert tool.row("snapshot") == ["ben@1"] and BEN in tool.out
    assert tool("snapshot", "best", "--subject", "ben", "--max-error", "0.3") == 0
    assert tool.row("snapshot") == ["best@1"] and "max_mean_error 0.3" in tool.out
    assert tool("snapshot", "best", "--subject", "ben", "--min-clip-s", "9") == 2
    assert tool("snapshot", "--inversion", "other") == 2 and f"it holds: {INVERSION}" in tool.err


def test_an_export_reads_back_without_the_store(tool: Tool) -> None:
    assert tool("export", "both", "--out", "out") == 0
    assert "2 clips, 12 frames in out/" in tool.out
    index = json.loads(Path("out/clips.json").read_text())
    assert index["snapshot"] == "both@1" and [c["subject"] for c in index["clips"]] == ["ben", "anna"]
    for clip in index["clips"]:
        latents = tool.store.read_clip(INVERSION, clip["file"].removesuffix(".npz"))
        with np.load(Path("out") / clip["file"]) as archive:  # no pickle is read by default
            assert set(archive) == {"w_plus", "time_s", "quad", "error", "interpolated"}
            for name in archive:
                np.testing.assert_array_equal(archive[name], getattr(latents, name).numpy())
    assert tool("export", "both", "--out", "out") == 2 and "exists already" in tool.err


def test_an_export_to_parquet_has_a_row_a_frame(tool: Tool) -> None:
    assert tool("export", "both", "--out", "out", "--format", "parquet") == 0

    table = pq.read_table("out/latents.parquet")
    about = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    clips = list(tool.store.snapshot_clips(named_snapshot(tool.store, "both")))
    assert table.num_rows == sum(clip.frames for clip in clips)
    w_plus = np.stack(table["w_plus"].to_numpy()).reshape(-1, int(about["num_ws"]), int(about["w_dim"]))
    assert np.array_equal(w_plus, np.concatenate([clip.w_plus.numpy() for clip in clips]))
    assert table["clip_id"].to_pylist() == [clip.clip_id for clip in clips for _ in range(clip.frames)]


def test_an_export_to_shards_holds_each_clip_once(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svgan_ray.orchestration.store_tool.export.SHARD_BYTES", 1)
    assert tool("export", "both", "--out", "out", "--format", "webdataset") == 0

    clips = {clip.clip_id: clip for clip in tool.store.snapshot_clips(named_snapshot(tool.store, "both"))}
    shards = sorted(Path("out").glob("*.tar"))
    assert len(shards) == len(clips) == 2
    for shard in shards:
        with tarfile.open(shard) as archive:
            names = archive.getnames()
            clip = clips[names[0].removesuffix(".npz")]
            with np.load(io.BytesIO(archive.extractfile(names[0]).read())) as arrays:  # type: ignore[union-attr]
                assert np.array_equal(arrays["w_plus"], clip.w_plus.numpy())
            about = json.loads(archive.extractfile(names[1]).read())  # type: ignore[union-attr]
            assert names[1] == f"{clip.clip_id}.json" and about["subject"] == clip.subject


def test_the_catalog_is_written_into_the_store(tool: Tool) -> None:
    assert tool("catalog") == 0 and "2 clips" in tool.out and "2 are new" in tool.out
    assert tool("catalog") == 0 and "0 are new" in tool.out
    assert tool("verify", "--deep") == 0


def test_an_export_that_fails_leaves_nothing(tool: Tool) -> None:
    tool.store.backend.delete(put_chunks(tool.store)[0].key)
    assert tool("export", "both", "--out", "out") == 2
    assert "`python jobs/store.py verify --deep` lists a repair" in tool.err
    Path("file").touch()
    assert tool("export", "both", "--out", "file/out") == 2 and "cannot be written" in tool.err
    assert sorted(path.name for path in Path().iterdir() if path.name != "store") == ["file", "model"]


def test_the_experiment_file_names_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_store_tool(["ls"]) == 2
    assert "store: no latent store here" in capsys.readouterr().err
    Path("experiment.toml").write_text('store = "elsewhere"\n')
    filled("elsewhere")
    assert run_store_tool(["ls"]) == 0
    assert "elsewhere" in capsys.readouterr().out
