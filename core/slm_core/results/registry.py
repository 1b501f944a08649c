"""The tools whose result files are taken, and whose a file is."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, cast

from slm_core.results import aiperf, guidellm, run, vllm_bench
from slm_core.results.run import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slm_core.measurements import MeasurementDocument
    from slm_core.results.run import LeftOut, Run


class Tool(Protocol):
    """A module for one tool."""

    NAME: str

    def is_one(self, raw: Fields) -> bool:
        """Whether a file is this tool's."""

    def runs(self, raw: Fields) -> Iterator[Run | LeftOut]:
        """Its runs. Raises DocumentError."""


MOST_NAMES = 500
"""Characters of file names that a document's provenance lists."""
TOOLS = tuple(cast("Tool", tool) for tool in (vllm_bench, guidellm, aiperf))


def tool_of(raw: Any) -> Tool | None:
    """Whose result file it is; None: nobody's that is known."""
    return next((tool for tool in TOOLS if tool.is_one(Fields(raw, ""))), None)


def from_results(files: Sequence[tuple[str, Any]]) -> tuple[MeasurementDocument, tuple[LeftOut, ...]]:
    """The document of result files, by name and content, and what of them was left out. Raises DocumentError.

    Every file must be that of a known tool (`tool_of`).
    """
    tools = [(tool_of(raw), Fields(raw, name)) for name, raw in files]
    found = chain.from_iterable(tool.runs(raw) for tool, raw in tools if tool)
    named = sorted({tool.NAME for tool, _ in tools if tool})
    names = ", ".join(dict.fromkeys(name for name, _ in files))
    said = names if len(names) <= MOST_NAMES else f"{len(files)} files"
    return run.document(found, f"{said} ({' and '.join(named)})")
