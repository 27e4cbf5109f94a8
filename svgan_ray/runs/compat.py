"""What svgan-ray rests on that MLflow does not promise, each with the reason why no public way will do.

tests/runs/test_compat.py compares all of it with the MLflow that is installed, and says what to change here
where a later version does otherwise.
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
"""The tag of a run's input that says what for; only MLflow's global `log_input` sets it by itself."""

LOGGED_IMAGES_TAG, IMAGES_FOLDER = "mlflow.loggedImages", "images"
"""What tells MLflow's page that a run has images, and where they lie: see `image_name`."""

_PREVIEW_SIDE = 1024  # the page shows it on the whole screen, too


def image_name(key: str, step: int, time_ms: int, unique: str) -> str:
    """File name without suffix from which MLflow's page reads key, step and time of an image.

    `MlflowClient.log_image` draws a new name each time: an image that is delivered twice would be two.
    """
    safe_key = re.sub(r"[^\w\-. /]", "_", key, flags=re.ASCII).replace("/", "~")
    return f"{safe_key}+step+{step}+timestamp+{time_ms}+{unique}"


def save_image(image: Image, folder: Path, name: str) -> tuple[Path, Path]:
    """Write the two files that MLflow's page makes a step slider of: the image and its preview.

    `MlflowClient.log_image` makes previews of 256 px, on which film strips cannot be read. The page centres a
    preview in a square that reaches below its card; so this one fills the square, with the image at its top.
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
    """What follows the server in the address of a run, of an experiment, or of all experiments.

    `shared_tag` lists the runs that have this tag. No function of MLflow tells an address. Without the
    workflow type its page opens in the other of its modes, that of language models.
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
    """Make MLflow's SQLite database, aside and then renamed: MLflow cannot open one that was left half made.

    MLflow makes it when a client is made, in a thousand transactions. Each would wait for the disk.
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
    """No transaction of this database waits for the disk: a thousand of them take minutes on a slow one."""
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
    """Keep MLflow from telling each migration of a new database; no setting of it does."""
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
