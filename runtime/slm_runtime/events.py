"""What the profiler says while it works: JSON lines for machines, a progress bar for a person.

JSON lines are the only channel from a profile Job to the operator, so this format is kept stable. Each line of standard
output is one object with the key `event`:

    {"event": "phase", "phase": "Starting"|"Finished", "message": str, "gpuSeconds": float}
    {"event": "progress", "point": int, "message": str, "gpuSeconds": float}      `point` counts from 1
    {"event": "point", "point": {...}}              a measured point, as in the document
    {"event": "partial", "document": {...}}         after each point the document so far, incomplete; a later one replaces it
    {"event": "ledger", "ledger": {...}}            memory of the sweep's engine, as in the document
    {"event": "note", "message": str}               something the reader of the result should know
    {"event": "result", "document": {...}}          the whole document; at most one; incomplete ones say so themselves
    {"event": "failed", "class": str, "message": str, "remedy": str, "exitStatus": int}     at most one, the last line

`gpuSeconds` is what the budget counts: the time for which the GPU was held in this session, without the model's download.
A reader ignores keys and events that it does not know, and lines that are not JSON objects. `result` comes before
`failed` when something was measured before it failed.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from slm_core.codec import to_json
from slm_core.failure import EXIT_STATUS, REMEDY, Failure
from slm_core.units import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.measurements import Ledger, MeasurementDocument, Point


class Reporter(Protocol):
    """Receives the progress of a measurement."""

    def phase(self, phase: str, message: str, gpu_seconds: float) -> None:
        """Engines start, or all is done."""

    def progress(self, point: int, message: str, gpu_seconds: float) -> None:
        """The `point`-th point is being measured."""

    def point(self, point: Point) -> None:
        """A point was measured."""

    def partial(self, document: MeasurementDocument) -> None:
        """The document so far, after each point: for who goes on from it, should this session not come to its end."""

    def ledger(self, ledger: Ledger) -> None:
        """The sweep's engine has shown its memory."""

    def note(self, message: str) -> None:
        """Something the reader should know."""

    def result(self, document: MeasurementDocument) -> None:
        """The document."""

    def failed(self, failure: Failure, message: str, remedy: str | None = None) -> None:
        """It failed, or ended early. `remedy`: what to do about just this; None: what the class says."""


class JsonLines:
    """The format above."""

    def __init__(self, out: TextIO, remedies: Mapping[Failure, str]) -> None:
        self._out = out
        self._remedies = remedies

    def phase(self, phase: str, message: str, gpu_seconds: float) -> None:
        """See Reporter."""
        self._write("phase", phase=phase, message=message, gpuSeconds=round(gpu_seconds, 1))

    def progress(self, point: int, message: str, gpu_seconds: float) -> None:
        """See Reporter."""
        self._write("progress", point=point, message=message, gpuSeconds=round(gpu_seconds, 1))

    def point(self, point: Point) -> None:
        """See Reporter."""
        self._write("point", point=to_json(point))

    def partial(self, document: MeasurementDocument) -> None:
        """See Reporter."""
        self._write("partial", document=to_json(document))

    def ledger(self, ledger: Ledger) -> None:
        """See Reporter."""
        self._write("ledger", ledger=to_json(ledger))

    def note(self, message: str) -> None:
        """See Reporter."""
        self._write("note", message=message)

    def result(self, document: MeasurementDocument) -> None:
        """See Reporter."""
        self._write("result", document=to_json(document))

    def failed(self, failure: Failure, message: str, remedy: str | None = None) -> None:
        """See Reporter."""
        self._write(
            "failed",
            **{"class": str(failure)},
            message=message,
            remedy=remedy or self._remedies[failure],
            exitStatus=EXIT_STATUS[failure],
        )

    def _write(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}, separators=(",", ":")) + "\n")
        self._out.flush()


class Terminal:
    """One line that moves, and a line for each point."""

    def __init__(
        self, out: TextIO, expected_points: int, remedies: Mapping[Failure, str], document_to: TextIO | None
    ) -> None:
        self._out = out
        self._remedies = remedies
        self._document_to = document_to
        self._expected = expected_points
        self._measured = 0

    def phase(self, phase: str, message: str, gpu_seconds: float) -> None:
        """See Reporter."""
        self._bar(f"{phase.lower()}: {message}", gpu_seconds)

    def progress(self, point: int, message: str, gpu_seconds: float) -> None:
        """See Reporter."""
        self._measured = point - 1
        self._bar(message, gpu_seconds)

    def point(self, point: Point) -> None:
        """See Reporter."""
        self._measured += 1
        shape = f"B={point.batch_size}" + (f" x {point.replicas} {point.sharing_mode}" if point.replicas > 1 else "")
        marks = f"  [{', '.join(point.marks)}]" if point.marks else ""
        self._line(
            f"{shape:<24} {point.throughput_tokens_per_second:>9.0f} tok/s  ITL {point.itl_ms.mean_ms:>7.2f} ms  "
            f"KV peak {point.kv_peak_fraction:>4.0%}{marks}"
        )

    def partial(self, document: MeasurementDocument) -> None:
        """See Reporter. Nobody at a terminal reads it."""

    def ledger(self, ledger: Ledger) -> None:
        """See Reporter."""
        self._line(
            f"memory: weights {ledger.weights_bytes / GIB:.2f}, activations {ledger.activation_peak_bytes / GIB:.2f}, "
            f"other {(ledger.graphs_bytes + ledger.context_bytes) / GIB:.2f}, KV pool {ledger.kv_pool_bytes / GIB:.2f} GiB"
        )

    def note(self, message: str) -> None:
        """See Reporter."""
        self._line(f"note: {message}")

    def result(self, document: MeasurementDocument) -> None:
        """See Reporter."""
        done = "complete" if document.complete else f"incomplete: {document.incomplete_because}"
        cost = f", {document.cost.gpu_seconds:.0f} s of the device" if document.cost else ""
        self._line(f"{len(document.points)} points, {done}{cost}")
        if self._document_to:
            self._document_to.write(json.dumps(to_json(document), indent=2) + "\n")

    def failed(self, failure: Failure, message: str, remedy: str | None = None) -> None:
        """See Reporter."""
        self._line(f"{failure}: {message}")
        self._line(f"  -> {remedy or self._remedies[failure]}")

    def _bar(self, message: str, gpu_seconds: float) -> None:
        filled = min(20, 20 * self._measured // max(1, self._expected))
        self._out.write(f"\r\x1b[2K[{'#' * filled}{'.' * (20 - filled)}] {gpu_seconds:4.0f} s  {message[:90]}")
        self._out.flush()

    def _line(self, text: str) -> None:
        self._out.write(f"\r\x1b[2K{text}\n")
        self._out.flush()


def reporter(expected_points: int, remedies: Mapping[Failure, str], *, has_output: bool) -> Reporter:
    """The terminal's where there is one, JSON lines otherwise. A terminal gets the document when no file does.

    `remedies`: the engine's own, which go before those of any engine.
    """
    remedies = REMEDY | dict(remedies)
    if sys.stderr.isatty() and sys.stdout.isatty():
        return Terminal(sys.stderr, expected_points, remedies, None if has_output else sys.stdout)
    return JsonLines(sys.stdout, remedies)
