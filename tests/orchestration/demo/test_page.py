"""The demo's page shows footage beside what was made of it, and all that it links lies in the folder."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from svgan_ray.config import DemoConfig
from svgan_ray.orchestration.demo.page import STRIP_COLUMNS, Table, write_demo_page
from svgan_ray.orchestration.demo.plan import DemoPlan, plan_of
from svgan_ray.stylegan.weights import RECORD
from svgan_ray.video.pictures import save_png
from svgan_ray.video.reading import open_video
from svgan_ray.video.writing import SYNTHETIC_TAGS, read_tags, write_video
from tests.footage import ENCODER, face_frames, make_video, make_weights
from tests.inverted import invert_here

STAGES = Table(("stage", "time"), [("footage", "0:01"), ("train", "0:02")])


def plan_for(tmp_path: Path, video: Path | None) -> DemoPlan:
    """A plan with small random weights whose footage is inverted, sampled and evaluated."""
    config = DemoConfig(folder=str(tmp_path / "demo"), video=str(video) if video else None, subjects=2)
    plan = plan_of(config)
    weights = str(make_weights(tmp_path / "weights"))
    for seed, path in enumerate(plan.videos):
        if path != video:
            make_video(path, 60, seed=seed)
    invert = dataclasses.replace(plan.invert, weights=weights)
    for config_ in (*plan.samples, *plan.transfers):
        write_video(config_.out, face_frames(60, config_.seed)[:, 24:56, 32:64], 25.0, SYNTHETIC_TAGS)
    row = {
        "measure": "diversity",
        "of": "generated",
        "value": 0.98,
        "unit": "x real",
        "windows": 150,
        "verdict": "",
    }
    unmeasured = {**row, "measure": "frechet motion", "value": None}
    Path(plan.evaluate.out).write_text(json.dumps({"rows": [row, unmeasured]}))
    save_png(Path(plan.evaluate.out).with_suffix(".png"), np.zeros((8, 8, 3), np.uint8))
    train = dataclasses.replace(plan.train, weights=weights)
    invert_here(invert)
    fit = dataclasses.replace(plan.fit, out=weights) if plan.fit else None
    return dataclasses.replace(plan, invert=invert, train=train, fit=fit)


def linked(plan: DemoPlan) -> list[Path]:
    document = (plan.folder / "index.html").read_text()
    return [plan.folder / source for source in re.findall(r'<video src="([^"]+)"', document)]


def test_the_page_of_rendered_subjects(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, None)
    write_demo_page(plan, STAGES)
    videos = linked(plan)
    assert [v.name for v in videos] == [
        "subject-1-footage.mp4",
        "subject-1-reconstruction.mp4",
        *(f"subject-1-seed-{seed}.mp4" for seed in range(4)),
        "subject-2-footage.mp4",
        "subject-2-seed-0.mp4",
        "subject-2-seed-1.mp4",
    ]
    assert all(v.is_file() for v in videos)
    document = (plan.folder / "index.html").read_text()
    assert "<td>diversity</td><td>generated</td><td>0.98</td>" in document
    assert "frechet motion" not in document  # without a value
    assert "<td>footage</td><td>0:01</td>" in document
    with Image.open(plan.folder / "film_strip.png") as strip:
        side = ENCODER.input_side
        assert strip.width > STRIP_COLUMNS * side and strip.height > 9 * side
    with open_video(videos[0]) as video:
        assert video.info.frame_count == 60 and video.info.width == side
    assert "comment" not in read_tags(videos[0])  # footage is not synthetic
    assert "Synthetic" in read_tags(videos[1])["comment"]


def test_the_page_of_own_footage_shows_how_near_its_weights_are_and_what_to_expect(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, make_video(tmp_path / "anna.mp4", 60))
    assert plan.fit is not None
    record = Path(plan.fit.out, "generator", RECORD)
    fitted = {"source": {"held_out": {"image_db": 29.81}, "consent": "With everybody's consent."}}
    record.write_text(json.dumps(json.loads(record.read_text()) | fitted))
    write_demo_page(plan, STAGES)
    document = (plan.folder / "index.html").read_text()
    assert "<td>image_db</td><td>29.8</td>" in document and "everybody's consent" in html.unescape(document)
    assert "A face is seen for 2 s" in document
    names = [v.name for v in linked(plan)]
    assert names == [
        f"anna-{what}.mp4" for what in ("footage", "reconstruction", *(f"seed-{n}" for n in range(4)))
    ]
    assert "generated (synthetic), seed 0" in document
