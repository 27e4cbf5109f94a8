"""Which of two models moves better? A page shows pairs of videos without names and records the votes.

    python analysis/blind_votes.py --models models/a models/b --votes reports/votes.jsonl

The program serves one page on this machine, which contains all videos. Which model is on the left changes
from pair to pair and is not shown on the page. Votes are appended to the file; when the program is run again,
it goes on with the pairs that have no vote. Ctrl+C ends it and prints the score, and the probability of such
a clear score by chance.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import random
import tempfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from svgan_ray.report.page import Html, embedded_video, page, paragraph, section, side_by_side
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_generator, weights_folders
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents
from svgan_ray.video.writing import SYNTHETIC_TAGS, write_video

HOST = "127.0.0.1"
CHOICES = ("left", "right", "same")
LONGEST_VOTE_BYTES = 1000

STYLE = "button { font: inherit; padding: .5rem 1.5rem; margin-right: .5rem; cursor: pointer; }"
SCRIPT = """
async function vote(pair, choice) {
  const answer = await fetch("/vote", {method: "POST", headers: {"Content-Type": "application/json"},
                                       body: JSON.stringify({pair, choice})});
  if (answer.ok) document.getElementById("pair-" + pair).innerHTML = "<p>noted</p>";
}
"""


@dataclass(frozen=True)
class Pair:
    """Two videos of one seed; `left` is the number of the model that is shown on the left."""

    number: int
    seed: int
    left: int


def pairs_of(count: int, seed: int) -> list[Pair]:
    """The pairs, which are the same at every start with one seed."""
    draw = random.Random(seed)
    return [Pair(number, seed + number, draw.randrange(2)) for number in range(count)]


def video_of(model: MotionModel, generator: Generator, seed: int, seconds: float) -> bytes:
    frames = round(seconds * model.frame_rate_hz)
    pictures = np.concatenate(list(render(generator, sample_latents(model, seed, frames))))
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder, "video.mp4"), pictures, model.frame_rate_hz, SYNTHETIC_TAGS)
        return Path(folder, "video.mp4").read_bytes()


def block_of(pair: Pair, videos: tuple[bytes, bytes]) -> Html:
    """Two players and the buttons below them."""
    shown = (videos[pair.left], videos[1 - pair.left])
    players = side_by_side(*(embedded_video(v, name) for v, name in zip(shown, CHOICES, strict=False)))
    buttons = "".join(
        f"<button onclick=\"vote({pair.number}, '{choice}')\">{html.escape(choice)}</button> "
        for choice in CHOICES
    )
    return Html(f'<div id="pair-{pair.number}">{players}<p>{buttons}</p></div>')


def page_of(blocks: dict[int, Html]) -> str:
    """The whole page; each block is one pair that has no vote yet."""
    intro = paragraph("Which of the two moves more like a person? `same` where you cannot tell.")
    sections = [section(f"Pair {number + 1}", block) for number, block in blocks.items()]
    done = paragraph("All pairs have a vote.")
    behaviour = Html(f"<style>{STYLE}</style><script>{SCRIPT}</script>")
    return page("Blind comparison", intro, *(sections or [done]), behaviour)


def read_votes(path: Path) -> dict[int, dict[str, Any]]:
    """The last vote for each pair."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {vote["pair"]: vote for vote in map(json.loads, lines)}


def score(pairs: list[Pair], votes: dict[int, dict[str, Any]]) -> tuple[int, int]:
    """The number of pairs in which each model was preferred."""
    wins = [0, 0]
    for pair in pairs:
        choice = votes.get(pair.number, {}).get("choice")
        if choice in CHOICES[:2]:
            wins[pair.left if choice == "left" else 1 - pair.left] += 1
    return wins[0], wins[1]


def chance(wins: tuple[int, int]) -> float:
    """The probability of a score at least as clear as this one if nobody can tell the models apart."""
    total, most = sum(wins), max(wins)
    if 2 * most == total:
        return 1.0
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(most, total + 1)) / 2**total)


class Booth(HTTPServer):
    """Serves the page and accepts votes, only for a browser on this machine and only from this page."""

    def __init__(self, port: int, pairs: list[Pair], blocks: dict[int, Html], votes: Path) -> None:
        super().__init__((HOST, port), Handler)
        self.pairs, self.blocks, self.votes = pairs, blocks, votes
        self.address = f"{HOST}:{self.server_port}"

    def open_blocks(self) -> dict[int, Html]:
        voted = read_votes(self.votes)
        return {number: block for number, block in self.blocks.items() if number not in voted}

    def note(self, vote: Any) -> bool:
        """Append a vote; returns False if the value is no valid vote."""
        if (
            not isinstance(vote, dict)
            or vote.get("pair") not in self.blocks
            or vote.get("choice") not in CHOICES
        ):
            return False
        self.votes.parent.mkdir(parents=True, exist_ok=True)
        with self.votes.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"pair": vote["pair"], "choice": vote["choice"]}) + "\n")
        return True


class Handler(BaseHTTPRequestHandler):
    """GET / and POST /vote."""

    server: Booth

    def do_GET(self) -> None:
        is_page = self.path == "/" and self.headers.get("Host") == self.server.address
        self._answer(200 if is_page else 404, page_of(self.server.open_blocks()) if is_page else "")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        own = f"http://{self.server.address}"
        if self.path != "/vote" or self.headers.get("Origin") != own or length > LONGEST_VOTE_BYTES:
            self._answer(403, "")
            return
        try:
            noted = self.server.note(json.loads(self.rfile.read(length)))
        except ValueError:
            noted = False
        self._answer(200 if noted else 400, "")

    def _answer(self, status: int, body: str) -> None:
        data = body.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Print no requests, because the terminal is for the score."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs=2, required=True, help="folders of two trained models")
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--pairs", type=int, default=10, help="pairs to show")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each video")
    parser.add_argument("--seed", type=int, default=0, help="seeds the noise and the order")
    parser.add_argument("--votes", type=Path, default=Path("reports/votes.jsonl"))
    parser.add_argument("--port", type=int, default=8100, help="loopback port")
    options = parser.parse_args()

    models = [load_model(folder) for folder in options.models]
    generator = load_generator(weights_folders(options.weights)[0])
    pairs = pairs_of(options.pairs, options.seed)
    blocks = {}
    for pair in pairs:
        one, other = (video_of(model, generator, pair.seed, options.seconds) for model in models)
        blocks[pair.number] = block_of(pair, (one, other))
    booth = Booth(options.port, pairs, blocks, options.votes)
    print(f"vote at http://{booth.address}/  (Ctrl+C ends it)", flush=True)
    try:
        booth.serve_forever()
    except KeyboardInterrupt:
        wins = score(pairs, read_votes(options.votes))
        for folder, won in zip(options.models, wins, strict=True):
            print(f"{folder}: preferred {won} times")
        print(f"by chance alone as clear in {chance(wins):.1%} of such comparisons")
    finally:
        booth.server_close()


if __name__ == "__main__":
    main()
