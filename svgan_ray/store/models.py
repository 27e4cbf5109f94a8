"""Models and checkpoints: folders of files that are complete or absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from svgan_ray.errors import ConflictError, StoreError
from svgan_ray.files import written_whole_folder
from svgan_ray.store import codec, keys
from svgan_ray.store.backend import ObjectNotFoundError
from svgan_ray.store.objects import ObjectStore
from svgan_ray.store.records import ModelFile, ModelManifest

__all__ = ["ModelStore"]


class ModelStore(ObjectStore):
    """The part of the store that holds models; the files of a named model never change."""

    def put_model(self, folder: Path, name: str) -> None:
        """Store a folder's files as a model. Raises ConflictError if a model of this name has other files."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        if not paths:
            raise StoreError(f"model {name}: {folder} holds no files")
        self.put_files({path.relative_to(folder).as_posix(): path for path in paths}, name)

    def put_files(self, paths: Mapping[str, Path], name: str) -> None:
        """Store files by their names inside the model; raises the errors of `put_model`."""
        key = keys.model_manifest(name)
        manifest = ModelManifest(name, tuple(self._put_file(name, *file) for file in paths.items()))
        if self.put_once(key, manifest).work_sha256 != manifest.work_sha256:
            raise ConflictError(
                f"{self.uri}: model {name} stands already with other files; choose another name"
            )

    def get_model(self, name: str, folder: Path) -> None:
        """Write a model's files to a new folder, which appears complete or not at all.

        Raises ObjectNotFoundError, CorruptObjectError, ConfigError, and StoreError if the folder exists.
        """
        manifest = self.record(ModelManifest, keys.model_manifest(name))
        if manifest is None:
            raise ObjectNotFoundError(f"{self.uri}: no model {name}")
        if folder.exists():
            raise StoreError(f"model {name}: {folder} exists already; name another folder")
        with written_whole_folder(folder) as partial:
            self.write_files(manifest, partial)

    def write_files(self, manifest: ModelManifest, folder: Path) -> None:
        """Write a model's files below a folder; raises the errors of `get_model`."""
        for file in manifest.files:
            keys.model_file(manifest.name, file.sha256, file.path)  # refuses paths outside the folder
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content(file))

    def model_names(self, prefix: str = "") -> list[str]:
        """Names of the models that start with the prefix."""
        found = self.record_keys(f"models/{prefix}")
        return [name for key in found if (name := keys.model_name(key)) is not None]

    def delete_model(self, name: str) -> None:
        """Remove a model; it is no error if the model does not exist."""
        manifest = keys.model_manifest(name)
        self.backend.delete(manifest)
        for entry in list(self.backend.list(keys.model_files(name))):
            if keys.owner(entry.key) == manifest:
                self.backend.delete(entry.key)

    def _put_file(self, name: str, relative: str, path: Path) -> ModelFile:
        data = path.read_bytes()
        sha256 = codec.sha256_of(data)
        ref = self.put_content(keys.model_file(name, sha256, relative), data)
        return ModelFile(ref.key, sha256, len(data), relative)
