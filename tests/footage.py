"""Small footage and small networks for tests: a bright head that moves over a dark room, with landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from svgan_ray.stylegan.encoder import Encoder, EncoderConfig
from svgan_ray.stylegan.generator import Generator, GeneratorConfig
from svgan_ray.stylegan.weights import save_weights
from svgan_ray.video.landmarks import write_sidecar
from svgan_ray.video.writing import write_video

WIDTH, HEIGHT = 96, 80
GENERATOR = GeneratorConfig(32, z_dim=16, w_dim=16, mapping_layers=1, channel_base=512, channel_max=16)
ENCODER = EncoderConfig("psp", GENERATOR.num_ws, 16, 32, (16, 16, 16, 16), (1, 1, 1, 1), 16, 16)


def face_points(frames: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Landmarks [frames, 68, 2] of a head that wanders by a few pixels."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([48 + 20 * np.cos(turn), 40 + 24 * np.sin(turn)], axis=1)
    eye = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    for first, x in ((36, 40), (42, 56)):
        points[first : first + 6] = np.stack([x + 3 * np.cos(eye), 36 + np.sin(eye)], axis=1)
    points[48], points[54] = (42, 52), (54, 52)
    phase = np.arange(frames)[:, None] / 12 + seed
    wander = 3 * np.concatenate([np.sin(phase), np.cos(0.7 * phase)], axis=1)
    return (points[None] + wander[:, None]).astype(np.float32)


def face_frames(frames: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Frames [frames, HEIGHT, WIDTH, 3] that show it; every frame differs from the others."""
    centre = face_points(frames, seed).mean(axis=1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x - centre[:, 0, None, None], y - centre[:, 1, None, None])
    head = np.clip(24 - distance, 0, 1)[..., None] * np.array([200, 150, 120])
    room = np.stack([x + 20 * seed, y, x + y], axis=-1) % 90
    return np.clip(room + head + (np.arange(frames) % 7)[:, None, None, None], 0, 255).astype(np.uint8)


def make_video(path: Path, frames: int = 60, seed: int = 0, frame_rate_hz: float = 25.0) -> Path:
    """An mp4 and its sidecar; the seed decides how it looks and moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, face_frames(frames, seed), frame_rate_hz, {})
    write_sidecar(path, face_points(frames, seed))
    return path


def make_audio_only(path: Path) -> Path:
    """An mp4 without pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        for packet in [*stream.encode(silence), *stream.encode(None)]:
            container.mux(packet)
    return path


def make_bad_videos(folder: Path) -> list[Path]:
    """A zero-byte file, a text, a truncated video and one without pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    empty, text, truncated = folder / "empty.mp4", folder / "text.mp4", folder / "truncated.mp4"
    empty.touch()
    text.write_text("not a video\n" * 100)
    whole = make_video(folder / "truncated.mp4", 60, seed=9).read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    return [empty, text, truncated, make_audio_only(folder / "audio.mp4")]


def make_weights(folder: Path) -> Path:
    """A random generator and encoder of 32 px in `folder`."""
    torch.manual_seed(0)
    save_weights(Generator(GENERATOR), folder / "generator", {"made_by": "tests"})
    save_weights(Encoder(ENCODER), folder / "encoder", {"made_by": "tests"})
    return folder
