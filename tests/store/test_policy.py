"""cluster/iam_policy.json on a real server: enough for a store and Ray's checkpoints, below one prefix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from pyarrow.fs import FileSelector, FileType

from svgan_ray.errors import StoreAccessError
from svgan_ray.orchestration.runtime.folders import filesystem
from svgan_ray.store.probe import probe_store
from tests.s3_servers import make_bucket, rgw_is_missing, rgw_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

POLICY = Path(__file__).parents[2] / "cluster" / "iam_policy.json"
WORKER = "worker"


@pytest.fixture(scope="module", autouse=True)
def worker() -> Iterator[None]:
    """This process has the keys of a machine with the policy, for the bucket `one` and the prefix `mine`."""
    if rgw_is_missing():
        pytest.skip(f"needs the system package of an S3 server: {rgw_is_missing()}")
    with rgw_server(others=(WORKER,)) as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        for bucket in ("one", "two"):
            make_bucket(s3, bucket)
        owner = boto3.Session().client("s3")  # boto3 itself would go on with these keys
        owner.put_object(Bucket="one", Key="others/secret", Body=b"theirs")
        text = POLICY.read_text("utf-8").replace("BUCKET", "one").replace("PREFIX", "mine")
        whom = {"Principal": {"AWS": [f"arn:aws:iam:::user/{WORKER}"]}}
        statements = [s | whom for s in json.loads(text)["Statement"] if "s3:" in json.dumps(s["Action"])]
        document = {"Version": "2012-10-17", "Statement": statements}
        owner.put_bucket_policy(Bucket="one", Policy=json.dumps(document))
        owner.close()
        patch.setenv("AWS_ACCESS_KEY_ID", WORKER)
        patch.setenv("AWS_SECRET_ACCESS_KEY", WORKER)
        yield


def test_a_store_below_the_prefix_works() -> None:
    assert "create-if-absent, read, list and delete work" in probe_store("s3://one/mine/store")


@pytest.mark.parametrize("uri", ["s3://one/others", "s3://one", "s3://one/mine2", "s3://two/mine"])
def test_a_store_anywhere_else_is_refused(uri: str) -> None:
    with pytest.raises(StoreAccessError, match="access is forbidden"):
        probe_store(uri)


def test_rays_checkpoints_work() -> None:
    s3, path = filesystem("s3://one/mine/checkpoints")
    s3.create_dir(f"{path}/a")
    assert s3.get_file_info(f"{path}/absent").type == FileType.NotFound
    with s3.open_output_stream(f"{path}/a/x") as stream:
        stream.write(b"weights" * 10**6)  # in parts
    assert [info.base_name for info in s3.get_file_info(FileSelector(f"{path}/a"))] == ["x"]
    s3.delete_dir(f"{path}/a")
    assert s3.get_file_info(f"{path}/a").type == FileType.NotFound


def test_what_others_keep_in_the_bucket_is_neither_read_nor_changed() -> None:
    client = boto3.Session().client("s3")
    theirs = {"Bucket": "one", "Key": "others/secret"}
    for attempt in (client.get_object, client.put_object, client.delete_object):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt(**theirs)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket="one", Prefix="others/")
    client.close()
