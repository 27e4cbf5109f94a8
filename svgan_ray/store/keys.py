"""Every name in the store: how keys are made from ids, and which record owns which content.

    store.json                                                 marks the root
    lock.json                                                  create-if-absent; a collection or repair runs
    sources/<source id>/<video id>                             empty; the video that a file last held
    tracks/<tracking id>/<video id>.json                       create-if-absent
    tracks/<tracking id>/<video id>/<outline>-<sha256>.safetensors    quads of its clips; outlines.py
    tracks/<tracking id>/<video id>/landmarks-<sha256>.safetensors    landmarks of its clips
    chunks/<inversion id>/<clip id>/<00003>-<sha256>.safetensors
    commits/<inversion id>/<clip id>.json                      create-if-absent, written last
    failures/<tracking id or inversion id>/<video or clip id>.json
    bases/<basis id>.safetensors                               create-if-absent
    snapshots/<name>/<00000007>.json                           create-if-absent
    models/<name>/files/<sha256>/<path>
    models/<name>/manifest.json                                create-if-absent, written last
    catalog/parts/<sha256>.parquet, catalog/catalog.parquet    derived from the commits; catalog.py

A key with a `<sha256>` identifies the content of its object; `<sha256>.1` is another copy of the same
content. No key contains a path of the user.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from svgan_ray.errors import ConfigError

__all__ = [
    "CATALOG",
    "CATALOG_PARTS",
    "LOCK",
    "MARKER",
    "SECTIONS",
    "TEMPORARY",
    "as_name",
    "basis",
    "catalog_part",
    "chunk",
    "chunk_number",
    "chunks",
    "clip_id",
    "commit",
    "commits",
    "content_id",
    "content_sha256",
    "copy",
    "failure",
    "failures",
    "inversion_and_clip",
    "model_file",
    "model_files",
    "model_manifest",
    "model_name",
    "owner",
    "snapshot",
    "snapshot_generation",
    "snapshots",
    "source",
    "source_id",
    "stem",
    "track",
    "track_landmarks",
    "track_tensors",
    "tracks",
    "video_and_outline",
]

MARKER = "store.json"
LOCK = "lock.json"
SECTIONS = ("sources", "tracks", "chunks", "commits", "failures", "bases", "snapshots", "models", "catalog")
CATALOG = "catalog/catalog.parquet"
CATALOG_PARTS = "catalog/parts/"
TEMPORARY = ".temporary/"
"""The folder in which the folder backend writes files first; files of killed writers there are garbage."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CONTENT = (
    re.compile(
        r"(?P<owner>tracks/[^/]+/(?P<video_id>[^/]+))/(?P<outline>[0-9a-f]{16}\.[0-9a-z_-]+)"
        r"-(?P<sha256>[0-9a-f]{64})(\.\d+)?\.safetensors"
    ),
    re.compile(
        r"chunks/(?P<owner>[^/]+/[^/]+)/(?P<number>\d{5})-(?P<sha256>[0-9a-f]{64})(\.\d+)?\.safetensors"
    ),
    re.compile(r"(?P<owner>models/.+?)/files/(?P<sha256>[0-9a-f]{64})(\.\d+)?/.+"),
    re.compile(r"(?P<owner>tracks/[^/]+/[^/]+)/landmarks-(?P<sha256>[0-9a-f]{64})(\.\d+)?\.safetensors"),
)
_MANIFEST = re.compile(r"models/(?P<name>(?!.*/files/[0-9a-f]{64}(\.\d+)?/).+)/manifest\.json")
_OWNERS = ("{}.json", "commits/{}.json", "{}/manifest.json", "{}.json")


def content_id(mapping: Mapping[str, object]) -> str:
    """A derived id: the first 32 hex digits of the sha256 of the mapping's canonical JSON."""
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def clip_id(video_id: str, tracking_id: str, first_frame: int, stop_frame: int) -> str:
    """Id of the frames [first_frame, stop_frame) of a video, tracked with the settings of a tracking id."""
    return content_id(
        {
            "video_id": video_id,
            "tracking_id": tracking_id,
            "first_frame": first_frame,
            "stop_frame": stop_frame,
        }
    )


def source_id(uri: str, size_bytes: int, version: str) -> str:
    """Id of a version of a file; `version` is its modification time in ns or its ETag."""
    return content_id({"uri": uri, "size_bytes": size_bytes, "version": version})


def source(source_id: str, video_id: str) -> str:
    """Key of the record that a source held this video."""
    return f"sources/{_name(source_id)}/{_name(video_id)}"


def tracks(tracking_id: str) -> str:
    """Prefix of all tracks with one tracking id."""
    return f"tracks/{_name(tracking_id)}/"


def track(tracking_id: str, video_id: str) -> str:
    """Key of a video's track record."""
    return f"{tracks(tracking_id)}{_name(video_id)}.json"


def track_tensors(tracking_id: str, video_id: str, outline: str, sha256: str) -> str:
    """Key of the tensors beside a track record; for the outline see outlines.py."""
    return f"{tracks(tracking_id)}{_name(video_id)}/{_name(outline)}-{sha256}.safetensors"


