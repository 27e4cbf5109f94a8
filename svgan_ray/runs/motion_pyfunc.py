"""Loads a trained model in MLflow and predicts with it; each logged model contains a copy of this file.

Nothing is pickled: MLflow runs this file ("models from code") and passes it folders of safetensors and JSON.
It is the only module here that imports mlflow at its top, because only MLflow imports it.
"""

import tempfile
from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from safetensors.torch import load_file

from svgan_ray.errors import InputError
from svgan_ray.stylegan.weights import load_generator
from svgan_ray.temporal.model import load_model
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents, transfer
from svgan_ray.video.writing import SYNTHETIC_TAGS, VideoWriter

LONGEST_S = 600.0


class MotionVideo(PythonModel):
    """Rows of seed, seconds and optionally subject -> a column `video` of mp4 files as bytes."""

    def load_context(self, context: PythonModelContext) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_model(context.artifacts["motion"]).to(device)
        self._generator = load_generator(context.artifacts["generator"], device)
        self._subjects = load_file(context.artifacts["subjects"], device)  # mean W+ [n, d] by name

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Make one video per row; equal rows give equal videos. Raises InputError."""
        rows = model_input.to_dict("records")
        return pd.DataFrame({"video": [self._video(**row) for row in rows]})

    def _video(self, seed: int, seconds: float, subject: str | None = None) -> bytes:
        if not 0 < seconds <= LONGEST_S:
            raise InputError(f"seconds: expected more than 0 and at most {LONGEST_S:g}, got {seconds}")
        model, side = self._model, self._generator.config.resolution
        frames = max(1, round(seconds * model.frame_rate_hz))
        chunks = sample_latents(model, int(seed), frames)
        if isinstance(subject, str):  # pandas holds nan if a row names no subject
            other = self._subject(subject)
            chunks = (transfer(chunk, model.w_ref, other) for chunk in chunks)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "video.mp4")
            with VideoWriter(path, side, side, model.frame_rate_hz, SYNTHETIC_TAGS) as video:
                for pictures in render(self._generator, chunks):
                    video.write(pictures)
            return path.read_bytes()

    def _subject(self, name: str) -> torch.Tensor:
        if name not in self._subjects:
            raise InputError(f"subject {name!r}: this model knows {', '.join(sorted(self._subjects))}")
        return self._subjects[name]


mlflow.models.set_model(MotionVideo())
