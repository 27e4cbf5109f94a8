"""The import as a whole: what it writes, says and refuses, from Python and from the command line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svgan_ray.errors import MachineError, WeightsError
from svgan_ray.stylegan import import_weights, load_encoder, load_generator, memory, require_pair

from .writers import (
    SMALL,
    encoder_file,
    nvidia_pickle,
    random_encoder,
    random_generator,
    rosinality_file,
    write,
    zipped,
)

ROOT = Path(__file__).parents[3]


def test_record_tells_where_the_weights_came_from(tmp_path: Path) -> None:
    data = nvidia_pickle(random_generator())
    path = write(tmp_path, data, "ffhq.pkl")
    report = import_weights(path, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "generator" / "model.json").read_text())
    assert record["kind"] == "generator"
    assert record["config"]["channel_base"] == SMALL.channel_base
    source = record["source"]
    assert source["file"] == "ffhq.pkl"
    assert source["sha256"] == report.sha256 == hashlib.sha256(data).hexdigest()
    assert source["size_bytes"] == len(data)
    assert source["format"] == "NVIDIA StyleGAN2 pickle"
    assert tuple(source["notes"]) == report.notes
    assert any("self-test: a picture of 32 px" in note for note in report.notes)
    assert any("may not be used commercially" in note for note in report.notes)
    assert str(report).startswith(f"NVIDIA StyleGAN2 pickle, SHA-256 {report.sha256}\n  ")
    assert f"wrote {tmp_path / 'out' / 'generator'}" in str(report)


def test_generator_and_encoder_from_two_files_share_a_folder(tmp_path: Path) -> None:
    other = random_generator(seed=1)
    import_weights(write(tmp_path, zipped(encoder_file(random_encoder("e4e", 8), other))), tmp_path / "out")
    import_weights(write(tmp_path, nvidia_pickle(random_generator())), tmp_path / "out")
    generator = load_generator(tmp_path / "out")
    require_pair(generator, load_encoder(tmp_path / "out"))
    assert torch.equal(generator.synthesis.b4.const, random_generator().synthesis.b4.const)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["encoder", "generator"]


def test_expected_hash_is_held(tmp_path: Path) -> None:
    data = zipped(rosinality_file(random_generator()))
    path = write(tmp_path, data)
    with pytest.raises(WeightsError, match="expected SHA-256 00ff, got"):
        import_weights(path, tmp_path / "out", sha256="00ff")
    assert not (tmp_path / "out").exists()
    import_weights(path, tmp_path / "out", sha256=hashlib.sha256(data).hexdigest().upper())


def test_unreadable_places(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        import_weights(tmp_path / "nowhere.pkl", tmp_path / "out")
    with pytest.raises(WeightsError, match="cannot be read"):
        import_weights(tmp_path, tmp_path / "out")
    (tmp_path / "out" / "generator").mkdir(parents=True)
    (tmp_path / "out" / "generator" / "thesis.tex").write_text("mine")
    with pytest.raises(WeightsError, match="is not a weights folder; nothing was written"):
        import_weights(write(tmp_path, nvidia_pickle(random_generator())), tmp_path / "out")


def test_too_little_memory_is_said_before_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 10**8)
    path = write(tmp_path, nvidia_pickle(random_generator()))
    with pytest.raises(MachineError, match=r"a picture of 32 px takes 0.3 GB of memory, 0.1 GB are free"):
        import_weights(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", [1, 7, 100, 0.5, 0.9, -1])
def test_truncated_files_are_refused(tmp_path: Path, cut: float) -> None:
    for data in (nvidia_pickle(random_generator()), zipped(rosinality_file(random_generator()))):
        stop = int(cut * len(data)) if 0 < cut < 1 else int(cut)
        with pytest.raises(WeightsError):
            import_weights(write(tmp_path, data[:stop]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_job_imports_and_fails_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, nvidia_pickle(random_generator()), "ffhq.pkl")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "jobs" / "import_weights.py"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )

    done = run("ffhq.pkl", "--out", "weights/faces")
    assert done.returncode == 0, done.stderr
    assert "NVIDIA StyleGAN2 pickle" in done.stdout
    assert load_generator(tmp_path / "weights" / "faces").config.resolution == 32
    path.write_bytes(b"hello")
    failed = run("ffhq.pkl", "--out", "weights/faces")
    assert failed.returncode == 2
    assert failed.stderr.strip().startswith("error: ffhq.pkl: not a weight file")
    assert "Traceback" not in failed.stderr
