"""The reasons of conditions and events, as docs/troubleshooting.md tells them: from the enum, a table for each group."""

from __future__ import annotations

from pathlib import Path

from slm_operator.api.reasons import KUBELET_WORDS, Group, Reason

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
START, END = "<!-- reasons of {} -->", "<!-- end of reasons -->"
LAST_COLUMN = {Group.WAITING: "if it lasts", Group.GOOD: "", Group.NODE_EVENT: ""}


def reasons_page() -> dict[Path, str]:
    """File to text of the page, its tables filled."""
    text = PAGE.read_text()
    for group in Group:
        start = START.format(group.name)
        before, _, rest = text.partition(start)
        text = "\n".join((before + start, *_table(group), END)) + rest.partition(END)[2]
    return {PAGE: text}


def _table(group: Group) -> list[str]:
    rows = [(reason.value, reason.meaning, reason.remedy) for reason in Reason if reason.group is group]
    if group is Group.STOPPED:
        rows += [(word, f"the kubelet's word: {meaning}", remedy) for word, (meaning, remedy) in KUBELET_WORDS.items()]
    last = LAST_COLUMN.get(group, "what to do")
    if not last:
        return ["| reason | meaning |", "|---|---|", *(f"| `{word}` | {meaning} |" for word, meaning, _ in rows)]
    head = [f"| reason | meaning | {last} |", "|---|---|---|"]
    return [*head, *(f"| `{word}` | {meaning} | {remedy} |" for word, meaning, remedy in rows)]
