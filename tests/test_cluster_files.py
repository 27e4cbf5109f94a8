"""The files in cluster/ against the schemas of those who read them, and what docs/security.md promises."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS
from ray.runtime_env import RuntimeEnv

from svgan_ray.experiment_file import SECTIONS
from svgan_ray.orchestration.runtime.command_line import parse

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
BIN = Path(sys.executable).parent  # where the programs of the tested environment are
CRDS = ROOT.parent / "shared" / "data" / "kuberay"
# What `--machines` asks for.
LABELS = {"invert": {"ray.io/market-type": "spot"}, "train": {"ray.io/market-type": "on-demand"}}
KUBERAY = sorted((CLUSTER / "kuberay").glob("ray*.yaml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_aws_file_fits_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(read(CLUSTER / "aws.yaml"), schema)


def test_aws_head_runs_no_tasks_and_all_starts_ask_for_the_token() -> None:
    config = read(CLUSTER / "aws.yaml")
    types = config["available_node_types"]
    assert (
        types["head"]["resources"]["CPU"] == 0 and "InstanceMarketOptions" not in types["head"]["node_config"]
    )
    assert types["invert"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["train"]["node_config"]
    assert {name: kind.get("labels") for name, kind in types.items()} == {"head": None} | LABELS
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert all("RAY_AUTH_MODE=token" in command for command in config[commands])
    [start] = [command for command in config["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    for kind in types.values():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_policy_reaches_one_prefix_and_the_token() -> None:
    for statement in json.loads((CLUSTER / "iam_policy.json").read_text())["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert all("*" not in action for action in actions)
        if actions == ["ssm:GetParameter"]:
            assert statement["Resource"] == "arn:aws:ssm:REGION:ACCOUNT:parameter/TOKEN_PARAMETER"
        elif actions == ["s3:ListBucket"]:
            assert statement["Resource"] == "arn:aws:s3:::BUCKET"
            assert statement["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["PREFIX/*"]}}
        else:
            assert statement["Resource"] == "arn:aws:s3:::BUCKET/PREFIX/*"


def test_the_heads_policy_touches_its_own_machines_only() -> None:
    """Whoever may tag any machine could make it one of the cluster's, and end it."""
    own = {"ec2:ResourceTag/ray-cluster-name": read(CLUSTER / "aws.yaml")["cluster_name"]}
    at_its_start = {"ec2:CreateAction": "RunInstances"}
    for statement in json.loads((CLUSTER / "iam_policy_head.json").read_text("utf-8"))["Statement"]:
        actions = {a} if isinstance(a := statement["Action"], str) else set(a)
        assert not any("*" in action for action in actions)
        assert statement["Resource"] != "*" or actions == {"ec2:DescribeInstances"}
        if actions & {"ec2:CreateTags", "ec2:TerminateInstances"}:
            condition = statement["Condition"]["StringEquals"]
            assert condition == own or (condition == at_its_start and actions == {"ec2:CreateTags"})
        if "iam:PassRole" in actions:
            assert statement["Resource"].endswith("role/WORKER_PROFILE")


def crd_schema(kind: str) -> dict[str, Any]:
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"needs the KubeRay CRDs in {CRDS}")
    versions = {version["name"]: version for version in read(path)["spec"]["versions"]}
    schema: dict[str, Any] = without_unknown_keys(versions["v1"]["schema"]["openAPIV3Schema"])
    return schema


