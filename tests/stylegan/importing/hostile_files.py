"""Files that mean harm: what builds them, and what the refusal must name."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from svgan_ray.stylegan import GeneratorConfig
from svgan_ray.stylegan.importing.pickles import MAX_OPCODES

from .writers import Persistent, legacy, nvidia_modules, random_generator, rosinality_file, zipped


class Call:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(dotted: str) -> bytes:
    module, _, attribute = dotted.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def stack_global(module: bytes, attribute: bytes) -> bytes:
    return b"\x80\x04" + module + attribute + b"\x93."


def called(dotted: str, arguments: bytes) -> bytes:
    return b"\x80\x02" + name(dotted) + arguments + b"R."


def nested_storage(data: bytes) -> bytes:
    """A plain pickle that hands these bytes to PyTorch's loader of storages."""
    return called("torch.storage._load_from_bytes", b"B" + struct.pack("<I", len(data)) + data + b"\x85")


def storage(count: int, key: str = "0", kind: str = "torch.FloatStorage") -> bytes:
    """What stands for a storage in a PyTorch file."""
    number = b"\x8a\x09" + struct.pack("<q", count) + b"\x00"
    return b"(" + text("storage") + name(kind) + text(key) + text("cpu") + number + b"tQ"


def tensor(sizes: bytes, strides: bytes, count: int = 4) -> bytes:
    rebuild = name("torch._utils._rebuild_tensor_v2")
    return rebuild + b"(" + storage(count) + b"K\x00" + sizes + strides + b"\x89NtR"


