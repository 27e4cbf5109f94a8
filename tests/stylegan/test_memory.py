"""What memory is free, and that pictures take no more than is said of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from svgan_ray.errors import MachineError
from svgan_ray.stylegan import EncoderConfig, GeneratorConfig
from svgan_ray.stylegan.memory import encoding_bytes, free_memory_bytes, require_memory, synthesis_bytes

ROOT = Path(__file__).parents[2]
GENERATOR = GeneratorConfig(256, channel_base=16384)
ENCODER = EncoderConfig("e4e", 14, units=(1, 1, 1, 1), head_width=32)
PROGRAM = """
import torch
from svgan_ray.stylegan import Encoder, EncoderConfig, Generator, GeneratorConfig
from tests.peak import peak_bytes
torch.set_num_threads(1)
encoder, generator = Encoder({encoder}).eval(), Generator({generator}).eval()
for network in (encoder, generator):
    network.requires_grad_(False)
images, w_plus = torch.rand(8, 3, 256, 256), torch.randn(2, 14, 512, requires_grad={with_gradients})
before = peak_bytes()
{work}
print(peak_bytes() - before)
"""


def _peak_bytes(work: str, with_gradients: bool = False) -> int:
    program = PROGRAM.format(encoder=ENCODER, generator=GENERATOR, work=work, with_gradients=with_gradients)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    ("work", "with_gradients", "said"),
    [
        ("encoder.encode(images)", False, encoding_bytes(ENCODER, 8)),
        ("generator.synthesis(w_plus)", False, synthesis_bytes(GENERATOR, 2)),
        ("generator.synthesis(w_plus).sum().backward()", True, synthesis_bytes(GENERATOR, 2, True)),
    ],
    ids=["encode", "show", "show with gradients"],
)
def test_pictures_take_what_is_said_and_not_far_less(work: str, with_gradients: bool, said: int) -> None:
    peak = _peak_bytes(work, with_gradients)
    assert 0.1 * said < peak < said


def test_a_machine_without_enough_memory_is_told_in_numbers() -> None:
    needed = synthesis_bytes(GeneratorConfig(1024), 1)
    assert 0.8e9 < needed < 1.2e9
    require_memory(1, "nothing")
    with pytest.raises(
        MachineError, match=r"a picture takes 1000000.0 GB of memory, .* GB are free; nothing"
    ):
        require_memory(10**15, "a picture")


def test_free_memory_is_the_machines_or_what_the_container_has_left(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "memory.current").write_text("1500000000\n")
    (tmp_path / "memory.stat").write_text("anon 1300000000\ninactive_file 200000000\n")
    assert free_memory_bytes(tmp_path, tmp_path / "none") == 8_192_000_000
    assert free_memory_bytes(tmp_path, tmp_path) == 700_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory_bytes(tmp_path, tmp_path) == 8_192_000_000
    assert free_memory_bytes(tmp_path / "nowhere") is None
