"""Whether measurements speak of the engine that somebody asks about.

What surely differs is refused: figures of another model, or of another GPU, are no figures. What may differ is said, a
sentence each. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.latency_model import sweep_of
from slm_core.measurements import CPU

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import UNKNOWN
from slm_operator.cli.inputs.workloads.base import WHOLE
from slm_operator.cli.inputs.workloads.to_measure import model_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import MeasurementDocument

    from slm_operator.cli.inputs.workloads.base import RunningEngine


def cautions(running: RunningEngine, document: MeasurementDocument, step_tokens: int | None) -> tuple[str, ...]:
    """What must be true for the figures to hold. Raises Refused where it is not. `step_tokens`: that it is given, if any."""
    return tuple(_cautions(running, document, step_tokens))


def _cautions(running: RunningEngine, document: MeasurementDocument, step_tokens: int | None) -> Iterator[str]:
    yield from _model(running, document)
    yield from _gpu(running, document)
    yield from _version(running, document)
    yield from _steps(document, step_tokens)
    yield from _arguments(running, document)


def _model(running: RunningEngine, document: MeasurementDocument) -> Iterator[str]:
    measured = document.model.uri
    try:
        served = model_uri(running)
    except Refused:
        served = running.line.model or "a model that its arguments do not name"
    if measured in (served, running.line.model):
        return
    if served.startswith("hf://") and measured.startswith("hf://"):
        raise Refused(
            f"{running.subject}: it serves {served}, and what was measured is {measured}: give measurements of its model"
        )
    yield f"Measured was {measured}, and it serves {served}: the figures hold if these are one model."


def _gpu(running: RunningEngine, document: MeasurementDocument) -> Iterator[str]:
    for name, count in running.gpus.items():
        if count > 1:
            raise Refused(
                f"{running.subject}: it asks for {count} {name}, and there is advice for engines with one GPU or a part of it"
            )
        if name != WHOLE:
            yield f"It asks for {name}, a part of a GPU: say with --engines-per-gpu how many share it, or the figures are those of a whole one."
    wanted, measured = running.gpu_product, document.gpu.product
    if measured == UNKNOWN:
        yield "On which GPU was measured is not known: the figures hold on that one."
    elif wanted is None and measured != CPU:
        yield f"Measured was on {measured}, and its pods may run on any: select nodes by the label nvidia.com/gpu.product."
    elif wanted is not None and wanted != measured:
        raise Refused(f"{running.subject}: its nodes have {wanted}, and measured was on {measured}: measure on its GPU")


def _version(running: RunningEngine, document: MeasurementDocument) -> Iterator[str]:
    image, measured = running.container.image, document.engine
    if image is not None and image == measured.image:
        return
    version = running.version
    if UNKNOWN in (version, measured.version):
        what = measured.version if version == UNKNOWN else version
        yield f"Whether it is the engine that was measured is not known ({what} is one of the two versions)."
    elif version != measured.version:
        yield f"Measured was {measured.name} {measured.version}, and it runs {version}: another version may be faster or slower."


def _steps(document: MeasurementDocument, step_tokens: int | None) -> Iterator[str]:
    measured = next((point.max_num_batched_tokens for point in sweep_of(document.points)), None)
    if measured and step_tokens and measured != step_tokens:
        yield f"Measured was with steps of up to {measured} tokens, and it takes up to {step_tokens}: its figures of now may differ."


def _arguments(running: RunningEngine, document: MeasurementDocument) -> Iterator[str]:
    """Of a document by the operator's own program, which has all its arguments."""
    if document.cost is None:
        return
    engine = running.engine
    words = list(document.engine.args)
    words = words[engine.arguments_at(words) or 0 :]
    measured = set(engine.measured_arguments(engine.read_command_line(words, [""] * len(words)).own))
    served = set(engine.measured_arguments(running.line.own))
    if more := sorted(served - measured):
        yield f"It runs with {' '.join(more)}, which was not measured."
    if less := sorted(measured - served):
        yield f"Measured was with {' '.join(less)}, which it does not have."
    longest = engine.read_arguments([word.text for word in running.arguments]).max_model_len
    if longest and document.model.max_model_len and longest != document.model.max_model_len:
        yield f"Measured was with sequences of up to {document.model.max_model_len} tokens, and it takes up to {longest}."
