"""What docs/security.md promises of the code itself: nothing foreign is run, nothing secret is kept."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path
    for folder in ("svgan_ray", "jobs", "analysis", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
# I3D comes as a TorchScript program (not Python), whose SHA-256 is checked before it is run.
ALLOWED = {"svgan_ray/stylegan/metric_networks.py": {"calls torch.jit.load"}}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__", "torch.hub.load", "pandas.read_pickle"}
NETWORK_LOADERS = {"torch.load", "torch.jit.load", "torch.package.PackageImporter"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
SECRETS = {
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "a password in an address": r"[a-z0-9+]+://[^\s/:@{}$<>'\"]+:[^\s/:@{}$<>'\"]{3,}@",
    "a token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
}
PLACEHOLDERS = ("user:password@", "anna:planted-password@", "USER:PASSWORD@")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called, under whatever name it was imported."""
    imported = dict(imported_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield imported.get(first, first) + dot + rest, node


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


def dangers(text: str) -> Iterator[str]:
    """What runs, or may run, what others wrote."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"imports {name}" for name in names if name.split(".")[0] in UNPICKLERS)
    for name, call in calls(tree):
        safe_weights = name == "torch.load" and keyword(call, "weights_only") == "True"
        is_load = name in NETWORK_LOADERS and not safe_weights
        is_yaml = name.startswith("yaml.") and "load" in name and not name.startswith("yaml.safe_load")
        is_shell = name in SHELLS or keyword(call, "shell") not in (None, "False")
        if is_load or is_yaml or is_shell or name.removeprefix("builtins.") in RUNS_TEXT:
            yield f"calls {name}"
        if name == "numpy.load" and keyword(call, "allow_pickle") not in (None, "False"):
            yield f"calls {name} with allow_pickle"
        if keyword(call, "verify") == "False":
            yield f"trusts any certificate: {name}"


def test_nothing_runs_what_others_wrote() -> None:
    for path in CODE:
        name = path.relative_to(ROOT).as_posix()
        assert set(dangers(path.read_text("utf-8"))) == ALLOWED.get(name, set()), name


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "from torch import load\nload(path)",
        "import torch as t\nt.load(path)",
        "from builtins import eval as run\nrun(text)",
        "import pandas as pd\npd.read_pickle(path)",
        "torch.load(path, weights_only=False)",
        "torch.hub.load('a', 'b')",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "from yaml import load\nload(text)",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "requests.get(url, verify=False)",
    ],
)
def test_the_walk_sees_what_it_looks_for(text: str) -> None:
    assert list(dangers(text))


def test_the_walk_lets_pass_what_is_safe() -> None:
    safe = (
        "torch.load(p, weights_only=True); np.load(p); yaml.safe_load(t); subprocess.run(['a'], shell=False)"
    )
    assert list(dangers(safe)) == []


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=60)
    if listing.returncode:
        pytest.skip("needs a git checkout")
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_secret_is_in_the_repository() -> None:
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "ignore") if path.stat().st_size < 10**6 else ""
        for placeholder in PLACEHOLDERS:
            text = text.replace(placeholder, "")
        for what, pattern in SECRETS.items():
            found = re.search(pattern, text)
            assert found is None, f"{path.relative_to(ROOT)} holds {what}: {found[0][:12]}..."
    names = {path.name for path in tracked_files()}
    assert not {
        name for name in names if name in (".env", "auth_token", "credentials") or name.endswith(".pem")
    }
