"""Networks of real size, in the users' formats, imported and used: 1024 px, 18 styles, IR-SE50."""

from __future__ import annotations

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

from .writers import encoder_file, nvidia_pickle

REAL = GeneratorConfig(1024)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pickle of NVIDIA's and an e4e file."""
    folder = tmp_path_factory.mktemp("real")
    torch.manual_seed(0)
    generator = Generator(REAL).requires_grad_(False)
    (folder / "network.pkl").write_bytes(nvidia_pickle(generator))
    encoder = Encoder(EncoderConfig("e4e", REAL.num_ws)).eval().requires_grad_(False)
    torch.save(encoder_file(encoder, generator), folder / "e4e.pt")
    return {"pickle": folder / "network.pkl", "e4e": folder / "e4e.pt"}


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_import_encode_and_show_at_1024(files: dict[str, Path], tmp_path: Path) -> None:
    report = import_weights(files["e4e"], tmp_path)
    assert [folder.name for folder in report.folders] == ["generator", "encoder"]
    generator, encoder = load_generator(tmp_path), load_encoder(tmp_path)
    assert (generator.config, encoder.config) == (REAL, EncoderConfig("e4e", 18))
    w_plus = encoder.encode(torch.rand(2, 3, 256, 256) * 2 - 1)
    assert w_plus.shape == (2, 18, 512)
    picture = generator.synthesis(w_plus[:1])
    assert picture.shape == (1, 3, 1024, 1024)
    assert picture.isfinite().all()
    import_weights(files["pickle"], tmp_path / "nvidia")
    again = load_generator(tmp_path / "nvidia")
    assert again.config == generator.config
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, generator.state_dict()[key]) or key == "mapping.w_avg"


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_memory_of_an_import_follows_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    """At most twice the file and a gigabyte, as docs/weights.md says."""
    program = (
        "import resource, sys; from svgan_ray.stylegan import import_weights\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import_weights(sys.argv[1], sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    for kind, path in files.items():
        command = [sys.executable, "-c", program, str(path), str(tmp_path / kind)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) * 1024 < 2 * path.stat().st_size + 2**30
