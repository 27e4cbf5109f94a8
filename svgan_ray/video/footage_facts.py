"""What was done to a video so that it could be read and looked right: for tracks, tables and pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from svgan_ray.video.frame_index import MENDS

__all__ = ["PARAMETER", "FootageFacts", "conversions", "facts_of"]

PARAMETER = "footage"
"""Under this name a track's parameters hold the facts, where there are any."""


@dataclass(frozen=True)
class FootageFacts:
    """Of one video; nothing where it is read as it is.

    rules           kinds of conversion with their details, sorted; part of its clips' ids
    mends           how often its times were mended in which way; see frame_index.MENDS
    damaged_frames  flagged by the decoder, absent, or dependent on such a frame
    warnings        sentences on what could not be known
    """

    rules: tuple[str, ...] = ()
    mends: Mapping[str, int] = field(default_factory=dict)
    damaged_frames: int = 0
    warnings: tuple[str, ...] = ()

    def to_parameters(self) -> dict[str, Any]:
        """What a track's parameters gain: nothing where nothing was done."""
        found = {name: value for name, value in asdict(self).items() if value}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
        return {PARAMETER: plain} if plain else {}

    def sentences(self) -> Iterator[str]:
        """What somebody should know, a sentence each."""
        if self.rules:
            yield f"its pictures were converted: {', '.join(self.rules)}"
        if self.damaged_frames:
            yield f"{self.damaged_frames:,} frames are damaged, and count as frames without a face"
        for name, count in self.mends.items():
            yield f"{count:,} {MENDS[name]}"
        yield from self.warnings


def facts_of(parameters: Mapping[str, Any]) -> FootageFacts:
    """The facts in a track's parameters."""
    known = parameters.get(PARAMETER, {})
    return FootageFacts(
        rules=tuple(known.get("rules", ())),
        mends=dict(known.get("mends", {})),
        damaged_frames=int(known.get("damaged_frames", 0)),
        warnings=tuple(known.get("warnings", ())),
    )


def conversions(facts: Iterable[FootageFacts]) -> str:
    """How many files were converted in which way, as in `3 HDR, 2 non-square pixels`; `none` of none."""
    kinds = Counter(rule.partition(" (")[0] for one in facts for rule in one.rules)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"
