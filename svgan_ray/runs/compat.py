"""Behaviour of MLflow that svgan-ray needs and that is not public, with the reason for each.

tests/runs/test_compat.py compares all of it with the installed MLflow, and tells what to change here if a
later version behaves differently.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "DATASET_CONTEXT_TAG",
    "IMAGES_FOLDER",
    "LOGGED_IMAGES_TAG",
    "image_name",
    "make_database",
    "page",
    "quiet",
    "save_image",
]

DATASET_CONTEXT_TAG = "mlflow.data.context"
"""The tag that holds the context of a run's input; only MLflow's global `log_input` sets it by itself."""

LOGGED_IMAGES_TAG, IMAGES_FOLDER = "mlflow.loggedImages", "images"
"""The tag that tells MLflow's page that a run has images, and their folder; see `image_name`."""

_PREVIEW_SIDE = 1024  # the page also shows the preview in full screen


def image_name(key: str, step: int, time_ms: int, unique: str) -> str:
    """File name without suffix, from which MLflow's page reads an image's key, step and time.

    `MlflowClient.log_image` draws a new name each time, so an image that is delivered twice would appear
    twice.
    """
    safe_key = re.sub(r"[^\w\-. /]", "_", key, flags=re.ASCII).replace("/", "~")
    return f"{safe_key}+step+{step}+timestamp+{time_ms}+{unique}"


def save_image(image: Image, folder: Path, name: str) -> tuple[Path, Path]:
    """Write the two files from which MLflow's page builds a step slider: the image and its preview.

    `MlflowClient.log_image` makes previews of 256 px, on which film strips are illegible. The page centres a
    preview in a square that extends below its card, so this preview fills the square, with the image at its
    top.
    """
    from PIL import Image

    full, preview = folder / f"{name}.png", folder / f"{name}+compressed.webp"
    image.save(full)
    small = image.copy()
    small.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    side = max(small.size)
    square = Image.new("RGBA", (side, side))
    square.paste(small, ((side - small.width) // 2, 0))
    square.save(preview)
    return full, preview


def page(experiment_id: str = "", run_id: str = "", shared_tag: tuple[str, str] | None = None) -> str:
    """The path, after the server's address, of the page of a run, of an experiment, or of all experiments.

    `shared_tag` lists the runs that have this tag. MLflow has no function that returns such an address.
    Without the workflow type, its page opens in the mode for language models.
    """
    place = f"/{experiment_id}" if experiment_id else ""
    place += "/runs" if run_id or shared_tag else ""
    place += f"/{run_id}" if run_id else ""
    search = ""
    if shared_tag:
        name, value = shared_tag
        search = "searchFilter=" + quote(f"tags.`{name}` = '{value}'", safe="") + "&"
    return f"#/experiments{place}?{search}workflowType=machine_learning"


def make_database(database: Path) -> None:
    """Create MLflow's SQLite database and then rename it, because MLflow cannot open an incomplete one.

    MLflow creates it together with a client, in a thousand transactions, each of which would wait for the
    disk.
    """
    from mlflow import MlflowClient

    unfinished = database.with_name(f"{database.name}.part")
    unfinished.unlink(missing_ok=True)
    with _unsynced(unfinished):
        MlflowClient(f"sqlite:///{unfinished}")
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(database)


@contextmanager
def _unsynced(database: Path) -> Iterator[None]:
    """Let no transaction of this database wait for the disk: a thousand take minutes on a slow disk."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def begin(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):  # other threads may connect elsewhere meanwhile
            (_, _, file), *_ = connection.execute("PRAGMA database_list")
            if file == str(database):
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", begin)
    try:
        yield
    finally:
        event.remove(Engine, "connect", begin)


def quiet() -> None:
    """Keep MLflow from logging each migration of a new database; it has no setting for that."""
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
