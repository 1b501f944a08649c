"""Documents of before are read: what was measured stays worth something."""

from typing import Any

import pytest
from slm_core.codec import DocumentError, parse, to_json
from slm_core.measurements import Point, SharingMode
from unit.advisor.build import point


def written(word: object) -> dict[str, Any]:
    found: dict[str, Any] = to_json(point(1))
    return found | {"sharingMode": word}


@pytest.mark.parametrize("word", ["None", "Exclusive"])
def test_a_single_engine_is_read_under_its_former_word_too(word: str) -> None:
    read = parse(Point, written(word), "points[0]")
    assert read.sharing_mode is SharingMode.EXCLUSIVE
    assert to_json(read)["sharingMode"] == "Exclusive"


@pytest.mark.parametrize("word", ["none", "", 7, [], {}])
def test_any_other_word_is_refused_with_those_that_there_are(word: object) -> None:
    with pytest.raises(DocumentError, match=r"points\[0\].sharingMode: .* is none of Exclusive, TimeSlicing, MPS"):
        parse(Point, written(word), "points[0]")
