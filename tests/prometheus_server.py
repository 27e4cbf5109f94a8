"""A real Prometheus, set up by cluster/prometheus.yml."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests
import yaml

from tests.free_port import free_port

CONFIG = Path(__file__).parents[1] / "cluster" / "prometheus.yml"
OUR_LABELS = ("outcome", "reason", "stage", "run")
SEEN_WITHIN_S = 120
Values = Mapping[tuple[str, ...], float]


@contextmanager
def scraping(ray_folder: Path, folder: Path, program: str) -> Iterator[str]:
    """The address of one that asks each machine of a cluster, whose head has this folder, every second."""
    config = yaml.safe_load(CONFIG.read_text())
    config["global"]["scrape_interval"] = "1s"
    [discovery] = config["scrape_configs"][0]["file_sd_configs"]
    [listed] = discovery["files"]
    discovery |= {"refresh_interval": "1s", "files": [str(ray_folder / Path(listed).name)]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    host = f"127.0.0.1:{free_port()}"
    flags = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb")
    with (folder / "prometheus.log").open("w") as log:
        command = [program, *flags, f"--web.listen-address={host}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{host}"
    finally:
        process.terminate()
        process.wait(30)


def asked(address: str, query: str) -> dict[tuple[str, ...], float]:
    """Values by those labels that are ours."""
    try:
        answer = requests.get(f"{address}/api/v1/query", {"query": query}, timeout=10).json()
    except requests.ConnectionError:  # not up yet
        return {}
    return {
        tuple(series["metric"][name] for name in OUR_LABELS if name in series["metric"]): float(
            series["value"][1]
        )
        for series in answer["data"]["result"]
    }


def wait_to_see(address: str, query: str, condition: Callable[[Values], bool]) -> None:
    """Until the answer to a query is as it should be."""
    deadline_s = time.monotonic() + SEEN_WITHIN_S
    while not condition(found := asked(address, query)):
        assert time.monotonic() < deadline_s, f"{query}: {found}"
        time.sleep(0.5)
