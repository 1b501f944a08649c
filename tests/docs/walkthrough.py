"""The walk-through: what a new user types, from the pages, in the order in which they are followed. Pure.

A block of commands is a step by the comment above it, `<!-- step: NAME -->`, which readers do not see: nothing is read out of
sentences. It must never change a command but for its words in capitals, which every reader replaces too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MARKED = re.compile(r"^<!-- step: (\S+) -->\n(?:```console\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
CAPITALS = re.compile(r"[A-Z]{3,}(?:-[A-Z]+)*")


class PageError(Exception):
    """A page lacks a step, or has one that nobody follows."""


@dataclass(frozen=True, slots=True)
class Step:
    """A block of commands."""

    name: str
    page: str


FIRST_ANSWER, INSTALL, FIRST_MODEL = "docs/start/first-answer.md", "docs/how-to/install.md", "docs/start/first-model.md"
STEPS = (
    Step("answer", FIRST_ANSWER),
    Step("packs", FIRST_ANSWER),
    Step("evidence", FIRST_ANSWER),
    Step("install", INSTALL),
    Step("command", INSTALL),
    Step("node", INSTALL),
    Step("example", FIRST_MODEL),
    Step("apply", FIRST_MODEL),
    Step("explain", FIRST_MODEL),
    Step("ask", FIRST_MODEL),
    Step("report", FIRST_MODEL),
    Step("scale", FIRST_MODEL),
    Step("upgrade", INSTALL),
    Step("delete", FIRST_MODEL),
    Step("remove", INSTALL),
    Step("remove-all", INSTALL),
)
AIR_GAP = tuple(
    Step(name, "docs/how-to/air-gap.md")
    for name in ("files", "mirror", "packages", "secret", "install", "trust", "team-secret", "command", "upgrade")
)
"""A walk of its own, where the cluster has no route out."""


def commands(text_of: Callable[[str], str], steps: tuple[Step, ...] = STEPS) -> dict[Step, str]:
    """The commands of each step, in order. Raises PageError where a page has not these steps, in this order."""
    found = {page: _marked(page, text_of(page)) for page in dict.fromkeys(step.page for step in steps)}
    for page, blocks in found.items():
        wanted, there = [step.name for step in steps if step.page == page], [name for name, _ in blocks]
        if lacks := [name for name in wanted if name not in there]:
            raise PageError(f"{page} has no step {lacks[0]}: put <!-- step: {lacks[0]} --> above its commands")
        if wanted != there:
            raise PageError(f"{page} has the steps {', '.join(there)}, and they are followed as {', '.join(wanted)}")
    return {step: dict(found[step.page])[step.name] for step in steps}


def _marked(page: str, text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = MARKED.findall(text)
    for name, body in found:
        if not body:
            raise PageError(f"{page}: below step {name} is no block of commands (```console)")
    return found


def filled(text: str, values: Mapping[str, str]) -> str:
    """The commands with every word in capitals replaced. Raises PageError for one that nobody knows."""
    if unknown := [word for word in CAPITALS.findall(text) if word not in values]:
        raise PageError(f"nobody knows what a reader puts in place of {unknown[0]}")
    return CAPITALS.sub(lambda found: values[found[0]], text)
