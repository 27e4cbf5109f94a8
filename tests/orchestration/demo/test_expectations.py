"""Short, small and shaky footage is told what to expect, and other footage nothing."""

from __future__ import annotations

import pytest

from svgan_ray.orchestration.demo.expectations import FootageFacts, expectations


def test_good_footage_needs_no_word() -> None:
    assert expectations(FootageFacts(duration_s=60.0, face_px=200.0, shake=0.003)) == []


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (FootageFacts(39.0, 200.0, 0.003), "is seen for 39 s"),
        (FootageFacts(60.0, 80.0, 0.003), "about 80 pixels wide"),
        (FootageFacts(60.0, 200.0, 0.03), "shakes (3.0 %"),
    ],
)
def test_each_shortcoming_is_named(facts: FootageFacts, word: str) -> None:
    [said] = expectations(facts)
    assert word in said
