"""Where one of these fails, MLflow does otherwise than svgan_ray/runs/compat.py says: change it there."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow.server
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.utils import mlflow_tags
from PIL import Image
from sqlalchemy import event
from sqlalchemy.engine import Engine

from svgan_ray.runs import compat

SCRIPTS = Path(mlflow.server.__file__).with_name("js") / "build/static/js"
UNIQUE = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")


def test_images_are_named_and_tagged_as_mlflow_does(open_training_run, uri):
    picture = np.zeros((8, 16, 3), np.uint8)
    with open_training_run() as run:
        run.log_image(picture, "validation/film strip", 5)
        assert run.flush(240)
    client = MlflowClient(uri)
    theirs = client.create_run(run.experiment_id).info.run_id
    client.log_image(theirs, picture, key="validation/film strip", step=5, timestamp=1796066715407)
    ours, wanted = names(client, run.run_id), names(client, theirs)
    assert ours == wanted, (
        f"MLflow names the files of an image {wanted} now: let image_name and save_image do the same"
    )
    tags = client.get_run(theirs).data.tags
    assert tags[compat.LOGGED_IMAGES_TAG] == client.get_run(run.run_id).data.tags[compat.LOGGED_IMAGES_TAG], (
        "MLflow marks runs that have images otherwise: look at MlflowClient.log_image for LOGGED_IMAGES_TAG"
    )


def names(client: MlflowClient, run_id: str) -> set[str]:
    """Paths of a run's images without what differs from one image to the next."""
    paths = [UNIQUE.sub("UNIQUE", file.path) for file in client.list_artifacts(run_id, compat.IMAGES_FOLDER)]
    return {re.sub(r"\+timestamp\+\d{13}\+", "+timestamp+TIME+", path) for path in paths}


def test_mlflows_own_preview_is_too_small_for_a_film_strip(open_training_run, uri, tmp_path):
    with open_training_run() as run:
        assert run.flush(240)
    client = MlflowClient(uri)
    client.log_image(run.run_id, np.zeros((64, 1024, 3), np.uint8), key="strip")
    (preview,) = [
        file.path for file in client.list_artifacts(run.run_id, "images") if "compressed" in file.path
    ]
    with Image.open(client.download_artifacts(run.run_id, preview, str(tmp_path))) as image:
        assert max(image.size) < 1024, (
            "MLflow's previews can be read now: save_image may leave the preview to it, if it takes a name"
        )


def test_the_tag_of_an_inputs_context_is_mlflows():
    assert mlflow_tags.MLFLOW_DATASET_CONTEXT == compat.DATASET_CONTEXT_TAG, "change DATASET_CONTEXT_TAG"


@pytest.mark.parametrize("word", ["workflowType", "machine_learning", "searchFilter"])
def test_mlflows_page_reads_the_words_of_our_addresses(word):
    assert any(word in script.read_text() for script in SCRIPTS.glob("*.js")), (
        f"MLflow's page knows no {word!r} any more: open a run in it and let page() write such addresses"
    )


def test_a_new_database_is_made_by_connections_that_do_not_wait_for_the_disk(tmp_path):
    waits: set[int] = set()

    def look(connection, *_):
        (level,) = connection.connection.dbapi_connection.execute("PRAGMA synchronous").fetchone()
        waits.add(level)

    event.listen(Engine, "before_cursor_execute", look)
    try:
        compat.make_database(tmp_path / "mlflow.db")
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    assert waits == {0}, (
        "MLflow makes its database otherwise than by SQLAlchemy when a client is made: change make_database"
    )
