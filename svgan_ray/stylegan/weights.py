"""Weights folders: `model.safetensors` beside `model.json`, the only form in which networks are read.

`model.json` = {"schema": 1, "kind": "generator" | "encoder" | ..., "config": {...}, "source": {...}}: the
kind of the network, its configuration and the origin of the weights.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svgan_ray.decoding import DecodingError, decode
from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.files import file_sha256, written_whole_folder
from svgan_ray.stylegan.encoder import Encoder, EncoderConfig
from svgan_ray.stylegan.generator import Generator, GeneratorConfig

__all__ = [
    "fill",
    "kind_of",
    "load_encoder",
    "load_generator",
    "load_network",
    "network_folder",
    "rendered_hashes",
    "require_pair",
    "require_same_layout",
    "save_weights",
    "suggestion",
    "weights_folders",
    "weights_hash",
]

SCHEMA = 1
TENSORS, RECORD = "model.safetensors", "model.json"

_DEMO_WEIGHTS = Path(__file__).parents[1] / "demo" / "weights"
_PROBLEMS_SHOWN = 8
# Comparing two names takes up to a millisecond, so names are clipped and their number is limited.
_NAMES_COMPARED, _NAME_CHARACTERS = 1000, 64

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class _Problem:
    """A layer that does not fit; its name may be a misspelling of one of `others`."""

    text: str
    key: str = ""
    others: Collection[str] = ()

    def __str__(self) -> str:
        return self.text + suggestion(self.key, self.others)


class Shaped(Protocol):
    """A tensor, or a placeholder for a tensor that has not been read yet."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...


def save_weights(module: nn.Module, folder: str | Path, source: Mapping[str, Any]) -> None:
    """Write a network as a weights folder, which appears complete or not at all and replaces an older one.

    The kind is the class name in snake case, and the configuration is `module.config` (a dataclass) if there
    is one. `source` (JSON values) records the origin of the weights. Raises WeightsError if `folder` exists
    and is no weights folder.
    """
    folder = Path(folder)
    _require_replaceable(folder)
    config = _recorded(module.config) if hasattr(module, "config") else {}
    record = {"schema": SCHEMA, "kind": kind_of(type(module)), "config": config, "source": dict(source)}
    text = json.dumps(record, indent=2) + "\n"
    tensors = {key: tensor.cpu().contiguous() for key, tensor in module.state_dict().items()}
    with written_whole_folder(folder) as partial:
        save_file(tensors, partial / TENSORS)
        (partial / RECORD).write_text(text)


def load_generator(folder: str | Path, device: torch.device | str = "cpu") -> Generator:
    """The generator in a weights folder, in eval mode, without gradients; WeightsError if it does not fit."""
    return load_network(Generator, GeneratorConfig, folder, device)


def load_encoder(folder: str | Path, device: torch.device | str = "cpu") -> Encoder:
    """The encoder in a weights folder, in eval mode, without gradients; WeightsError if it does not fit."""
    return load_network(Encoder, EncoderConfig, folder, device)


def load_network(
    kind: type[Module], config_type: type[Any], folder: str | Path, device: torch.device | str = "cpu"
) -> Module:
    """The network of a class in a weights folder, or in the folder that holds it by the name of its kind."""
    folder = network_folder(kind, folder)
    record = _read_record(folder, kind_of(kind))
    config = _parse_config(config_type, record["config"], folder / RECORD)
    # On the meta device no memory is allocated and no weight is drawn; `fill` inserts the file's own tensors.
    with torch.device("meta"):
        module = kind(config)
    return fill(module, folder).to(device)


def network_folder(kind: type[nn.Module], folder: str | Path) -> Path:
    """The folder itself if it is a weights folder, else the folder inside it that is named after the kind."""
    inside = Path(folder) / kind_of(kind)
    return inside if not (Path(folder) / RECORD).exists() and (inside / RECORD).exists() else Path(folder)