def archive(data_pickle: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        file.writestr("archive/data.pkl", data_pickle)
        for key, value in ({"data/0": bytes(16)} | records).items():
            file.writestr(f"archive/{key}", value)
    return stream.getvalue()


def doubled(levels: int, pair: bytes = b"\x86") -> bytes:
    """A tuple of one tuple twice, of one tuple twice, ...: few bytes, 2**levels leaves."""
    return b")" + b"".join(b"q%ch%c" % (level, level) + pair for level in range(levels))


def big(value: int) -> bytes:
    return struct.pack("<q", value)


def sizes(*values: int) -> bytes:
    return b"(" + b"".join(b"\x8a\x09" + big(v) + (b"\xff" if v < 0 else b"\x00") for v in values) + b"t"


def legacy_with(value: bytes, keys: bytes = b"\x80\x02].", rest: bytes = b"") -> bytes:
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    return head + pickle.dumps({"little_endian": True}, 2) + b"\x80\x02" + value + b"." + keys + rest


def overlapping() -> bytes:
    """Two entries of the directory that are the same bytes of the file."""
    data = bytearray(archive(b"\x80\x02}.", **{"data/1": bytes(4000), "data/2": b""}))
    first, second = data.rfind(b"archive/data/1") - 46, data.rfind(b"archive/data/2") - 46
    data[second + 16 : second + 28] = data[first + 16 : first + 28]
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def shared_storages() -> bytes:
    """A good file but that its layers lie over each other."""
    file = rosinality_file(random_generator(TINY))
    numbers = torch.randn(1000)
    for key, t in file["g_ema"].items():
        file["g_ema"][key] = numbers[: t.numel()].view(t.shape)
    return zipped(file)


def _encodes(times: int) -> bytes:
    """One text, encoded over and over."""
    encode = name("_codecs.encode") + b"q\x01" + text("latin1") + b"q\x02"
    return encode + b"h\x01h\x00h\x02\x86R" * times


def _persistent() -> Any:
    return Persistent("Generator", _modules={})


def zipped_with(value: Callable[[], Any]) -> bytes:
    with nvidia_modules():
        return zipped(value())


def pickled_with(value: Callable[[], Any]) -> bytes:
    with nvidia_modules():
        return pickle.dumps(value())


def many_foreign() -> bytes:
    """A good file beside as many long and similar names as one may hold."""
    file = rosinality_file(random_generator(TINY))
    number = torch.zeros(1)
    file["g_ema"] |= {f"{'convs.' * 9}{i}": number for i in range(2000)}
    file["g_ema"] |= {f"convs.{i}.conv.modulation.weight": number for i in range(2, 2000)}
    return zipped(file)


TINY = GeneratorConfig(8, 6, 6, 2, channel_base=64, channel_max=8)
HOLE = "trap"
SYSTEM = f"touch {HOLE}"

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    **{
        f"os.system-{n}": (functools.partial(pickle.dumps, Call(os.system, SYSTEM), n), "'posix.system'")
        for n in (2, 3, 4, 5)
    },
    "subprocess": (lambda: pickle.dumps(Call(subprocess.Popen, ["touch", HOLE])), "'subprocess.Popen'"),
    "eval": (lambda: pickle.dumps(Call(eval, f"open('{HOLE}', 'w')")), "'builtins.eval'"),
    "exec-2": (lambda: pickle.dumps(Call(exec, f"open('{HOLE}', 'w')"), 2), "'__builtin__.exec'"),
    "getattr": (lambda: pickle.dumps(Call(getattr, "x", "upper")), "'builtins.getattr'"),
    "import": (lambda: pickle.dumps(Call(__import__, "os")), "'builtins.__import__'"),
    "open": (lambda: pickle.dumps(Call(open, HOLE, "w")), "'io.open'"),
    "partial": (lambda: pickle.dumps(Call(functools.partial, print)), "'functools.partial'"),
    "torch.load": (lambda: called("torch.load", text("x") + b"\x85"), "'torch.load'"),
    "torch.hub": (lambda: called("torch.hub.load", text("x") + b"\x85"), "'torch.hub.load'"),
    "pickle.loads": (lambda: called("_pickle.loads", b"C\x01.\x85"), "'_pickle.loads'"),
    "in a zip": (lambda: archive(pickle.dumps(Call(os.system, SYSTEM), 2)), "'posix.system'"),
    "saved by torch": (lambda: zipped({"g_ema": Call(os.system, SYSTEM)}), "'posix.system'"),
    "saved by old torch": (lambda: legacy({"g_ema": Call(os.system, SYSTEM)}), "'posix.system'"),
    "in a nested storage": (
        lambda: nested_storage(legacy_with(name("posix.system") + text(SYSTEM) + b"\x85R")),
        "'posix.system'",
    ),
    "a nested zip": (lambda: nested_storage(zipped(Call(os.system, SYSTEM))), "opcode REDUCE at byte"),
    "a storage nested twice": (
        lambda: nested_storage(legacy_with(nested_storage(b"")[2:-1])),
        "'torch.storage._load_from_bytes'",
    ),
    "a storage nested in a zip": (lambda: archive(nested_storage(b"x")), "'torch.storage._load_from_bytes'"),
    "a nested tensor": (
        lambda: nested_storage(legacy_with(tensor(sizes(1), sizes(1)))),
        "'torch._utils._rebuild_tensor_v2'",
    ),
    "dotted attribute": (
        lambda: stack_global(text("torch._utils"), text("_rebuild_parameter.__globals__")),
        "'torch._utils._rebuild_parameter.__globals__'",
    ),
    "name put together": (lambda: stack_global(text("os"), text("system")), "'os.system'"),
    "name that is no text": (lambda: stack_global(text("os"), b"K\x07"), "'os'.7: expected two names"),
    "endless name": (lambda: stack_global(text("a" * 10**6), text("b")), "refused global"),
    "tensorflow": (
        lambda: b"\x80\x02" + name("dnnlib.tflib.network.Network") + b")\x81.",
        "'dnnlib.tflib.network.Network': a TensorFlow pickle",
    ),
    "three networks": (lambda: b"\x80\x02}}}\x87.", "a TensorFlow pickle (three networks)"),
    "whole module": (
        lambda: archive(b"\x80\x02" + name("models.stylegan2.model.Generator") + b")\x81."),
        "'models.stylegan2.model.Generator': a whole pickled module",
    ),
    "instance": (lambda: b"\x80\x02(" + text(SYSTEM) + b"ios\nsystem\n.", "opcode INST"),
    "object": (lambda: b"\x80\x02(" + name("collections.OrderedDict") + b"o.", "opcode OBJ"),
    "extension": (lambda: b"\x80\x02\x82\x01.", "opcode EXT1"),
    "keywords": (lambda: b"\x80\x04" + name("collections.OrderedDict") + b")}\x92.", "opcode NEWOBJ_EX"),
    "persistent id": (lambda: b"\x80\x02K\x01Q.", "refused persistent id"),
    "out of band": (lambda: b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
    "text protocol": (lambda: b"\x80\x02I1\n.", "opcode INT"),
    "protocol 0": (lambda: pickle.dumps({"G_ema": 1}, 0), "not a weight file: it begins with"),
    "protocol 9": (lambda: b"\x80\x09N.", "protocol 9: expected 2 to 5"),
    "call of a value": (lambda: b"\x80\x02" + text("x") + b")R.", "refused call of 'x'"),
    "call of a bare name": (lambda: called("numpy.ndarray", b")"), "refused call of 'numpy.ndarray'"),
    "state of a name": (
        lambda: b"\x80\x02" + name("_codecs.encode") + b"}" + text("__code__") + b"Nsb.",
        "refused state of '_codecs.encode'",
    ),
    "state of a list": (lambda: b"\x80\x02]}b.", "refused state of a list"),
    "arguments of a dict": (lambda: called("collections.OrderedDict", b"]\x85"), "opcode REDUCE"),
    "other encoding": (
        lambda: called("_codecs.encode", text("x") + text("rot13") + b"\x86"),
        "_codecs.encode: expected text in latin1",
    ),
    "persistent object of nothing": (
        lambda: called("torch_utils.persistence._reconstruct_persistent_obj", b"}\x85"),
        "persistent object: expected a description",
    ),
    "memo far away": (lambda: b"\x80\x02Nr\xff\xff\xff\x7f.", "not one of NVIDIA's"),
    "memo never written": (lambda: b"\x80\x02h\x07.", "opcode BINGET"),
    "stack underflow": (lambda: b"\x80\x02N\x86.", "opcode TUPLE2"),
    "no mark": (lambda: b"\x80\x02Nt.", "opcode TUPLE"),
    "no end": (lambda: b"\x80\x02N", "damaged or truncated pickle"),
    "huge bytes": (lambda: b"\x80\x05\x8e" + big(2**62), "damaged or truncated pickle"),
    "huge bytearray": (lambda: b"\x80\x05\x96" + big(2**62), "damaged or truncated pickle"),
    "huge text": (lambda: b"\x80\x05\x8d" + big(2**62), "damaged or truncated pickle"),
    "huge frame": (lambda: b"\x80\x05\x95" + big(2**62) + b"N.", "not one of NVIDIA's"),
    "huge integer": (
        lambda: b"\x80\x02}\x8b" + struct.pack("<I", 10**6) + b"\x01" * 10**6 + b"Ns.",
        "a huge",
    ),
    "exponential key": (lambda: b"\x80\x02}" + doubled(60) + b"Ns.", "refused dict key"),
    "exponential set": (lambda: b"\x80\x04\x8f(" + doubled(60) + b"\x90.", "not one of NVIDIA's"),
    "exponential frozenset": (lambda: b"\x80\x04(" + doubled(60) + b"\x91.", "opcode FROZENSET"),
    "exponential value": (lambda: b"\x80\x02" + doubled(200) + b".", "not one of NVIDIA's"),
    "exponential version": (
        lambda: legacy_with(b"N")[:15] + b"\x80\x02" + doubled(60) + b".",
        "magic number",
    ),
    "deep lists": (lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "not one of NVIDIA's"),
    "deep tuples": (lambda: b"\x80\x02)" + b"\x85" * 400_000 + b".", "not one of NVIDIA's"),
    "list in itself": (lambda: b"\x80\x02]q\x00h\x00a.", "not one of NVIDIA's"),
    "endless sets": (lambda: b"\x80\x04" + b"\x8f" * (MAX_OPCODES + 9) + b".", "more than 524288 steps"),
    "copies": (
        lambda: b"\x80\x02" + text("a" * 10**6) + b"q\x00" + _encodes(200) + b".",
        "copies its content more than 4 times",
    ),
    "tensor beyond its storage": (
        lambda: archive(b"\x80\x02" + tensor(sizes(5), sizes(1)) + b"."),
        "needs 5",
    ),
    "tensor of stride 0": (
        lambda: archive(b"\x80\x02" + tensor(sizes(2**40), sizes(0)) + b"."),
        "needs 1099511627776 elements, its storage has 4",
    ),
    "tensor before its storage": (
        lambda: archive(b"\x80\x02" + tensor(sizes(-1), sizes(1)) + b"."),
        "offset, size and stride",
    ),
    "tensor of two lengths": (
        lambda: archive(b"\x80\x02" + tensor(sizes(1), sizes(1, 1)) + b"."),
        "no sense",
    ),
    "tensor of no storage": (
        lambda: called("torch._utils._rebuild_tensor_v2", b"(NK\x00))\x89Nt"),
        "refused tensor of a NoneType",
    ),
    "storage beyond the file": (
        lambda: archive(b"\x80\x02" + storage(2**50) + b"."),
        "storage '0': expected 4503599627370496 bytes, got 16",
    ),
    "storage of another class": (
        lambda: archive(b"\x80\x02" + storage(4, kind="collections.OrderedDict") + b"."),
        "expected a storage class, got 'collections.OrderedDict'",
    ),
    "storage without bytes": (
        lambda: archive(b"\x80\x02" + storage(4, "7") + b"."),
        "'archive/data/7' is missing",
    ),
    "old storage beyond the file": (
        lambda: legacy_with(storage(2**50)[:-2] + b"NtQ", pickle.dumps(["0"], 2), big(2**50)),
        "storage '0': expected 4503599627370496 bytes, got 0",
    ),
    "old storage of two sizes": (
        lambda: legacy_with(storage(4)[:-2] + b"NtQ", pickle.dumps(["0"], 2), big(5) + bytes(20)),
        "expected 4 elements, the file says 5",
    ),
    "compressed weights": (
        lambda: archive(
            b"\x80\x02" + storage(2**20) + b".", zipfile.ZIP_DEFLATED, **{"data/0": bytes(2**22)}
        ),
        "is compressed",
    ),
    "overlapping records": (overlapping, "records of the zip archive take more than the file holds"),
    "endless directory": (
        lambda: archive(b"\x80\x02}.", **{f"data/{i}{'x' * 200}": b"" for i in range(18_000)}),
        "refused: a zip directory of",
    ),
    "many foreign layers": (many_foreign, "foreign 'convs.convs.convs."),
    "layers over each other": (shared_storages, "its tensors share memory"),
    "big endian": (lambda: archive(b"\x80\x02}.", byteorder=b"big"), "byteorder: expected little"),
    "no pickle in the zip": (lambda: archive(b"").replace(b"data.pkl", b"data.txt"), "not one of PyTorch's"),
    "nothing known": (
        lambda: zipped({"weights": torch.zeros(3)}),
        "a PyTorch file with the tensors 'weights'",
    ),
    "no dict": (lambda: zipped([torch.zeros(3)]), "a PyTorch file with a list"),
    "tuned generator": (lambda: zipped_with(_persistent), "as PTI and STIT save it"),
    "tuned generator, pickled": (lambda: pickled_with(_persistent), "as PTI and STIT save it"),
    "tuned generator among pivots": (
        lambda: zipped_with(lambda: {"generator": _persistent()}),
        "PTI and STIT",
    ),
    "text": (lambda: b"hello there", "not a weight file: it begins with b'hello th'"),
    "nothing": (lambda: b"", "the file is empty"),
}
