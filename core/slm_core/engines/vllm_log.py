"""vLLM's log: where memory went, and why it failed. Its lines of 0.26 and newer.

Assumes that the engine's own words (the tail of its log) name the root cause. Must never present a guess as a reading:
what nobody says is None.
"""

from __future__ import annotations

import re

from slm_core.engines.base import StartLog
from slm_core.failure import Failure
from slm_core.units import GIB

_MEMORY = {
    "weights": r"Model loading took ([\d.]+) GiB",
    "consumed": r"Actual usage is ([\d.]+) GiB for consumed memory",
    "activation_peak": r"([\d.]+) GiB for peak activation",
    "graphs": r"([\d.]+) GiB for CUDAGraph memory|Graph capturing finished in .* took ([\d.]+) GiB",
    "free_at_start": r"Free memory on device \(([\d.]+)/",
    "total": r"Free memory on device \([\d.]+/([\d.]+) GiB\)",
    "kv_pool": r"Available KV cache memory: ([\d.]+) GiB",
    "checkpoint": r"Checkpoint size: ([\d.]+) GiB",
}


def read_memory_lines(text: str) -> StartLog:
    """Find the memory lines in a log."""
    found = {}
    for name, pattern in _MEMORY.items():
        groups = next((g for g in re.findall(pattern, text)), None)
        value = next((g for g in groups if g), None) if isinstance(groups, tuple) else groups
        found[name] = None if value is None else round(float(value) * GIB)
    return StartLog(**found)


_SIGNS: tuple[tuple[Failure, str], ...] = (
    (Failure.MEMORY, r"larger than the available KV cache|No available memory for the cache|OutOfMemoryError"),
    (Failure.MEMORY, r"out of memory|is less than desired GPU memory|is less than requested memory for kv"),
    (Failure.PORT, r"[Aa]ddress already in use"),
    (Failure.DISK, r"No space left on device"),
    (Failure.COMMAND, r"No module named|can't open file|command not found"),
    (Failure.ARGUMENTS, r"unrecognized arguments|error: argument|invalid choice|greater than the derived max_model_len"),
    (Failure.ARGUMENTS, r"[Uu]nknown dtype|dtype .*not supported|is not supported for dtype|not support dtype"),
    (Failure.MODEL, r"Can't load the configuration|Invalid repository ID|does not appear to have a file named"),
    (Failure.MODEL, r"[Ss]afetensor|while deserializing header|not a valid JSON|Cannot find any model weights"),
    (Failure.MODEL, r"couldn't connect to|Repository Not Found|LocalEntryNotFound|Can't load tokenizer|Unrecognized model"),
    (Failure.MODEL, r"Unterminated string|Expecting (?:value|property|',')|Extra data: line"),
    (Failure.MODEL, r"JSONDecodeError|Model architectures .* are not supported|KeyError: 'architectures'"),
    (Failure.ARGUMENTS, r"^Value error, "),
)  # fmt: skip
_ERROR_LINE = re.compile(r"\b\w*(?:Error|Exception)\b.*:|error: |^Value error, ")
_HEARSAY = re.compile(r"Engine core initialization failed|EngineDeadError|See root cause")
_NOT_ERRORS = re.compile(r"^(?:\([^)]*\) )?(?:DEBUG|INFO|WARNING)\b")
"""Log lines below ERROR: some speak of errors that have not happened."""
_PREFIX = re.compile(r"^(?:\([^)]*\) )?(?:(?:INFO|ERROR|WARNING)\s+)?(?:[\d-]+ [\d:]+ )?(?:\[[^\]]*\] )?")


def explain(log_tail: str) -> tuple[Failure | None, str]:
    """The class of failure that an engine's last lines show, if they show one, and the line that shows it."""
    said = log_tail.splitlines()
    grave = [_PREFIX.sub("", line).strip() for line in said if not _NOT_ERRORS.search(line)]
    suspects = [line for line in grave if _ERROR_LINE.search(line) and not _HEARSAY.search(line)]
    for line in reversed(suspects):
        for failure, sign in _SIGNS:
            if re.search(sign, line):
                return failure, _short(line)
    lines = [_PREFIX.sub("", line).strip() for line in said]
    last = suspects[-1] if suspects else next((line for line in reversed(lines) if line), "it printed nothing")
    return None, _short(last)


def _short(line: str) -> str:
    return line if len(line) <= 300 else f"{line[:297]}..."
