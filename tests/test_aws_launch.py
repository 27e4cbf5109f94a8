"""`ray up cluster/aws.yaml` up to the machines: Ray's own launcher before a stand-in for Amazon (moto)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.client import BaseClient
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

CLUSTER = Path(__file__).parents[1] / "cluster"
REGION = "us-west-2"
# Of moto: it is in no account.
AMI = "ami-03cf127a"


@dataclass(frozen=True)
class Account:
    """An account that is set up as docs/cluster.md says, and the launcher's reading of aws.yaml there."""

    subnet: str
    group: str
    config: dict[str, Any]

    def provider(self) -> AWSNodeProvider:
        return AWSNodeProvider(self.config["provider"], self.config["cluster_name"])

    def launch(self, node_type: str) -> dict[str, Any]:
        """Start a machine of this type, as the launcher and the autoscaler do; what Amazon knows of it."""
        provider = self.provider()
        head = node_type == self.config["head_node_type"]
        tags = {
            TAG_RAY_USER_NODE_TYPE: node_type,
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD if head else NODE_KIND_WORKER,
        }
        provider.create_node(self.config["available_node_types"][node_type]["node_config"], tags, 1)
        [node] = provider.non_terminated_nodes(tags)
        answer = boto3.client("ec2").describe_instances(InstanceIds=[node])
        machine: dict[str, Any] = answer["Reservations"][0]["Instances"][0]
        return machine


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    (tmp_path / ".ssh").mkdir()  # the launcher puts a key there
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "moto",
        "AWS_SECRET_ACCESS_KEY": "moto",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        ec2 = boto3.client("ec2")
        [vpc] = [vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]]
        # The last of several: one that the launcher does not come upon by itself.
        subnet = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][-1][
            "SubnetId"
        ]
        group = ec2.create_security_group(GroupName="svgan-ray", Description="Ray", VpcId=vpc)["GroupId"]
        for profile in ("HEAD_PROFILE", "WORKER_PROFILE"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=profile)
        words = {
            "REGION": REGION,
            "SUBNET": subnet,
            "SECURITY_GROUP": group,
            "AMI": AMI,
            "ADDRESS": "203.0.113.7",
        }
        ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=json.loads(filled("security_group.json", words))
        )
        config = prepare_config(yaml.safe_load(filled("aws.yaml", words)))
        validate_config(config)
        yield Account(subnet, group, bootstrap_aws(config))


def filled(name: str, words: dict[str, str]) -> str:
    """A file of cluster/ with values for its words in capitals."""
    text = (CLUSTER / name).read_text("utf-8")
    return re.sub(r"\b[A-Z_]+\b", lambda word: words.get(word[0], word[0]), text)


@pytest.mark.parametrize(
    ("node_type", "profile", "lifecycle"),
    [("head", "HEAD_PROFILE", None), ("invert", "WORKER_PROFILE", "spot"), ("train", "WORKER_PROFILE", None)],
)
def test_a_machine_is_what_the_file_says(
    account: Account, node_type: str, profile: str, lifecycle: str | None
) -> None:
    machine = account.launch(node_type)
    assert machine.get("InstanceLifecycle") == lifecycle
    assert machine["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")
    assert machine["SubnetId"] == account.subnet
    assert [group["GroupId"] for group in machine["SecurityGroups"]] == [account.group]
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    [volume] = boto3.client("ec2").describe_volumes()["Volumes"]
    assert volume["Encrypted"] and volume["Size"] == 100


def test_from_outside_only_ssh_is_reached_and_from_one_address(account: Account) -> None:
    account.launch("head")
    [group] = boto3.client("ec2").describe_security_groups(GroupIds=[account.group])["SecurityGroups"]
    ssh, inside = sorted(group["IpPermissions"], key=lambda rule: bool(rule["UserIdGroupPairs"]))
    assert (ssh["IpProtocol"], ssh["FromPort"], ssh["ToPort"]) == ("tcp", 22, 22)
    assert [place["CidrIp"] for place in ssh["IpRanges"]] == ["203.0.113.7/32"]
    assert inside["IpRanges"] == inside["Ipv6Ranges"] == []
    assert [pair["GroupId"] for pair in inside["UserIdGroupPairs"]] == [account.group]


def test_the_heads_policy_allows_what_the_autoscaler_asks_of_amazon(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    call = BaseClient._make_api_call

    def recorded(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        asked.add(f"{client.meta.service_model.service_name}:{operation}")
        return call(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", recorded)
    provider = account.provider()
    node_config = account.config["available_node_types"]["invert"]["node_config"]
    provider.create_node(node_config, {TAG_RAY_NODE_KIND: NODE_KIND_WORKER}, 1)
    [node] = provider.non_terminated_nodes({})
    assert provider.internal_ip(node)
    provider.set_node_tags(node, {TAG_RAY_NODE_STATUS: "up-to-date"})
    provider.terminate_node(node)
    assert provider.non_terminated_nodes({}) == []
    policy = (CLUSTER / "iam_policy_head.json").read_text("utf-8")
    assert asked == set(re.findall(r'"(ec2:[A-Z]\w+)"(?!:)', policy)) - {"ec2:CreateAction"}