def kind_of(module_type: type[nn.Module]) -> str:
    """The name of a class of networks in records and folders: the class name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", module_type.__name__).lower()


def fill(module: Module, folder: str | Path) -> Module:
    """Load the weights in `folder` into `module`; returns it in eval mode, without gradients."""
    folder = Path(folder)
    _read_record(folder, kind_of(type(module)))
    tensors = _read_tensors(folder / TENSORS)
    require_same_layout(module.state_dict(), tensors, str(folder / TENSORS))
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def weights_hash(folder: str | Path) -> str:
    """SHA-256 of `model.safetensors`, in hex: the identity of the network."""
    try:
        return file_sha256(Path(folder, TENSORS))
    except OSError as error:
        raise _not_a_folder(Path(folder), error) from error


def rendered_hashes(folder: str | Path) -> tuple[str, ...]:
    """Hashes of the generators whose latents this one renders: its own, then those from which it was tuned.

    A tuned generator names its ancestors in its record; any other generator renders only its own latents.
    """
    folder = Path(folder)
    ancestors = _read_record(folder, kind_of(Generator)).get("source", {}).get("ancestors", [])
    return (weights_hash(folder), *map(str, ancestors))


def weights_folders(weights: str | Path) -> tuple[Path, Path]:
    """(generator folder, encoder folder) of a `weights` setting: "demo" or the folder that holds both."""
    parent = _DEMO_WEIGHTS if weights == "demo" else Path(weights)
    return parent / "generator", parent / "encoder"


def require_pair(generator: Generator, encoder: Encoder) -> None:
    """Raise WeightsError unless the encoder's w_plus has the shape that the generator expects."""
    ours = (generator.config.num_ws, generator.config.w_dim)
    theirs = (encoder.config.num_ws, encoder.config.w_dim)
    if ours != theirs:
        raise WeightsError(
            f"generator and encoder do not fit: the one takes w_plus [{ours[0]}, {ours[1]}], the other "
            f"gives [{theirs[0]}, {theirs[1]}]; import both from one file or for one resolution"
        )


def require_same_layout(expected: Mapping[str, Tensor], got: Mapping[str, Shaped], where: str) -> None:
    """Require the same keys, shapes and dtypes; raises a WeightsError that names the differences."""
    problems = list(_layout_problems(expected, got))
    if problems:
        shown = "\n  ".join(str(problem) for problem in problems[:_PROBLEMS_SHOWN])
        more = f"\n  and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        raise WeightsError(f"{where} does not fit its configuration:\n  {shown}{more}")


def _recorded(config: Any) -> dict[str, Any]:
    """A configuration as it is recorded.

    Fields that were added in later versions are left out if they have their default value, so that importing
    an old file still gives the same bytes as before.
    """
    omitted = [
        f.name
        for f in dataclasses.fields(config)
        if f.metadata.get("omit_default") and getattr(config, f.name) == f.default
    ]
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in omitted}


def _read_record(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise _not_a_folder(folder, error) from error
    except ValueError as error:
        raise WeightsError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise WeightsError(f'{path}: expected an object with "schema", "kind" and "config"')
    if record.get("schema") != SCHEMA:
        raise WeightsError(
            f"{path}: expected schema {SCHEMA}, got {record.get('schema')!r}; a newer svgan-ray wrote it"
        )
    if record.get("kind") != kind:
        raise WeightsError(f"{path}: expected kind {kind!r}, got {record.get('kind')!r}")
    return record


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise _not_a_folder(path.parent, error) from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged or truncated ({error}); copy or import it again") from error


def _not_a_folder(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{folder}: no weights folder ({error.strerror}); expected {TENSORS} and {RECORD}, "
        "as jobs/import_weights.py writes them"
    )


def _parse_config(config_type: type[Any], values: Mapping[str, Any], path: Path) -> Any:
    try:
        return decode(config_type, values, "config")
    except (ConfigError, DecodingError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _layout_problems(expected: Mapping[str, Tensor], got: Mapping[str, Shaped]) -> Iterator[_Problem]:
    missing = [key for key in expected if key not in got]
    foreign = [key for key in got if key not in expected]
    for key, tensor in expected.items():
        if key not in got:
            yield _Problem(f"missing {_clipped(key)}", key, foreign or got.keys())
        elif (got[key].shape, got[key].dtype) != (tensor.shape, tensor.dtype):
            yield _Problem(f"layer {_clipped(key)}: expected {_layout(tensor)}, got {_layout(got[key])}")
    for key in foreign:
        yield _Problem(f"foreign {_clipped(key)}", key, missing or expected.keys())


def _clipped(key: str) -> str:
    return repr(key if len(key) <= _NAME_CHARACTERS else f"{key[:_NAME_CHARACTERS]}...")


def _layout(tensor: Shaped) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def suggestion(key: str, candidates: Iterable[str]) -> str:
    """The candidate most similar to a name, in brackets; an empty text if no candidate is similar."""
    names = [name for name in (key, *candidates) if len(name) <= _NAME_CHARACTERS][: _NAMES_COMPARED + 1]
    nearest = difflib.get_close_matches(key, names[1:], n=1) if key in names[:1] else []
    return f" (nearest: {nearest[0]!r})" if nearest else ""


def _require_replaceable(folder: Path) -> None:
    if folder.exists() and (
        not folder.is_dir() or {path.name for path in folder.iterdir()} - {TENSORS, RECORD}
    ):
        raise WeightsError(
            f"{folder} exists and is not a weights folder; nothing was written, choose another folder"
        )