def without_unknown_keys(schema: Any) -> Any:
    """As Kubernetes reads it with strict validation: a field that the schema does not know is a mistake."""
    if isinstance(schema, list):
        return [without_unknown_keys(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: without_unknown_keys(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return result


def test_manifests_fit_kuberays_definitions() -> None:
    for path in KUBERAY:
        check_manifest(path)


def check_manifest(path: Path) -> None:
    manifest = read(path)
    schema = crd_schema(manifest["kind"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    jsonschema.validate(manifest, schema)
    manifest["spec"]["backofLimit"] = 3
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.validate(manifest, schema)


def cluster_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in KUBERAY:
        spec = read(path)["spec"]
        yield path.stem, spec.get("rayClusterSpec", spec)


def test_pods_are_closed_bounded_and_hold_no_secret() -> None:
    for name, spec in cluster_specs():
        check_pods(name, spec)


def check_pods(name: str, spec: dict[str, Any]) -> None:
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["nodeSelector"]
        for container in pod["containers"]:
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert {"secretRef": {"name": "svgan-ray"}} in container["envFrom"] and "env" not in container
            probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
            assert (
                probes == [{"path": "/api/healthz", "port": 52365}] * 3
                and "/api/healthz" in PUBLIC_EXACT_PATHS
            )
    pools = {
        g["groupName"]: g["template"]["spec"]["nodeSelector"]["svgan-ray/pool"]
        for g in spec["workerGroupSpecs"]
    }
    assert pools.items() <= {"invert": "spot", "train": "on-demand"}.items()
    if len(pools) > 1:
        assert {group["groupName"]: group["labels"] for group in spec["workerGroupSpecs"]} == LABELS


@pytest.mark.parametrize("job", ["invert", "train", "tune"])
def test_entrypoints_are_jobs_that_exist_with_flags_that_they_take(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = read(CLUSTER / "kuberay" / f"rayjob-{job}.yaml")["spec"]
    [submitter] = spec["submitterPodTemplate"]["spec"]["containers"]
    assert submitter["resources"]["limits"] and "env" not in submitter
    # KubeRay hands the entrypoint to the submitter's shell, which puts its own variables in: no secret.
    assert submitter["envFrom"] == [{"configMapRef": {"name": "svgan-ray"}}]
    [settings] = [document for document in documents_of("base.yaml") if document["kind"] == "ConfigMap"]
    entrypoint = Template(spec["entrypoint"]).substitute(settings["data"])
    python, program, *flags = entrypoint.split()
    assert (python, program) == ("python", f"/opt/svgan-ray/jobs/{job}.py") and spec["backoffLimit"] >= 1
    parse(SECTIONS[job], flags)
    places = [flag for flag in flags if flag.startswith("s3://")]
    assert places and all(place.startswith("s3://BUCKET/PREFIX/") for place in places), (
        "what the policy allows"
    )
    label = spec["submitterPodTemplate"]["metadata"]["labels"]
    [policy] = [document for document in documents_of("base.yaml") if document["kind"] == "NetworkPolicy"]
    assert {"podSelector": {"matchLabels": label}} in policy["spec"]["ingress"][0]["from"]


def documents_of(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / "kuberay" / name).read_text("utf-8")))


def test_the_kustomization_names_files_that_exist() -> None:
    for name in read(CLUSTER / "kuberay" / "kustomization.yaml")["resources"]:
        assert documents_of(name)


def test_what_travels_with_a_job_is_code_and_neither_weights_nor_footage_nor_secrets(tmp_path: Path) -> None:
    """Packed by Ray itself, from a checkout in which people keep such things where the documents put them."""
    checkout = tmp_path / "checkout"
    for name in ("svgan_ray", "jobs", "cluster", "docs"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in (".gitignore", ".rayignore", "experiment.toml"):
        shutil.copyfile(ROOT / name, checkout / name)
    planted = [
        "weights/faces/generator/model.safetensors",
        "footage/anna.mp4",
        "footage/anna.npz",
        "photo.jpg",
    ]
    planted += [".env", "cluster/.env", "cluster/secrets/ray_token", "store/store.json", "mlflow.db"]
    planted += ["psp_ffhq_encode.pt", "ffhq.pkl", "face_landmarker.task"]
    for name in planted:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(b"planted")
    environment = read(CLUSTER / "runtime_env.yaml")
    RuntimeEnv(**environment | {"working_dir": str(checkout)})
    assert environment.keys() == {"working_dir", "excludes"}, "settings and secrets are those of the machines"
    for number, excludes in enumerate(([], environment["excludes"])):  # --working-dir, --runtime-env
        package = tmp_path / f"{number}.zip"
        create_package(str(checkout), package, include_gitignore=True, excludes=excludes)
        travels = set(zipfile.ZipFile(package).namelist())
        assert {"jobs/invert.py", "svgan_ray/store/s3.py", "experiment.toml"} <= travels
        assert not travels & set(planted)
        weights = {name for name in travels if name.endswith(".safetensors")}
        assert all(name.startswith("svgan_ray/demo/weights/") for name in weights), (
            "those are part of the code"
        )
        assert package.stat().st_size < 20 * 10**6


def compose() -> dict[str, Any]:
    document: dict[str, Any] = read(CLUSTER / "compose.yaml")
    return document


def test_the_compose_file_fits_the_compose_specification() -> None:
    check = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, CLUSTER / "compose.yaml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_publishes_on_loopback_and_takes_secrets_from_files() -> None:
    services, secrets = compose()["services"], compose()["secrets"]
    assert services.keys() == {"postgres", "s3", "bucket", "mlflow", "head", "worker"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["mem_limit"] and service["cap_drop"] == ["ALL"], name
        named = {s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])}
        assert named <= secrets.keys(), name
        for variable, value in service["environment"].items():
            is_secret = any(word in variable for word in ("PASSWORD", "SECRET", "TOKEN", "ACCESS_KEY"))
            assert not is_secret or value.removeprefix("/run/secrets/") in named, f"{name}: {variable}"
        image, _, tag = service["image"].rpartition(":")
        assert "$" in service["image"] or (image and any(c.isdigit() for c in tag)), f"{name} is not pinned"
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert name == "bucket" or service["healthcheck"]["test"], name
    assert all(secret.keys() == {"file"} for secret in secrets.values())
    assert "basic-auth" in (CLUSTER / "mlflow_server.sh").read_text()
    assert services["mlflow"]["command"][0] == "/opt/svgan-ray/cluster/mlflow_server.sh"


def test_the_environment_example_names_every_variable_and_no_secret() -> None:
    text = (CLUSTER / "compose.yaml").read_text("utf-8")
    used = set(re.findall(r"\$\{([A-Z_0-9]+)", text))
    lines = (CLUSTER / ".env.example").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given.keys() == used
    assert not [name for name in given if any(word in name for word in ("PASSWORD", "KEY", "TOKEN"))]


def test_secrets_are_drawn_once_and_are_all_that_compose_asks_for(tmp_path: Path) -> None:
    command = [CLUSTER / "make_secrets.sh", tmp_path / "secrets"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    drawn = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert drawn.keys() == compose()["secrets"].keys()
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    random = [text for text in drawn.values() if "\n" not in text]
    assert len(set(random)) == 5 and all(len(text) == 64 for text in random)
    assert drawn["s3_password"] in drawn["aws_credentials"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == drawn
    ignored = ["git", "check-ignore", "cluster/secrets/ray_token", "cluster/.env"]
    assert len(subprocess.run(ignored, cwd=ROOT, capture_output=True, timeout=60).stdout.split()) == 2


def test_the_image_is_pinned_and_not_of_root() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    [base] = [line for line in lines if line.startswith("FROM")]
    assert base.partition(":")[2].count(".") >= 2, "a version of Python to the last digit"
    assert [line for line in lines if line.startswith("USER")] == ["USER svgan"]
    [installs] = [line for line in lines if "apt-get install" in line]
    for tool in (
        "rsync",
        "openssh-client",
    ):  # without which `ray up` neither sets a head up nor it its workers
        assert tool in installs.split()
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line


def test_the_image_does_not_wait_long_for_silent_machines() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    waits_ms = {
        name: int(value) for name, value in re.findall(r"RAY_(grpc_client_keepalive_\w+)=(\d+)", text)
    }
    assert waits_ms.keys() == {"grpc_client_keepalive_time_ms", "grpc_client_keepalive_timeout_ms"}
    assert all(hasattr(ray._config, name) for name in waits_ms), "settings that this Ray knows"
    assert sum(waits_ms.values()) <= 60_000


def test_scripts_pass_shellcheck() -> None:
    command = [BIN / "shellcheck", *sorted(CLUSTER.glob("*.sh"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
