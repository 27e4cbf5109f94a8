"""A finished fit as ordinary weights folders that record their origin and whom they show."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svgan_ray.files import written_whole_folder
from svgan_ray.stylegan.fitting.fitter import Fitter
from svgan_ray.stylegan.fitting.scores import HeldOutScores
from svgan_ray.stylegan.weights import rendered_hashes, save_weights, weights_hash

__all__ = ["CONSENT", "Provenance", "save_fitted"]

CONSENT = (
    "These networks can show real people doing what they never did. Fit them and use them only with the "
    "consent of everybody whom the footage shows, and mark what they make as synthetic."
)
"""The notice that is printed before a fit begins and stored with its result."""


@dataclass(frozen=True)
class Provenance:
    """The origin of a fit: the parent's two weights folders, the subjects, the snapshot's digest."""

    generator_folder: Path
    encoder_folder: Path
    subjects: tuple[str, ...]
    snapshot_digest: str = ""


def save_fitted(fitter: Fitter, folder: str | Path, provenance: Provenance, scores: HeldOutScores) -> Path:
    """Write `generator`, `encoder` and `card.md` into a folder, each whole or not at all; returns the folder.

    A generator that was tuned alone lists its ancestors, because it can render the latents that were made
    with them. Its encoder is its parent's, byte for byte.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(fitter, provenance, scores)
    if fitter.config.what == "generator":
        ancestors = {"ancestors": list(rendered_hashes(provenance.generator_folder))}
        _copy(provenance.encoder_folder, folder / "encoder")
    else:
        ancestors = {}
        save_weights(fitter.encoder, folder / "encoder", source)
    save_weights(fitter.generator, folder / "generator", source | ancestors)
    (folder / "card.md").write_text(_card(source))
    return folder


def _source(fitter: Fitter, provenance: Provenance, scores: HeldOutScores) -> dict[str, Any]:
    return {
        "program": "svgan_ray.stylegan.fitting",
        "parent": {
            "generator": weights_hash(provenance.generator_folder),
            "encoder": weights_hash(provenance.encoder_folder),
        },
        "subjects": list(provenance.subjects),
        "snapshot": provenance.snapshot_digest,
        "steps": fitter.step,
        "images": fitter.step * fitter.config.batch,
        "held_out": scores.to_dict(),
        "consent": CONSENT,
        "settings": fitter.config.to_dict(),
    }


def _card(source: dict[str, Any]) -> str:
    held_out = "\n".join(f"| {name} | {value:.3f} |" for name, value in source["held_out"].items())
    return f"""# A generator fitted to {", ".join(source["subjects"])}

{source["consent"]}

- what was trained: {source["settings"]["what"]}
- steps: {source["steps"]} of {source["settings"]["batch"]} images
- parent: generator {source["parent"]["generator"]}, encoder {source["parent"]["encoder"]}
- snapshot: {source["snapshot"] or "none"}

Scores on held-out footage (`_db` is PSNR in decibels; energy and coherence are those of octave bands):

| score | value |
|---|---|
{held_out}
"""


def _copy(source: Path, target: Path) -> None:
    with written_whole_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
