"""From advised flags to a JSON patch (RFC 6902) of the object that runs the engine.

Each flag is changed where it stands: an item of a list, a part of a shell's text, a part of a variable; what is not given yet
goes to the end. Every text that is touched is tested first, so that a patch for another state is refused whole. Pure. Must
never change an object that was not asked about, nor write a secret: a text that holds one is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.base import HOME, EndOf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.engines.base import GivenFlag

    from slm_operator.cli.inputs.workloads.base import Path, Raw, RunningEngine

Operation = dict[str, Any]


@dataclass(slots=True)
class _Edits:
    items: dict[Path, str | None] = field(default_factory=dict)
    """New text of whole texts; None: taken out."""
    parts: dict[Path, list[tuple[int, int, str]]] = field(default_factory=dict)
    """New text of parts of texts."""
    added: list[str] = field(default_factory=list)


def operations(running: RunningEngine, raw: Raw, flags: Mapping[str, str | None]) -> list[Operation]:
    """The patch by which the engine has these flags; None: by which it has that one no more. Raises Refused."""
    edits = _Edits()
    for name, value in flags.items():
        given = [flag for flag in running.line.flags if flag.name == name]
        if value is None:
            _take_out(running, edits, given)
        else:
            _set(running, edits, given, name, value)
    found = _written(running, raw, edits)
    _refuse_secrets(running, found)
    return found


def _set(running: RunningEngine, edits: _Edits, given: Sequence[GivenFlag], name: str, value: str) -> None:
    wrong = [flag for flag in given if flag.value != value]
    if given and not wrong:
        return
    for flag in wrong:
        if flag.words == 1 and "=" in (text := running.arguments[flag.at].text):
            _edit(running, edits, flag.at, f"{text.partition('=')[0]}={value}")
        else:
            _edit(running, edits, flag.at + 1, value)
    if not given or _whose(running, given[-1].at) != HOME:
        edits.added.append(f"{name}={value}")


def _take_out(running: RunningEngine, edits: _Edits, given: Sequence[GivenFlag]) -> None:
    for flag in given:
        whose = _whose(running, flag.at)
        if whose != HOME:
            raise Refused(
                f"{running.subject}: {flag.name} stands in {whose}, and nothing here can take it back: remove it there"
            )
        for at in range(flag.at, flag.at + flag.words):
            _edit(running, edits, at, None)


def _whose(running: RunningEngine, at: int) -> str:
    origin = running.arguments[at].origin
    return "what makes its pods" if origin is None else origin.of


def _edit(running: RunningEngine, edits: _Edits, at: int, text: str | None) -> None:
    """Another object's word stays: what is added after it counts."""
    origin = running.arguments[at].origin
    if origin is None or origin.of != HOME:
        return
    if origin.span is None:
        edits.items[origin.path] = text
    else:
        edits.parts.setdefault(origin.path, []).append((*origin.span, text or ""))


def _written(running: RunningEngine, raw: Raw, edits: _Edits) -> list[Operation]:
    ends = _added(running, raw, edits)
    tests, replaced = [], []
    for path, new in edits.items.items():
        tests.append({"op": "test", "path": pointer(path), "value": at(raw, path)})
        if new is not None:
            replaced.append({"op": "replace", "path": pointer(path), "value": new})
    for path, parts in edits.parts.items():
        old = str(at(raw, path))
        tests.append({"op": "test", "path": pointer(path), "value": at(raw, path)})
        replaced.append({"op": "replace", "path": pointer(path), "value": _spliced(old, parts)})
    # From the last of a list to its first: each that is taken out moves those behind it.
    gone = sorted((path for path, new in edits.items.items() if new is None), key=lambda path: path[-1], reverse=True)
    return [*tests, *replaced, *({"op": "remove", "path": pointer(path)} for path in gone), *ends]


def _added(running: RunningEngine, raw: Raw, edits: _Edits) -> list[Operation]:
    """What is put at the end; into a text it goes as an edit of that text."""
    end, words = running.end, edits.added
    if not words:
        return []
    if end.of != HOME:
        raise Refused(
            f"{running.subject}: its command line is a text of {end.of}, which passes no further arguments on: change it there"
        )
    match end.what:
        case EndOf.LIST:
            return [{"op": "add", "path": f"{pointer(end.path)}/-", "value": word} for word in words]
        case EndOf.NEW_LIST:
            return [{"op": "add", "path": pointer(end.path), "value": words}]
        case EndOf.TEXT:
            edits.parts.setdefault(end.path, []).append((end.offset, end.offset, "".join(f" {word}" for word in words)))
            return []
        case EndOf.NEW_VARIABLE:
            variable = {"name": end.variable, "value": " ".join(words)}
            has_some = isinstance(at(raw, end.path).get("env"), list)
            path = f"{pointer(end.path)}/env"
            return [
                {"op": "add", "path": f"{path}/-" if has_some else path, "value": variable if has_some else [variable]}
            ]
        case other:
            assert_never(other)


def _spliced(text: str, parts: Sequence[tuple[int, int, str]]) -> str:
    """NB: with a part that is taken out goes the blank before it."""
    for start, end, new in sorted(parts, reverse=True):
        kept = text[:start].rstrip(" ") if not new else text[:start]
        text = kept + new + text[end:]
    return text


def _refuse_secrets(running: RunningEngine, found: Sequence[Operation]) -> None:
    shown = " ".join(str(one.get("value", "")) for one in found)
    for flag in running.line.flags:
        secret = flag.name in running.engine.secret_flags and flag.value
        if secret and flag.value and not flag.value.startswith("$(") and flag.value in shown:
            raise Refused(
                f"{running.subject}: the text to be changed holds {flag.name} with its value, which would stand in the patch: "
                f"give {running.engine.key_variable} as a variable from a Secret instead"
            )


def pointer(path: Path) -> str:
    """RFC 6901."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def at(raw: Any, path: Path) -> Any:
    """What stands there."""
    for part in path:
        raw = raw[part]
    return raw


def applied(raw: Raw, patch: Sequence[Operation]) -> Raw:
    """The object with such a patch: those that `operations` writes, whose tests hold by construction."""
    result = copy.deepcopy(raw)
    for one in patch:
        *above, last = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
        holder: Any = result
        for key in above:
            holder = holder[int(key)] if isinstance(holder, list) else holder[key]
        key = last if isinstance(holder, dict) or last == "-" else int(last)
        if one["op"] == "remove":
            del holder[key]
        elif one["op"] == "add" and key == "-":
            holder.append(one["value"])
        elif one["op"] != "test":
            holder[key] = one["value"]
    return result
