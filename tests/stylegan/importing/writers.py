"""Weight files as the original programs write them, with small random networks."""

from __future__ import annotations

import argparse
import io
import pickle
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from svgan_ray.stylegan import Encoder, EncoderConfig, Generator, GeneratorConfig
from svgan_ray.stylegan.encoder import Backbone, EncoderKind

from ..naive_encoder import randomised_norms
from ..naive_generator import randomised

SMALL = GeneratorConfig(32, z_dim=12, w_dim=20, mapping_layers=3, channel_base=512, channel_max=24)
UNITS = (1, 2, 1, 2)
WIDTHS = (16, 24, 32, 48)
ENCODER_TYPES = {
    "psp": "GradualStyleEncoder",
    "e4e": "Encoder4Editing",
    "restyle": "BackboneEncoder",
    "restyle_e4e": "ProgressiveBackboneEncoder",
    "restyle resnet34": "ResNetBackboneEncoder",
    "restyle_e4e resnet34": "ResNetProgressiveBackboneEncoder",
}
State = dict[str, Tensor]
# Would leave a file named "trap" in the working directory.
MODULE_SRC = "open('trap', 'w').close()\nclass Generator: pass\n"


def random_generator(config: GeneratorConfig = SMALL, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    generator = Generator(config)
    randomised(generator, seed)
    return generator.eval().requires_grad_(False)


def random_encoder(
    kind: EncoderKind, num_ws: int, w_dim: int = 20, input_side: int = 32, backbone: Backbone = "ir_se50"
) -> Encoder:
    torch.manual_seed(num_ws)
    config = EncoderConfig(kind, num_ws, w_dim, input_side, WIDTHS, UNITS, 16, 24, backbone)
    encoder = Encoder(config)
    randomised_norms(encoder, 1)
    encoder.w_avg.normal_()
    return encoder.eval().requires_grad_(False)


# NVIDIA


class Persistent:
    """An object of a class under `torch_utils.persistence`."""

    def __init__(self, class_name: str, **state: Any) -> None:
        self.class_name, self.state = class_name, state

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": MODULE_SRC,
            "class_name": self.class_name,
            "state": self.state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


@contextmanager
def nvidia_modules() -> Iterator[type[dict[str, Any]]]:
    """Provide the modules that the pickles name while they are written; yields EasyDict."""

    def reconstruct(meta: object) -> None:
        raise AssertionError("the original loader was called")

    def build(module: str, name: str, value: Any) -> Any:
        value.__module__, value.__qualname__, value.__name__ = module, name, name
        sys.modules[module] = ModuleType(module)
        setattr(sys.modules[module], name, value)
        return value

    build("torch_utils.persistence", "_reconstruct_persistent_obj", reconstruct)
    easy_dict = build("dnnlib.util", "EasyDict", type("EasyDict", (dict,), {}))
    parents = {"torch_utils": ModuleType("torch_utils"), "dnnlib": ModuleType("dnnlib")}
    sys.modules.update(parents)
    try:
        yield easy_dict
    finally:
        for name in (*parents, "torch_utils.persistence", "dnnlib.util"):
            del sys.modules[name]


CLASSES = {"mapping": "MappingNetwork", "synthesis": "SynthesisNetwork", "torgb": "ToRGBLayer"}


def module_tree(state: Mapping[str, Tensor], name: str, **attributes: Any) -> Persistent:
    """Nested modules from a flat state_dict, with the other attributes of such a module."""
    leaf = name.rpartition(".")[2]
    default = "FullyConnectedLayer" if leaf.startswith(("fc", "affine")) else "SynthesisLayer"
    node = Persistent(
        CLASSES.get(leaf, "SynthesisBlock" if leaf[:1] == "b" else default),
        training=False,
        _parameters=OrderedDict(),
        _buffers=OrderedDict(resample_filter=None),
        _non_persistent_buffers_set=set(),
        _backward_hooks=OrderedDict(),
        _modules=OrderedDict(),
        weight_gain=np.float64(0.1),
        activation="linear" if leaf == "affine" else "lrelu",
        padding=np.array([1, 2]),
    )
    if leaf[:1] == "b":
        node.state["architecture"] = "skip"
    if leaf in ("conv0", "conv1"):
        node.state["use_noise"] = True
    if leaf.startswith("fc"):
        node.state["bias_gain"] = attributes["lr_multiplier"]
    if leaf in ("conv0", "conv1", "torgb") and "conv_clamp" in attributes:
        node.state["conv_clamp"] = attributes["conv_clamp"]
    for key, tensor in state.items():
        if "." not in key:
            is_buffer = key in ("w_avg", "noise_const", "resample_filter")
            value = tensor if is_buffer else nn.Parameter(tensor, requires_grad=False)
            node.state["_buffers" if is_buffer else "_parameters"][key] = value
    for child in dict.fromkeys(key.split(".")[0] for key in state if "." in key):
        inside = {key.partition(".")[2]: t for key, t in state.items() if key.startswith(f"{child}.")}
        node.state["_modules"][child] = module_tree(inside, f"{name}.{child}", **attributes)
    return node


def nvidia_pickle(
    generator: Generator,
    protocol: int = 4,
    flat_settings: bool = False,
    settings: Mapping[str, Any] | None = None,
    extra: Mapping[str, Tensor] | None = None,
    without: str | None = None,
    edit: Any = lambda node: None,
) -> bytes:
    """`settings` replace the true ones, `extra` the generator's tensors; keys in `without` are dropped."""
    config = generator.config
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    filters = {
        f"synthesis.b{side}.resample_filter": taps.outer(taps) for side in config.block_resolutions[1:]
    }
    state = {**generator.state_dict(), **filters, **(extra or {})}
    state = {key: tensor for key, tensor in state.items() if without is None or without not in key}
    synthesis = {
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "num_fp16_res": 0 if config.conv_clamp is None else 4,
        "conv_clamp": config.conv_clamp,
    }
    attributes = {"lr_multiplier": config.mapping_lr_multiplier, "conv_clamp": config.conv_clamp}
    with nvidia_modules() as easy_dict:
        kwargs = easy_dict(
            z_dim=config.z_dim,
            c_dim=0,
            w_dim=config.w_dim,
            img_resolution=config.resolution,
            img_channels=3,
            mapping_kwargs=easy_dict(num_layers=config.mapping_layers),
        )
        if flat_settings:  # the default of the clamp differs there, so it is often not among the settings
            kwargs |= {key: synthesis[key] for key in ("channel_base", "channel_max")}
        else:
            kwargs["synthesis_kwargs"] = easy_dict(synthesis)
        kwargs |= settings or {}
        node = module_tree(state, "G", **attributes)
        node.class_name = "Generator"
        node.state |= {"_init_args": (), "_init_kwargs": kwargs}
        edit(node)
        # stylegan3 registers the filters as buffers of the layers, too; both appear in files.
        network = {"training_set_kwargs": easy_dict(path="x"), "G": None, "D": None, "G_ema": node}
        return pickle.dumps({**network, "augment_pipe": None}, protocol)


# rosinality


def rosinality_state(generator: Generator, with_noises: bool = True) -> State:
    """A generator's weights by the names and shapes of stylegan2-pytorch."""
    ours, theirs = generator.state_dict(), {}

    def styled(new: str, old: str) -> None:
        theirs[f"{new}.conv.weight"] = ours[f"{old}.weight"][None]
        theirs[f"{new}.conv.modulation.weight"] = ours[f"{old}.affine.weight"]
        theirs[f"{new}.conv.modulation.bias"] = ours[f"{old}.affine.bias"]
        theirs[f"{new}.noise.weight"] = ours[f"{old}.noise_strength"][None]
        theirs[f"{new}.activate.bias"] = ours[f"{old}.bias"]

    def to_rgb(new: str, old: str) -> None:
        theirs[f"{new}.conv.weight"] = ours[f"{old}.weight"][None]
        theirs[f"{new}.conv.modulation.weight"] = ours[f"{old}.affine.weight"]
        theirs[f"{new}.conv.modulation.bias"] = ours[f"{old}.affine.bias"]
        theirs[f"{new}.bias"] = ours[f"{old}.bias"][None, :, None, None]

    for layer in range(generator.config.mapping_layers):
        for part in ("weight", "bias"):
            theirs[f"style.{layer + 1}.{part}"] = ours[f"mapping.fc{layer}.{part}"]
    theirs["input.input"] = ours["synthesis.b4.const"][None]
    styled("conv1", "synthesis.b4.conv1")
    to_rgb("to_rgb1", "synthesis.b4.torgb")
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = taps.outer(taps)
    for j, side in enumerate(generator.config.block_resolutions[1:]):
        styled(f"convs.{2 * j}", f"synthesis.b{side}.conv0")
        theirs[f"convs.{2 * j}.conv.blur.kernel"] = kernel
        styled(f"convs.{2 * j + 1}", f"synthesis.b{side}.conv1")
        to_rgb(f"to_rgbs.{j}", f"synthesis.b{side}.torgb")
        theirs[f"to_rgbs.{j}.upsample.kernel"] = kernel
    if with_noises:
        theirs["noises.noise_0"] = ours["synthesis.b4.conv1.noise_const"][None, None]
        for j, side in enumerate(generator.config.block_resolutions[1:]):
            for k in (0, 1):
                noise = ours[f"synthesis.b{side}.conv{k}.noise_const"]
                theirs[f"noises.noise_{2 * j + 1 + k}"] = noise[None, None]
    return theirs


def rosinality_file(generator: Generator, with_noises: bool = True) -> dict[str, Any]:
    state = rosinality_state(generator, with_noises)
    return {"g_ema": OrderedDict(state), "latent_avg": generator.mapping.w_avg.clone()}


def rosinality_snapshot(generator: Generator) -> dict[str, Any]:
    """A checkpoint of a training: with other networks, optimisers and arguments, without latent_avg."""
    weight = nn.Parameter(torch.randn(3, 3))
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()
    optimiser.step()
    return {
        "g": rosinality_state(random_generator(generator.config, seed=5)),
        "d": {"convs.0.0.weight": weight.detach()},
        "g_ema": rosinality_state(generator),
        "g_optim": optimiser.state_dict(),
        "d_optim": optimiser.state_dict(),
        "args": argparse.Namespace(size=generator.config.resolution, path="ffhq.lmdb", ckpt=None),
        "ada_aug_p": 0.0,
    }


# pSp, e4e, ReStyle


def encoder_file(
    encoder: Encoder, generator: Generator, opts: Mapping[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """`opts` replace the usual ones, and None removes one; `changes` replace entries of the file."""
    state = {f"encoder.{key}": t for key, t in encoder.state_dict().items() if key != "w_avg"}
    state |= {f"decoder.{key}": t for key, t in rosinality_state(generator).items()}
    size = "stylegan_size" if encoder.config.kind == "e4e" else "output_size"
    backbone = "" if encoder.config.backbone == "ir_se50" else f" {encoder.config.backbone}"
    usual = {
        "encoder_type": ENCODER_TYPES[f"{encoder.config.kind}{backbone}"],
        size: generator.config.resolution,
        "start_from_latent_avg": True,
        "learning_rate": 1e-4,
        "stylegan_weights": "pretrained_models/stylegan2-ffhq-config-f.pt",
        "checkpoint_path": None,
    }
    merged = {key: value for key, value in (usual | dict(opts or {})).items() if value is not None}
    file = {"state_dict": OrderedDict(state), "opts": merged, "latent_avg": encoder.w_avg.clone()}
    file |= {"global_step": 7, "best_val_loss": torch.tensor(0.5), **changes}
    return {key: value for key, value in file.items() if value is not None}


def arcface_state(network: nn.Module) -> State:
    return OrderedDict(network.state_dict())


# TorchScript


class LpipsProgram(nn.Module):
    """Stands in for NVIDIA's vgg16.pt: the same arguments, one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, img: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips and not resize_images
        return torch.conv2d(img / 255, self.weight).relu().flatten(1)


def script(module: nn.Module) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), stream)
    return stream.getvalue()


# Containers


def zipped(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def legacy(value: object) -> bytes:
    """The format in which PyTorch before 1.6 saved."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def write(folder: Path, data: bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
