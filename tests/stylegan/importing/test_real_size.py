"""Networks of real size, in the users' formats, imported and used: 1024 px, 18 styles, IR-SE50."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svgan_ray.stylegan import (
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
    import_weights,
    load_encoder,
    load_generator,
)
from svgan_ray.video.reading import open_video

from .writers import encoder_file, nvidia_pickle

REAL = GeneratorConfig(1024)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pickle as NVIDIA writes it, and an e4e file."""
    folder = tmp_path_factory.mktemp("real")
    torch.manual_seed(0)
    generator = Generator(REAL).requires_grad_(False)
    (folder / "network.pkl").write_bytes(nvidia_pickle(generator))
    encoder = Encoder(EncoderConfig("e4e", REAL.num_ws)).eval().requires_grad_(False)
    torch.save(encoder_file(encoder, generator), folder / "e4e.pt")
    return {"pickle": folder / "network.pkl", "e4e": folder / "e4e.pt"}


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_import_invert_train_and_sample_at_1024(files: dict[str, Path]) -> None:
    """Eight frames are encoded, refined and rendered within 4 GiB; pixels of random networks mean nothing."""
    command = [sys.executable, "-m", "tests.real_size", str(files["e4e"].parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert (measured["frames"], measured["w_plus"], measured["steps"]) == (8, [18, 512], 3)
    assert 30_300_000 < measured["parameters"] < 30_400_000
    assert measured["peak_bytes"] < 4 * 2**30
    with open_video(files["e4e"].with_name("sample.mp4")) as video:
        assert (video.info.frame_count, video.info.width, video.info.height) == (8, 1024, 1024)
        assert video.read(0, 8).std() > 1


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_both_formats_hold_the_same_generator(files: dict[str, Path], tmp_path: Path) -> None:
    loaded = []
    for path in files.values():
        import_weights(path, tmp_path)
        loaded.append(load_generator(tmp_path))
    assert [generator.config for generator in loaded] == [REAL, REAL]
    assert load_encoder(tmp_path).config == EncoderConfig("e4e", 18)
    for key, tensor in loaded[0].state_dict().items():
        assert torch.equal(tensor, loaded[1].state_dict()[key]) or key == "mapping.w_avg"


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_memory_of_an_import_follows_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    """At most twice the file and a gigabyte, as docs/weights.md says."""
    program = (
        "import sys; from svgan_ray.stylegan import import_weights; from tests.peak import peak_bytes\n"
        "before = peak_bytes()\n"
        "import_weights(sys.argv[1], sys.argv[2])\n"
        "print(peak_bytes() - before)"
    )
    for kind, path in files.items():
        command = [sys.executable, "-c", program, str(path), str(tmp_path / kind)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 2 * path.stat().st_size + 2**30
