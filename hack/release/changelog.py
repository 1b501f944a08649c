"""A version's section of CHANGELOG.md: what a release requires, and what Artifact Hub shows of it. Pure."""

from __future__ import annotations

import re

KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
"""Headings of Keep a Changelog, which are Artifact Hub's kinds."""


def section(text: str, version: str) -> str | None:
    """What is below `## 1.2.3` or `## [1.2.3] - 2026-12-31`; None where there is no such heading, or only headings below it."""
    heading = re.compile(rf"^## \[?{re.escape(version)}\]?(\s[^\n]*)?$", re.MULTILINE)
    found = heading.search(text)
    if found is None:
        return None
    below, *_ = re.split(r"^## ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)
    said = any(line and not line.startswith("#") for line in below.splitlines())
    return below.strip() if said else None


def changes(section_text: str) -> list[dict[str, str]]:
    """Its entries as Artifact Hub wants them: kind and description, each in one line without links."""
    kind, found = "changed", []
    for line in section_text.splitlines():
        if line.startswith("### "):
            name = line.removeprefix("### ").strip()
            kind = name.lower() if name in KINDS else "changed"
        elif line.startswith("- "):
            found.append({"kind": kind, "description": line.removeprefix("- ")})
        elif line.startswith("  ") and found:
            found[-1]["description"] += f" {line.strip()}"
    return [one | {"description": _plain(one["description"])} for one in found]


def _plain(text: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
