"""ArcFace against a naive twin; the I3D program is taken unrun and runs only unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from svgan_ray.errors import DataError, WeightsError
from svgan_ray.stylegan import import_weights, load_arcface, load_i3d, load_lpips
from svgan_ray.stylegan.metric_networks import ArcFace, ArcFaceConfig

from ..naive_encoder import NaiveEncoder, randomised_norms
from ..naive_generator import Array
from .writers import UNITS, WIDTHS, LpipsProgram, arcface_state, legacy, script, write, zipped

ARCFACE = ArcFaceConfig(32, 12, WIDTHS, UNITS, stem_width=16)


def _arcface() -> ArcFace:
    torch.manual_seed(0)
    network = ArcFace(ARCFACE)
    randomised_norms(network, 2)
    network.output_layer[4].running_mean.normal_()
    return network.eval().requires_grad_(False)


def _pooled(x: Array, side: int) -> Array:
    """Mean over the pixels that each of side x side cells touches."""
    edges = [(i * x.shape[-1] // side, -(-(i + 1) * x.shape[-1] // side)) for i in range(side)]
    rows = np.stack([x[:, :, start:stop].mean(axis=2) for start, stop in edges], axis=2)
    return np.stack([rows[..., start:stop].mean(axis=3) for start, stop in edges], axis=3)


def _naive(network: ArcFace, faces: Array) -> Array:
    twin = NaiveEncoder(network.state_dict(), UNITS)
    x = twin.stages(_pooled(_pooled(faces, 256)[:, :, 35:223, 32:220], ARCFACE.side))[3]
    x = twin.norm("output_layer.0", x).reshape(len(x), -1)
    state = twin.state
    x = x @ state["output_layer.3.weight"].T + state["output_layer.3.bias"]
    x = twin.norm("output_layer.4", x[:, :, None, None])[:, :, 0, 0]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_arcface_may_be_wrapped_halved_and_without_counters(tmp_path: Path) -> None:
    network = _arcface()
    network.load_state_dict({k: t.half().to(t.dtype) for k, t in network.state_dict().items()})
    state = {f"module.{key}": tensor.half() for key, tensor in arcface_state(network).items()}
    del state["module.output_layer.4.num_batches_tracked"]
    import_weights(write(tmp_path, zipped(state)), tmp_path / "out")
    loaded = load_arcface(tmp_path / "out").state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("container", [zipped, legacy])
def test_imported_arcface_equals_its_twin(tmp_path: Path, container: object) -> None:
    network = _arcface()
    path = write(tmp_path, container(arcface_state(network)))  # type: ignore[operator]
    assert [folder.name for folder in import_weights(path, tmp_path / "out").folders] == ["arc_face"]
    loaded = load_arcface(tmp_path / "out")
    assert loaded.config == ARCFACE
    for side in (256, 300):
        faces = torch.rand(2, 3, side, side) * 2 - 1
        expected = _naive(network, faces.double().numpy())
        assert np.abs(loaded(faces).double().numpy() - expected).max() <= 1e-4 * expected.std()
    with pytest.raises(DataError, match=r"expected images \[N, 3, S, S\]"):
        loaded(torch.zeros(3, 64, 64))


def test_size_of_the_published_arcface() -> None:
    with torch.device("meta"):
        state = ArcFace(ArcFaceConfig()).state_dict()
    assert len(state) == 397
    assert tuple(state["output_layer.3.weight"].shape) == (512, 25088)


class _Program(nn.Module):
    """Stands in for I3D: the same arguments, few weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.arange(400.0))

    def forward(
        self, videos: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = True
    ) -> Tensor:
        assert rescale and resize and return_features
        return videos.mean(dim=(1, 2, 3, 4))[:, None] * self.scale


class _OtherProgram(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_i3d_is_pinned_and_runs_only_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path, script(_Program()), "i3d_torchscript.pt")
    report = import_weights(path, tmp_path / "out")
    assert any(f"only while its SHA-256 is {report.sha256}" in note for note in report.notes)
    network = load_i3d(tmp_path / "out")
    videos = torch.randint(0, 256, (2, 3, 10, 8, 8), dtype=torch.uint8)
    expected = videos.double().mean(dim=(1, 2, 3, 4))[:, None] * torch.arange(400)
    torch.testing.assert_close(network(videos).detach().double(), expected, rtol=1e-5, atol=1e-3)
    assert list(network.state_dict()) == ["program"]
    with pytest.raises(DataError, match="T of 10 or more"):
        network(videos[:, :, :9])
    changed = load_i3d(tmp_path / "out")
    changed.program[100] += 1
    with pytest.raises(WeightsError, match=r"expected SHA-256 .* it was not run"):
        changed(videos)


def test_lpips_is_a_distance_with_gradients(tmp_path: Path) -> None:
    path = write(tmp_path, script(LpipsProgram()), "vgg16.pt")
    assert [folder.name for folder in import_weights(path, tmp_path / "out").folders] == ["lpips"]
    lpips, program = load_lpips(tmp_path / "out"), LpipsProgram()
    pictures = (torch.rand(2, 3, 512, 512) * 2 - 1).requires_grad_()
    images = torch.rand(2, 3, 512, 512) * 2 - 1
    distance = lpips(pictures, images)
    features = [
        program((nn.functional.avg_pool2d(x, 2) + 1) * 127.5, False, True) for x in (pictures, images)
    ]
    torch.testing.assert_close(distance, (features[0] - features[1]).square().sum(1), rtol=1e-4, atol=1e-3)
    distance.sum().backward()
    assert pictures.grad is not None and pictures.grad.abs().max() > 0
    assert float(lpips(images, images).sum()) == 0
    with pytest.raises(DataError, match="two batches of pictures"):
        lpips(images, images[:1])


def test_another_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not one that is known: expected I3d, forward\(..., rescale, "):
        import_weights(write(tmp_path, script(_OtherProgram())), tmp_path / "out")
