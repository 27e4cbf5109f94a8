"""The analysis programs, as a person runs them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
from PIL import Image

from svgan_ray.config import InvertConfig
from svgan_ray.latents.basis import fit_basis
from svgan_ray.runs.server import free_port
from svgan_ray.temporal.checkpoints import save_checkpoint
from svgan_ray.temporal.training import new_state
from tests.browser import media_state, open_browser
from tests.footage import make_video, make_weights
from tests.inverted import draw_model, invert_here
from tests.motion import motion, tiny

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, a store of real footage and a model."""
    folder = tmp_path_factory.mktemp("made")
    video = make_video(folder / "anna.mp4", 150, seed=1)
    weights = str(make_weights(folder / "weights"))
    invert_here(InvertConfig(videos=(str(video),), store=str(folder / "store"), weights=weights))
    draw_model(str(folder / "store"), weights, "anna", folder / "model")
    return folder


def run(made: Path, program: str, **flags: Any) -> str:
    """The page that a program writes."""
    command = [sys.executable, str(ROOT / "analysis" / program)]
    out = f"pages/{Path(program).stem}.html"
    command += [part for name, value in {**flags, "out": out}.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    document = (made / out).read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', document), "nothing outside the page"
    return document


def test_real_and_generated_motion_on_one_page(made: Path) -> None:
    document = run(made, "real_and_generated.py", model="model", store="store", weights="weights", seconds=8)
    assert "Real and generated motion of anna" in document
    assert document.count('<img src="data:image/png') == 1
    assert document.count("<svg") == 8  # a course and a spectrum of four components
    curves = re.findall(r'clip-path="url\(#\w+\)" style="fill: none; stroke: var\(--series-(\d)\)', document)
    assert sorted(curves) == 8 * ["0"] + 8 * ["1"]  # real and generated in each
    assert (made / "pages/real_and_generated.png").read_bytes().startswith(b"\x89PNG")


def test_drift_is_shown_from_the_start_to_the_end_of_samples(made: Path) -> None:
    flags = {"model": "model", "store": "store", "weights": "weights", "samples": 8, "seconds": 12}
    document = run(made, "drift.py", **flags)
    assert re.findall(r"from (\d+) s on", document) == ["0", "4", "8"]
    assert document.count('<video src="data:video/mp4') == 3 and document.count("<svg") == 2
    assert re.findall(r"<td>2 s</td><td>(.*?)</td>", document) == ["at 0 s", "at 10 s"]
    assert (made / "pages/drift.png").read_bytes().startswith(b"\x89PNG")


def test_each_component_of_the_basis_is_swung(made: Path) -> None:
    document = run(made, "basis.py", model="model", weights="weights", components=3)
    assert document.count('<video src="data:video/mp4') == 3
    assert re.search(r"component 1, \d+\.\d% of the variance", document)
    with Image.open(made / "pages/basis.png") as strip:
        assert strip.height == 3 * 32 + 2 * 2
        columns = [
            strip.crop((strip.width - 9 * 34 + 34 * n + 2, 0, strip.width - 9 * 34 + 34 * n + 34, 32))
            for n in (0, 8)
        ]
        assert columns[0].tobytes() != columns[1].tobytes(), "a component moves the picture"


def test_motion_is_divided_among_layers_and_frequencies(made: Path) -> None:
    document = run(made, "where_motion_lives.py", model="model", store="store", seconds=8)
    cells = re.findall(r"<td>(\d+\.\d)%</td>", document)
    shares = [sum(map(float, cells[side::2])) for side in (0, 1)]
    assert len(cells) == 2 * 8 and all(abs(share - 100) < 1 for share in shares)
    assert (made / "pages/where_motion_lives.png").read_bytes().startswith(b"\x89PNG")


def make_study(folder: Path, directions: int) -> None:
    """A study's database and the folders that its trials leave."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    study = optuna.create_study(
        storage=storage, study_name="small", directions=["minimize"] * directions, load_if_exists=True
    )

    def measure(trial: optuna.Trial) -> list[float]:
        rate, layers = trial.suggest_float("rate", 1e-4, 1e-2, log=True), trial.suggest_int("layers", 1, 4)
        return [layers + 100 * rate, 5 - layers][:directions]

    study.optimize(measure, n_trials=12)
    storage.engine.dispose()
    basis = fit_basis([motion(300)], 16)
    for number in range(2):
        trial = folder / "trials" / f"trial-{number}"
        save_checkpoint(new_state(tiny(seed=number), basis), trial / "checkpoint_000000")
        lines = [
            {"motion_distance": 9.0, "diverged": False},
            {"motion_distance": 3.0 - number, "diverged": False},
        ]
        (trial / "result.json").write_text("\n".join(map(json.dumps, lines)) + "\n")


@pytest.mark.parametrize("directions", [1, 2])
def test_a_study_is_told_with_its_best_trials_first(made: Path, tmp_path: Path, directions: int) -> None:
    make_study(tmp_path, directions)
    flags = {
        "weights": "weights",
        "database": f"sqlite:///{tmp_path / 'optuna.db'}",
        "study": "small",
        "trials": tmp_path / "trials",
    }
    document = run(made, "study.py", **flags)
    assert "12 trials: 12 complete" in document
    captions = re.findall(r"trial-\d: motion_distance \d\.\d\d", document)
    assert captions == ["trial-1: motion_distance 2.00", "trial-0: motion_distance 3.00"]
    assert document.count('<video src="data:video/mp4') == 2
    assert document.count("<h2>History of") == document.count("<h2>What mattered for") == directions
    assert document.count("<h2>Pareto front") == directions - 1


@pytest.mark.cluster
def test_votes_of_a_blind_comparison_are_kept_and_gone_on_with(made: Path, tmp_path: Path) -> None:
    port, votes = free_port(), tmp_path / "votes.jsonl"
    flags = ["--models", "model", "model", "--weights", "weights", "--pairs", "3", "--seconds", "1"]
    flags += ["--port", str(port), "--votes", str(votes)]
    command = [sys.executable, str(ROOT / "analysis/blind_votes.py"), *flags]
    with open_browser() as page:
        for choices in (("left", "same"), ("right",)):
            booth = subprocess.Popen(command, cwd=made, stdout=subprocess.PIPE, text=True)
            assert booth.stdout is not None and f"127.0.0.1:{port}" in booth.stdout.readline()
            page.goto(f"http://127.0.0.1:{port}/")
            assert media_state(page) >= 2
            for choice in choices:
                before = page.get_by_text("noted").count()
                page.get_by_role("button", name=choice).first.click()
                page.wait_for_function(f"document.body.innerText.split('noted').length - 1 > {before}")
            booth.send_signal(signal.SIGINT)
            said, _ = booth.communicate(timeout=60)
    noted = [json.loads(line) for line in votes.read_text().splitlines()]
    assert [vote["pair"] for vote in noted] == [0, 1, 2]
    assert [vote["choice"] for vote in noted] == ["left", "same", "right"]
    assert said.count("preferred") == 2 and "by chance alone" in said


def test_a_vote_from_another_page_is_refused(made: Path, tmp_path: Path) -> None:
    port, votes = free_port(), tmp_path / "votes.jsonl"
    flags = ["--models", "model", "model", "--weights", "weights", "--pairs", "1", "--seconds", "1"]
    command = [sys.executable, str(ROOT / "analysis/blind_votes.py"), *flags]
    command += ["--port", str(port), "--votes", str(votes)]
    booth = subprocess.Popen(command, cwd=made, stdout=subprocess.PIPE, text=True)
    try:
        assert booth.stdout is not None and booth.stdout.readline()
        for origin, vote, status in (
            ("http://foreign.example", b'{"pair": 0, "choice": "left"}', 403),
            (f"http://127.0.0.1:{port}", b'{"pair": 9, "choice": "left"}', 400),
            (f"http://127.0.0.1:{port}", b"not json", 400),
        ):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/vote", vote, {"Origin": origin})
            with pytest.raises(urllib.error.HTTPError, match=str(status)) as refusal:
                urllib.request.urlopen(request, timeout=10)
            refusal.value.close()
    finally:
        booth.terminate()
        booth.communicate(timeout=60)
    assert not votes.exists()
