"""What a simulated operator thinks only once: pure functions of it that take most of the time of a run.

What is read from the same text is the same object, by which advice knows it again. Must never stand in for what depends on
time, or on what a process remembers.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from slm_core.measurements import MeasurementDocument
from slm_operator.manifests.defaulted import measured_with
from slm_operator.planning.deployment import advising, evidence, kept
from slm_operator.planning.profile import ended, extension
from slm_operator.reconcile import execute
from slm_operator.watch import custom_resources

from .people import WAYS
from .runtime import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.defaults import Defaults
    from slm_operator.manifests.question import Question

_ANSWERS: dict[tuple[Any, ...], tuple[tuple[object, ...], Any]] = {}


@contextmanager
def thought_once() -> Iterator[None]:
    """Ask for advice, and read a text, once for the same question."""
    prepare(WAYS)
    with (
        patch.object(custom_resources, "_spec", _read_once(custom_resources._spec)),
        patch.object(custom_resources, "_document", _read_once(custom_resources._document)),
        patch.object(kept, "measured_with", _defaulted_once),
        patch.object(advising, "advise_deployment", _asked_once(advising.advise_deployment)),
        patch.object(extension, "lacking", _looked_up_once(extension.lacking)),
        patch.object(evidence, "lacking", _looked_up_once(evidence.lacking)),
        patch.object(execute, "to_json", _written_once(execute.to_json)),
        patch.object(ended, "to_json", _written_once(ended.to_json)),
    ):
        yield


def _defaulted_once(spec: SLMDeploymentSpec, defaults: Defaults) -> SLMDeploymentSpec:
    """NB: the same object each time, for advice is known by the one that it is for."""
    known = (measured_with, id(spec), defaults.engine_image)
    if known not in _ANSWERS:
        _ANSWERS[known] = ((spec,), measured_with(spec, defaults))
    return cast("SLMDeploymentSpec", _ANSWERS[known][1])


_READ: dict[tuple[Any, str], Any] = {}


def _read_once(function: Callable[..., Any]) -> Callable[..., Any]:
    def read(of: object, raw: object) -> Any:
        if raw is None:
            return None, None
        known = (of, json.dumps(raw))
        if known not in _READ:
            _READ[known] = function(of, raw)
        return _READ[known]

    return read


def _looked_up_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """NB: a question is made anew each time, so it is known by its digest."""

    def look_up(question: Question, spec: object, document: object) -> Any:
        known = (function, question.digest, id(spec), id(document))
        if known not in _ANSWERS:
            _ANSWERS[known] = ((spec, document), function(question, spec, document))
        return _ANSWERS[known][1]

    return look_up


def _written_once(function: Callable[..., Any]) -> Callable[..., Any]:
    written = _asked_once(function)

    def write(value: object) -> Any:
        return written(value) if isinstance(value, MeasurementDocument) else function(value)

    return write


def _asked_once(function: Callable[..., Any]) -> Callable[..., Any]:
    def answer(*about: object) -> Any:
        known = (function, *map(id, about))
        if known not in _ANSWERS:  # NB: it holds what it is about, so that ids stay theirs
            _ANSWERS[known] = (about, function(*about))
        return _ANSWERS[known][1]

    return answer
