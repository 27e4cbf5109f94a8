"""FVD, FID, identity and ACD from footage and networks in the formats in which users have them."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from torch import Tensor, nn

from svgan_ray.config import DataChoice, EvaluateConfig, InvertConfig
from svgan_ray.errors import ConfigError, DataError, InputError, WeightsError
from svgan_ray.metrics.pixels import SnippetShape
from svgan_ray.orchestration.evaluate.job import plan as plan_evaluation
from svgan_ray.orchestration.evaluate.job import run as evaluate
from svgan_ray.orchestration.runtime.footage import aligned_footage, footage_snippets, longest_clip
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.store import open_store
from svgan_ray.stylegan import import_weights
from svgan_ray.stylegan.metric_networks import ArcFace, ArcFaceConfig
from svgan_ray.stylegan.weights import weights_hash
from tests.footage import make_video
from tests.inverted import draw_model, invert_here

FRAMES = 150


class I3dStandIn(nn.Module):
    """Brightness of six moments of a clip and how it changes, as the real one is called."""

    def forward(
        self, videos: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = True
    ) -> Tensor:
        assert rescale and resize and return_features
        light = videos.flatten(3).mean(dim=3)
        return torch.cat(
            [light[:, 0, 0:6], (light[:, 1, 1:] - light[:, 1, :-1]).abs().mean(1, keepdim=True)], 1
        )


class InceptionStandIn(nn.Module):
    """Mean colours of the quarters of a picture."""

    def forward(self, img: Tensor, use_fp16: bool = False, return_features: bool = False) -> Tensor:
        assert return_features and img.dtype == torch.uint8
        return torch.nn.functional.adaptive_avg_pool2d(img.float(), 2).flatten(1)


def script(module: nn.Module) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all three, imported from the files in which users have them."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    arc_face = ArcFace(ArcFaceConfig(32, 12, (16, 24, 32, 48), (1, 2, 1, 2), stem_width=16))
    Path(folder, "i3d_torchscript.pt").write_bytes(script(I3dStandIn()))
    Path(folder, "inception-2015-12-05.pt").write_bytes(script(InceptionStandIn()))
    torch.save(arc_face.state_dict(), folder / "model_ir_se50.pth")
    for path in list(folder.iterdir()):
        import_weights(path, folder / "imported")
    assert {path.name for path in (folder / "imported").iterdir()} == {"i3d", "inception", "arc_face"}
    return folder / "imported"


@pytest.fixture
def trained(work_folder: Path, weights: Path) -> Path:
    """Footage, its latents and a model in the working directory."""
    video = make_video(work_folder / "footage/anna.mp4", FRAMES, seed=1)
    invert_here(InvertConfig(videos=(str(video),), store="store", weights=str(weights)))
    draw_model("store", str(weights), "anna", "models/demo")
    return work_folder


def config_for(weights: Path, networks: Path, **changes: Any) -> EvaluateConfig:
    values = {"subject": "anna", "weights": str(weights), "networks": str(networks)}
    return EvaluateConfig(**{**values, "samples": 10, "seconds": 8.0, "clips": 9, **changes})


def test_every_measure_of_pictures_says_how_it_was_measured(
    trained: Path, weights: Path, networks: Path, mlflow_uri: str
) -> None:
    report = evaluate(config_for(weights, networks))

    document = json.loads(Path("reports/evaluation.json").read_text())
    rows = {(row["measure"], row["of"]): row for row in document["rows"]}
    fvds = [rows["FVD", of] for of in ("16 frames", "128 frames", "16 frames, stride 8")]
    for row, (frames, stride) in zip(fvds, [(16, 1), (128, 1), (16, 8)], strict=True):
        assert f"n 9 a side, T {frames}, stride {stride}, 25 Hz, 32 px uint8" in row["protocol"]
        assert "resized by the network" in row["protocol"] and row["protocol"].endswith("cpu")
        record = json.loads((networks / "i3d/model.json").read_text())
        assert f"i3d sha256 {record['config']['sha256']}" in row["protocol"]
        assert row["windows"] == 9 and row["value"] > 0
    assert rows["FID", "frames of clips"]["windows"] == 9 * 16
    assert f"arc_face sha256 {weights_hash(networks / 'arc_face')}" in rows["ACD", "generated"]["protocol"]
    assert rows["ACD", "footage"]["value"] > 0
    assert -1 <= rows["identity", "generated, to the subject"]["value"] <= 1
    assert document["figures"]["fvd/16_frames/stride_8"] == fvds[2]["value"]
    with Image.open("reports/evaluation.pixels.png") as figure:
        assert figure.width > 1000 and len(np.unique(np.asarray(figure))) > 50
    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("svgan-ray")
    run = client.search_runs([experiment.experiment_id], f"params.networks = '{networks}'")[0]
    assert run.data.metrics["fid/frames_of_clips"] == pytest.approx(rows["FID", "frames of clips"]["value"])
    assert "evaluation.pixels.png" in {file.path for file in client.list_artifacts(run.info.run_id)}
    again = evaluate(config_for(weights, networks, out="again.json"))
    assert again.scores == report.scores


def test_clips_of_footage_are_its_own_frames_nearest_in_time(trained: Path, weights: Path) -> None:
    store = open_store("store")
    snapshot = resolve_snapshot(store, DataChoice(subject="anna"), weights_hash(weights / "generator"))
    record = longest_clip(store, snapshot.inversion_id, "anna")
    every = np.concatenate(list(aligned_footage(store, record, FRAMES, 32)))

    clips = list(footage_snippets(store, snapshot, SnippetShape(16, 4), 12.5, 5, seed=0, side=32))

    assert [clip.shape for clip in clips] == [(16, 32, 32, 3)] * 5
    starts = []
    for clip in clips:  # 12.5 Hz and every fourth of these: every eighth of 25 Hz
        matches = [s for s in range(FRAMES - 120) if np.array_equal(every[s : s + 121 : 8], clip)]
        starts += matches[:1]
    assert len(starts) == 5 and starts == sorted(starts) and len(set(starts)) > 2


def test_what_cannot_be_shown_is_refused(
    trained: Path, weights: Path, networks: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--networks nowhere: expected a folder that holds i3d, inception"):
        plan_evaluation(config_for(weights, Path("nowhere")))
    store = open_store("store")
    snapshot = resolve_snapshot(store, DataChoice(subject="anna"), weights_hash(weights / "generator"))
    with pytest.raises(DataError, match=r"no clip holds 8\.0 s of pictures"):
        next(footage_snippets(store, snapshot, SnippetShape(200), 25.0, 1, seed=0, side=32))
    with pytest.raises(WeightsError, match="belongs to generator"):
        evaluate(config_for(Path("demo"), networks))
    Path("footage/anna.mp4").unlink()
    with pytest.raises(InputError, match=r"anna\.mp4: the footage is not there"):
        evaluate(config_for(weights, networks))
    assert not Path("reports").exists()
