"""The documentation as data: pages, their links, their command blocks."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: what follows the fence, and its lines with continuations joined and comments gone."""

    page: str
    language: str
    lines: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\S+ ?\S*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(str(page.relative_to(ROOT)), language, _lines(body)) for language, body in found]


def yaml_objects(page: Path) -> list[Any]:
    """The documents in the page's YAML blocks."""
    found = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [document for body in found for document in yaml.safe_load_all(body)]


def _lines(body: str) -> tuple[str, ...]:
    joined = re.sub(r"\\\n\s*", "", body)
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines())
    return tuple(line for line in lines if line)


def broken_links(page: Path) -> list[str]:
    """Relative links of a page to no file, or to no heading of it."""
    found = re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    return [
        f"{name}#{anchor}" if anchor else name
        for name, anchor in found
        if not (target := page.parent / name if name else page).exists()
        or (anchor and anchor not in _anchors(target.read_text()))
    ]


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings, as long as no two of a page are the same."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
