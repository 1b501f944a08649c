"""What a run of mutants showed, for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.mutation.explained import Key


def lines(kept: dict[str, Any], explained: Mapping[Key, str]) -> list[str]:
    """The counts, and every mutant that no test noticed, as lines of Markdown: those with a reason first."""
    rows = [(one, explained.get(key_of(one))) for one in kept["survivors"]]
    rows.sort(key=lambda row: row[1] is None)
    fates = ", ".join(f"{count} {fate}" for fate, count in sorted(kept["fates"].items()))
    tried = f"mutmut {kept['mutmut']}, {kept['tried']:,} of {kept['mutants']:,} mutants by seed {kept['seed']}"
    return [
        f"{tried}: {fates}. Of those that no test notices, {sum(why is not None for _, why in rows)} are explained.",
        "",
        "| in | it was | it became | why it stays |",
        "|---|---|---|---|",
        *(_row(one, why) for one, why in rows),
    ]


def key_of(one: Mapping[str, str]) -> Key:
    """How an explanation names a survivor."""
    return one["file"], one["function"], one["before"], one["after"]


def _row(one: Mapping[str, str], why: str | None) -> str:
    why = why or ("no test reaches it" if one["fate"] == "no tests" else "no test yet")
    room = one["file"].split("/", 2)[2]
    return f"| `{room}`, `{one['function']}` | {_code(one['before'])} | {_code(one['after'])} | {why} |"


def _code(text: str) -> str:
    """As code in a cell; what is left out is nothing."""
    fence = "``" if "`" in text else "`"
    bar = r"\|"
    return f"{fence}{text.replace('|', bar)}{fence}" if text else "nothing"
