"""The reasons of conditions and events, and the endings of profiles, as docs/how-to/troubleshooting.md tells them: from the enums."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slm_operator.api.reasons import KUBELET_WORDS, Group, Reason
from slm_operator.planning.profile.endings import CONSEQUENCES

if TYPE_CHECKING:
    from datetime import timedelta

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "troubleshooting.md"
START, END = "<!-- reasons of {} -->", "<!-- end of reasons -->"
ENDINGS, END_OF_ENDINGS = "<!-- endings -->", "<!-- end of endings -->"
LAST_COLUMN = {Group.WAITING: "if it lasts", Group.GOOD: "", Group.NODE_EVENT: ""}


def reasons_page() -> dict[Path, str]:
    """File to text of the page, its tables filled."""
    text = PAGE.read_text()
    for group in Group:
        text = _filled(text, START.format(group.name), _table(group), END)
    return {PAGE: _filled(text, ENDINGS, _endings(), END_OF_ENDINGS)}


def _filled(text: str, start: str, table: list[str], end: str) -> str:
    before, _, rest = text.partition(start)
    return "\n".join((before + start, *table, end)) + rest.partition(end)[2]


def _endings() -> list[str]:
    head = ["| `status.tries.lastEnding` | meaning | tried again | GPU time counts |", "|---|---|---|---|"]
    rows = (
        f"| `{ending}` | {row.meaning} | {_pause(row.first_pause) if row.again else 'when it is asked for'} | {'yes' if row.spends else 'no, nothing ran'} |"
        for ending, row in CONSEQUENCES.items()
    )
    return [*head, *rows]


def _pause(first: timedelta) -> str:
    seconds = round(first.total_seconds())
    return f"after {seconds} s, then twice as long each time, an hour at most"


def _table(group: Group) -> list[str]:
    rows = [(reason.value, reason.meaning, reason.remedy) for reason in Reason if reason.group is group]
    if group is Group.STOPPED:
        rows += [(word, f"the kubelet's word: {meaning}", remedy) for word, (meaning, remedy) in KUBELET_WORDS.items()]
    last = LAST_COLUMN.get(group, "what to do")
    if not last:
        return ["| reason | meaning |", "|---|---|", *(f"| `{word}` | {meaning} |" for word, meaning, _ in rows)]
    head = [f"| reason | meaning | {last} |", "|---|---|---|"]
    return [*head, *(f"| `{word}` | {meaning} | {remedy} |" for word, meaning, remedy in rows)]