def track_landmarks(tracking_id: str, video_id: str, sha256: str) -> str:
    """Key of the landmarks beside a track record."""
    return f"{tracks(tracking_id)}{_name(video_id)}/landmarks-{sha256}.safetensors"


def video_and_outline(key: str) -> tuple[str, str] | None:
    """Video id and outline of a track's tensors; None for keys of other objects."""
    match = _CONTENT[0].fullmatch(key)
    return (match["video_id"], match["outline"]) if match else None


def chunks(inversion_id: str, clip_id: str) -> str:
    """Prefix of a clip's chunks."""
    return f"chunks/{_name(inversion_id)}/{_name(clip_id)}/"


def chunk(inversion_id: str, clip_id: str, number: int, sha256: str) -> str:
    """Key of one chunk; `number` is its position in the clip, 0 to 99999."""
    if not 0 <= number <= 99999:
        raise ConfigError(f"chunk number {number} of clip {clip_id} is not in 0..99999; use longer chunks")
    return f"{chunks(inversion_id, clip_id)}{number:05d}-{sha256}.safetensors"


def chunk_number(key: str) -> int | None:
    """A chunk's position in its clip; None for keys of other objects."""
    match = _CONTENT[1].fullmatch(key)
    return int(match["number"]) if match else None


def commits(inversion_id: str) -> str:
    """Prefix of all commits of one inversion."""
    return f"commits/{_name(inversion_id)}/"


def commit(inversion_id: str, clip_id: str) -> str:
    """Key of a clip's commit."""
    return f"{commits(inversion_id)}{_name(clip_id)}.json"


def inversion_and_clip(commit_key: str) -> tuple[str, str]:
    """Inversion id and clip id of a commit's key."""
    _, inversion_id, name = commit_key.split("/")
    return inversion_id, name.removesuffix(".json")


def failures(scope_id: str) -> str:
    """Prefix of all failures of one tracking or inversion."""
    return f"failures/{_name(scope_id)}/"


def failure(scope_id: str, item_id: str) -> str:
    """Key of the failure of a video (scope: tracking id) or a clip (scope: inversion id)."""
    return f"{failures(scope_id)}{_name(item_id)}.json"


def basis(basis_id: str) -> str:
    """Key of a latent basis."""
    return f"bases/{_name(basis_id)}.safetensors"


def catalog_part(sha256: str) -> str:
    """Key of a part of the catalog, named by its content."""
    return f"{CATALOG_PARTS}{sha256}.parquet"


def snapshots(name: str) -> str:
    """Prefix of all generations of a snapshot."""
    return f"snapshots/{_name(name)}/"


def snapshot(name: str, generation: int) -> str:
    """Key of one generation of a snapshot, counted from 1."""
    return f"{snapshots(name)}{generation:08d}.json"


def snapshot_generation(key: str) -> int:
    """The generation in a snapshot's key."""
    return int(stem(key))


def model_manifest(name: str) -> str:
    """Key of a model's manifest; a model's name may hold slashes."""
    return f"models/{_path(name)}/manifest.json"


def model_name(key: str) -> str | None:
    """Name of the model to whose manifest a key belongs; None for other keys."""
    match = _MANIFEST.fullmatch(key)
    return match["name"] if match else None


def model_files(name: str) -> str:
    """Prefix of a model's files."""
    return f"models/{_path(name)}/files/"


def model_file(name: str, sha256: str, path: str) -> str:
    """Key of one file of a model; path is relative to the model's folder."""
    return f"{model_files(name)}{sha256}/{_path(path)}"


def copy(key: str, number: int) -> str:
    """Key of another copy of the content that a key names; copy 0 is the key itself."""
    sha256 = content_sha256(key)
    return re.sub(rf"{sha256}(\.\d+)?", f"{sha256}.{number}" if number else f"{sha256}", key, count=1)


def stem(key: str) -> str:
    """Last part of a key without its ending."""
    return key.rpartition("/")[2].rpartition(".")[0]


def content_sha256(key: str) -> str | None:
    """The sha256 in a key; None for keys that identify no content."""
    return next((match["sha256"] for pattern in _CONTENT if (match := pattern.fullmatch(key))), None)


def owner(key: str) -> str | None:
    """Key of the record that decides whether a content is used; None for keys that identify no content."""
    for pattern, form in zip(_CONTENT, _OWNERS, strict=True):
        if match := pattern.fullmatch(key):
            return form.format(match["owner"])
    return None


def as_name(text: str) -> str:
    """A name that keys can hold: the text with `-` for characters that keys must not hold, or `unnamed`."""
    if _NAME.fullmatch(text):
        return text
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "unnamed"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"{text!r} cannot be a name in the store: expected up to 128 letters, digits, '.', '_' and '-', "
            "the first a letter or digit"
        )
    return text


def _path(text: str) -> str:
    return "/".join(_name(part) for part in text.split("/"))
