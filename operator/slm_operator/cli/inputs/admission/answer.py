"""The answer to a manifest: every finding, in the order in which the API server looks, and the object it would keep."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slm_operator.api.crd import KINDS, definition
from slm_operator.cli.inputs.admission import checks, metadata, rules
from slm_operator.cli.inputs.admission.findings import MOST_SHOWN, Finding, Reason, Schema, below, listed
from slm_operator.cli.inputs.admission.former_names import name_now, stands_in_for
from slm_operator.cli.inputs.admission.structure import Unknown, as_sent, settled, unknown_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 20
"""Findings that are printed. Who has more has one mistake in many places, or another file in mind."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an API server would say to a manifest."""

    findings: tuple[Finding, ...]
    """None when it takes it."""
    kept: dict[str, Any]
    """The object with its defaults. Of use when it is taken."""
    unasked: bool = False
    """Whether rules were not asked, because what they are asked of is wrong already."""

    def sentences(self) -> list[str]:
        """A line for each finding, not more than MOST of them."""
        lines = [str(finding) for finding in self.findings[:MOST]]
        if len(self.findings) > MOST:
            lines.append(f"and {len(self.findings) - MOST} more")
        if self.unasked:
            lines.append("some rules are asked only once these fields are correct")
        return lines


def asked(manifest: dict[str, Any], kind: str) -> Answer:
    """What is wrong with a manifest of a kind that is about to be created."""
    schema, sent = schema_of(kind), as_sent(manifest)
    strange = list(unknown_fields(sent, schema))
    guesses = [_meant(one, kind) for one in strange[:MOST]]
    found = [guess.finding for guess in guesses]
    found += [Finding(one.path, Reason.UNKNOWN, "no such field") for one in strange[MOST:]]
    found += _no_numbers(sent)
    # The status of a new object is the operator's to write: the API server drops it unread.
    kept = settled({name: value for name, value in sent.items() if name != "status"}, schema)
    misspelt = {path for guess in guesses for path in guess.instead}
    checked = checks.findings(kept, schema)
    found += [one for one in checked if not (one.reason is Reason.MISSING and one.path in misspelt)]
    if not any(one.path.startswith("metadata") for one in checked):
        found += metadata.findings(kept["metadata"])
        kept["metadata"] = metadata.named(kept["metadata"])
    blocked = any(one.blocks_rules for one in (*checked, *found))
    if not blocked:
        found += rules.findings(kept, schema)
    return Answer(tuple(found), kept, unasked=blocked)


@lru_cache(maxsize=len(KINDS))
def schema_of(kind: str) -> Schema:
    """The schema of a kind, its metadata written out."""
    (found,) = [definition(one) for one in KINDS if one.kind == kind]
    schema: Schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema | {"properties": schema["properties"] | {"metadata": metadata.SCHEMA | {"default": {}}}}


@dataclass(frozen=True, slots=True)
class _Guess:
    """What was probably meant by a field that is not known."""

    finding: Finding
    instead: tuple[str, ...] = ()
    """Paths of the fields that were meant."""


def _meant(strange: Unknown, kind: str) -> _Guess:
    def guess(message: str, *instead: str) -> _Guess:
        return _Guess(Finding(strange.path, Reason.UNKNOWN, message), instead)

    now = name_now(strange.path)
    if now is not None:
        return guess(now, *stands_in_for(strange.path))
    elsewhere = [path for path in _spec_paths(kind) if path.rpartition(".")[2] == strange.name]
    by_small = {name.lower(): name for name in strange.known}
    close = get_close_matches(strange.name[:MOST_SHOWN].lower(), by_small, n=1)
    if close and len(elsewhere) != 1:
        name = by_small[close[0]]
        return guess(f"no such field: did you mean {name}?", below(strange.parent, name))
    if elsewhere:
        return guess(f"no such field here: did you mean {listed(elsewhere)}?", *elsewhere)
    there = f"has the fields {listed(strange.known)}" if strange.known else "has no fields"
    return guess(f"no such field: {strange.parent or 'this object'} {there}")


@lru_cache(maxsize=len(KINDS))
def _spec_paths(kind: str) -> tuple[str, ...]:
    return tuple(_paths(schema_of(kind)["properties"]["spec"], "spec"))


def _paths(schema: Schema, path: str = "") -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield below(path, name)
        yield from _paths(part, below(path, name))
    if "items" in schema:
        yield from _paths(schema["items"], f"{path}[]")


def _no_numbers(value: object, path: str = "") -> Iterator[Finding]:
    """Python reads NaN and Infinity, in JSON too, which has neither."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _no_numbers(inner, below(path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _no_numbers(inner, below(path, index))
    elif isinstance(value, float | int) and not -sys.float_info.max <= value <= sys.float_info.max:
        yield Finding(path, Reason.TYPE, "no number that JSON has: give another")
