"""Measurements from files: a document, an SLMProfile manifest, results of other benchmarks, or CSV files of runs.

Exists so that every command reads every form, and refuses it with the same sentence. Assumes files that fit in memory.
Must never import what only a cluster needs: `advise` starts cold in a fraction of a second.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.codec import DocumentError, parse, parse_document
from slm_core.measurements import Engine, Gpu, Ledger, MeasurementDocument

from slm_operator.cli.errors import Refused
from slm_operator.visible import visible, visible_in

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

UNKNOWN = "unknown"
MOST_BYTES = 64 << 20
MOST_VALUES = 1_000_000


def measurements(arguments: Namespace) -> MeasurementDocument:
    """The document that the command was given. Raises Refused and DocumentError."""
    if arguments.from_csv is not None:
        return from_csv(arguments.from_csv, arguments.packs_csv, arguments.model, arguments.ledger)
    for flag in ("packs_csv", "model", "ledger"):
        if getattr(arguments, flag) is not None:
            raise Refused(
                f"--{flag.replace('_', '-')} belongs to --from-csv: a document names its own model and memory"
            )
    files = read_all(arguments.filename)
    return from_results(files) or document_in(files)


Files = list[tuple[str, list[Any]]]
"""Names of files, each with the values in it."""


def read_all(filenames: Sequence[str]) -> Files:
    """Each file, read once: stdin has no second time."""
    return [(filename, load(filename)) for filename in filenames]


def from_results(files: Files) -> MeasurementDocument | None:
    """The runs in result files of other benchmarks, what of them was left out is said; None when no file is one."""
    from slm_core.results import registry  # noqa: PLC0415 - a document needs no reader of other files

    each = [(name, one) for name, raws in files for raw in raws for one in (raw if isinstance(raw, list) else [raw])]
    results = [(name, raw) for name, raw in each if registry.tool_of(raw) is not None]
    if not results:
        return None
    if len(results) < len(each):
        other = next(name for name, raw in each if registry.tool_of(raw) is None)
        tools = ", ".join(tool.NAME for tool in registry.TOOLS)
        raise Refused(f"{other}: no result file of {tools}, as others here are: give it alone")
    document, left_out = registry.from_results(results)
    for one in left_out:
        print(visible(f"{one.at}: left out: {one.because}"), file=sys.stderr)  # noqa: T201
    return document


def from_manifest(filename: str) -> MeasurementDocument:
    """A bare document, or the measurements of an SLMProfile. Of several YAML documents, the one that has any."""
    return document_in(read_all([filename]))


def document_in(files: Files) -> MeasurementDocument:
    """The one document, or measured SLMProfile, in files. Raises Refused."""
    filename = ", ".join(name for name, _ in files)
    documents = [found for _, raws in files for raw in raws if (found := held(raw)) is not None]
    if not documents:
        from slm_core.results.registry import TOOLS  # noqa: PLC0415 - a document needs no reader of other files

        raise Refused(
            f"{filename}: no measurements in it: give the output of `slm_runtime profile` or of "
            "`kubectl slm profile export`, an SLMProfile with spec.measurements or status.measurements, or result files of "
            f"{', '.join(tool.NAME for tool in TOOLS)}"
        )
    if len(documents) > 1:
        raise Refused(f"{filename}: measurements of {len(documents)} profiles: give one of them")
    return _parsed(documents[0], filename)


def measured(manifest: dict[str, Any], name: str) -> MeasurementDocument | None:
    """The measurements of an SLMProfile, None while it has none. Raises Refused."""
    found = held(manifest)
    return None if found is None else _parsed(found, name)


def held(raw: object) -> object:
    """What is to be read as a document: a bare one, or that of an SLMProfile; None where there is none."""
    if not isinstance(raw, dict):
        return None
    if "kind" not in raw:
        return raw
    for part in ("status", "spec"):
        inside = raw.get(part)
        if isinstance(inside, dict) and inside.get("measurements") is not None:
            return inside["measurements"]
    return None


def from_csv(sweep: str, packs: str | None, model: str | None, ledger: str | None) -> MeasurementDocument:
    """The rows of one model, in one or two CSV files."""
    from slm_core import convert  # noqa: PLC0415 - a document needs no CSV reader

    text = _rows(sweep)
    if model is None:
        models = convert.models_in(text, source=sweep)
        if len(models) != 1:
            raise Refused(f"{sweep}: rows of {len(models)} models ({', '.join(models)}): name one with --model")
        model = models[0]
    memory = _ledger(ledger) if ledger else None
    on = convert.MeasuredOn(
        engine=Engine(version=UNKNOWN),
        gpu=Gpu(product=UNKNOWN, memory_bytes=memory.device_bytes if memory else 0),
        ledger=memory,
    )
    document = convert.from_csv(text, model=model, on=on, source=sweep)
    if packs is None:
        return document
    further = convert.from_csv(_rows(packs), model=model, on=on, source=packs)
    return replace(document, points=document.points + further.points, provenance=f"{sweep}, {packs}")


def _rows(filename: str) -> str:
    return visible(read(filename).replace("\r\n", "\n"))


def load(filename: str) -> list[Any]:
    """The values of a JSON or YAML file, visible."""
    return [visible_in(raw) for raw in as_written(filename)]


def as_written(filename: str) -> list[Any]:
    """The values of a JSON or YAML file. JSON is tried first: it needs no import that takes time."""
    text = read(filename)
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as error:
        if lines := _json_lines(text):
            return lines
        if filename.endswith(".json"):
            raise Refused(f"{filename}: not JSON: {error}") from None
    import yaml  # noqa: PLC0415 - 50 ms that JSON does not cost

    from slm_operator.cli.inputs.kubectl_yaml import Loader  # noqa: PLC0415 - the same

    try:
        found = [raw for raw in yaml.load_all(text, Loader) if raw is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused(f"{filename}: neither JSON nor YAML, correct it: {' '.join(str(error).split())}") from None
    if _is_endless(found):
        raise Refused(f"{filename}: its aliases unfold to more than {MOST_VALUES:,} values: write them out")
    return found


def _json_lines(text: str) -> list[Any]:
    """The objects of a file with one a line, as `vllm bench serve --append-result` writes it; none when it is not that."""
    try:
        found = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return []
    return found if all(isinstance(one, dict) for one in found) else []


def _is_endless(raw: object) -> bool:
    """Whether YAML's aliases make more values of a file than it can mean, or a loop."""
    waiting, seen = [raw], 0
    while waiting and seen <= MOST_VALUES:
        value = waiting.pop()
        seen += 1
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return seen > MOST_VALUES


def read(filename: str) -> str:
    """The text of a file, or of stdin for `-`."""
    try:
        raw = sys.stdin.buffer.read(MOST_BYTES + 1) if filename == "-" else _read_file(Path(filename))
    except OSError as error:
        raise Refused(f"{filename}: {error.strerror or error}: give a file that can be read") from None
    if len(raw) > MOST_BYTES:
        raise Refused(f"{filename}: larger than {MOST_BYTES >> 20} MiB: that is not a file of measurements")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{filename}: not text in UTF-8: save it so, or give another file") from None


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _parsed(raw: object, name: str) -> MeasurementDocument:
    try:
        return parse_document(raw)
    except DocumentError as error:
        raise Refused(f"{name}: {error}") from None


def _ledger(filename: str) -> Ledger:
    raw = load(filename)
    try:
        return parse(Ledger, raw[0] if raw else None, "ledger")
    except DocumentError as error:
        raise Refused(f"{filename}: {error}") from None
