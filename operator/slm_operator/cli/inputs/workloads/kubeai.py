"""KubeAI's Model: arguments in a list, everything else in the configuration of whoever installed KubeAI.

Source: kubeai-project/kubeai, internal/modelcontroller/engine_vllm.go and model_source.go. The image and the GPU of a resource
profile stand in KubeAI's own ConfigMap, which is not read: what is not in the Model is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.engines.registry import default

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.base import WHOLE, Container, End, EndOf, Origin, Pod, Variable, Word
from slm_operator.cli.inputs.workloads.containers import part, words_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.cli.inputs.workloads.base import Raw, Subject

ARGS = ("spec", "args")


def model(subject: Subject, raw: Raw, _beside: Sequence[Raw]) -> Pod:
    """The pod that KubeAI makes of it: its own command is an older one for the same. Raises Refused for another engine."""
    spec, known = part(raw, "spec"), default()
    engine, url = str(spec.get("engine") or ""), str(spec.get("url") or "")
    if engine.lower() != known.name:
        raise Refused(f"{subject}: spec.engine is {engine or 'not given'}, and there is advice for {known.name} only")
    profile, _, count = str(spec.get("resourceProfile") or "").partition(":")
    args, env = spec.get("args"), part(spec, "env")
    container = Container(
        name="server",
        image=spec.get("image") if isinstance(spec.get("image"), str) else None,
        command=tuple(Word(word, None) for word in known.command),
        args=(Word(_reference(url), None), *words_at(args, ARGS)),
        env={key: Variable(str(value), Origin(("spec", "env", key))) for key, value in env.items()},
        given_env=tuple({"name": key, "value": str(value)} for key, value in sorted(env.items())),
        # KubeAI multiplies what a resource profile says by this number; its profiles of GPUs have the word in their names.
        resources={"limits": {WHOLE: count or "1"}} if "gpu" in profile else {},
        end=End(ARGS, EndOf.LIST if isinstance(args, list) else EndOf.NEW_LIST),
    )
    uri = url.partition("?")[0]
    return Pod(containers=(container,), node_selector={}, model_uri=uri or None)


def _reference(url: str) -> str:
    scheme, _, rest = url.partition("?")[0].partition("://")
    return {"pvc": "/model", "s3": url}.get(scheme, rest)


def catalogue(subject: Subject, args: Sequence[str]) -> Raw:
    """Values of KubeAI's chart `models` (charts/models/templates/models.yaml): a list replaces the catalogue's."""
    return {"catalog": {subject.name: {"args": list(args)}}}
