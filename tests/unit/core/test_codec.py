"""Documents of before are read: what was measured stays worth something."""

from typing import Any

import pytest
from slm_core.codec import DocumentError, parse, parse_document, to_json
from slm_core.measurements import Point, SharingMode

from tests.builders import point


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


SCHEMA = "slm-operator.io/measurements/"


@pytest.mark.parametrize("version", ["v2", "v10"])
def test_a_newer_document_is_refused_with_both_ways_out(version: str) -> None:
    newer = (
        f"schema: '{SCHEMA}{version}' is newer than {SCHEMA}v1, the newest that this version reads: "
        "upgrade the operator and kubectl slm, or export the profile with an older version of them"
    )
    with pytest.raises(DocumentError) as why:
        parse_document({"schema": SCHEMA + version, "fields": "of tomorrow"})
    assert str(why.value) == newer


@pytest.mark.parametrize(
    "schema",
    [None, 2, [], "", "2", "v2", "other/v2", f"{SCHEMA}v0", f"{SCHEMA}v2b", f"{SCHEMA}v²", f"{SCHEMA}v" + "9" * 5000],
)
def test_document_of_no_version_is_not_called_newer(schema: object) -> None:
    with pytest.raises(DocumentError, match=r"is not slm-operator\.io/measurements/v1: measure again"):
        parse_document({"schema": schema})
