"""Hostile and damaged files: a typed error that names what is wrong, no code run, memory and time bounded."""

from __future__ import annotations

import io
import pickle
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.errors import WeightsError
from svgan_ray.stylegan import EncoderConfig, import_weights
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.importing.containers import read_pickle
from svgan_ray.stylegan.importing.pickles import Budget
from svgan_ray.stylegan.metric_networks import ArcFace, ArcFaceConfig

from .hostile_files import HOSTILE, TINY
from .writers import (
    arcface_state,
    encoder_file,
    legacy,
    nvidia_pickle,
    random_generator,
    rosinality_file,
    rosinality_snapshot,
    write,
    zipped,
)

# What docs/weights.md promises for files that are refused: so many times the file, and so much more.
MEMORY_TIMES, MEMORY_MORE_BYTES = 4, 2**28
CPU_S = 20.0


@pytest.mark.parametrize(("build", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[[], bytes], message: str
) -> None:
    data = build()
    path = write(tmp_path, data, "hostile.pt")
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            import_weights(path, tmp_path / "out")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 2000 + len(str(path))
    assert peak_bytes < MEMORY_TIMES * len(data) + MEMORY_MORE_BYTES
    assert time.process_time() - start < CPU_S
    assert [p.name for p in tmp_path.iterdir()] == ["hostile.pt"]


def _good_files() -> list[bytes]:
    generator = random_generator(TINY)
    stages = {"widths": (16, 17, 18, 19), "units": (1, 1, 1, 1), "stem_width": 16}
    torch.manual_seed(0)
    encoders = [
        Encoder(EncoderConfig(kind, 4, 6, 32, head_width=4, **stages)).eval()  # type: ignore[arg-type]
        for kind in ("psp", "e4e", "restyle", "restyle_e4e")
    ]
    return [
        *(nvidia_pickle(generator, protocol=n) for n in (2, 3, 4, 5)),
        *(zipped(encoder_file(encoder, generator)) for encoder in encoders[:2]),
        *(legacy(encoder_file(encoder, generator)) for encoder in encoders[2:]),
        zipped(rosinality_file(generator)),
        legacy(rosinality_snapshot(generator)),
        zipped(arcface_state(ArcFace(ArcFaceConfig(16, 4, **stages)).eval())),
    ]


def _mutated(data: bytes, random: random.Random) -> bytes:
    """One to four changes of a kind that disks, transfers or attackers make."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(changed))
        length = min(random.choice((1, 1, 2, 8, 64, 1000)), len(changed) - at)
        match random.randrange(6):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at : at + length] = random.randbytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                changed[at:at] = random.randbytes(length)
            case 5 if random.random() < 0.3:
                del changed[at:]
                changed += b"\0"
    return bytes(changed)


@pytest.fixture(scope="module")
def good_files() -> list[bytes]:
    return _good_files()


def test_what_is_mutated_is_good(tmp_path: Path, good_files: list[bytes]) -> None:
    for number, data in enumerate(good_files):
        import_weights(write(tmp_path, data), tmp_path / str(number))


@pytest.mark.parametrize("part", range(20))
def test_mutations_are_imported_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good_files: list[bytes], part: int
) -> None:
    """2,000 in all: a mutation may miss what is used, but no other error than WeightsError comes out."""
    monkeypatch.chdir(tmp_path)
    refused = 0
    for seed in range(100 * part, 100 * part + 100):
        chooser = random.Random(seed)
        path = write(tmp_path, _mutated(chooser.choice(good_files), chooser))
        start = time.process_time()
        try:
            import_weights(path, tmp_path / "out")
        except WeightsError as error:
            refused += 1
            assert str(error).startswith(str(path)), seed
            assert len(str(error)) < 4000, seed
        assert time.process_time() - start < CPU_S, seed
    assert refused > 50
    assert {p.name for p in tmp_path.iterdir()} <= {"file", "out"}


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(value=PLAIN, protocol=st.integers(2, 5))
def test_plain_data_is_read_as_pickle_reads_it(value: Any, protocol: int) -> None:
    data = pickle.dumps([value, {1, 2}, b"", value], protocol)
    if protocol == 2:  # which writes empty bytes as a call of bytes
        data = pickle.dumps([value, {1, 2}, 0, value], protocol)
    expected = pickle.loads(data)
    if "__builtin__ bytes" in data.decode("latin-1").replace("\n", " "):
        return
    expected[1] = list(expected[1])
    assert read_pickle(io.BytesIO(data), Budget(len(data))) == expected
