"""KServe's InferenceService with its ServingRuntime, and LLMInferenceService.

Sources: kserve/kserve, pkg/controller/v1beta1/inferenceservice/utils (`MergeRuntimeContainers`: a runtime's arguments come first,
variables are merged by name, everything else of the service wins) and config/llmisvcconfig (`main`, /mnt/models,
VLLM_ADDITIONAL_ARGS). A runtime serves many services, so that nothing is ever changed in one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.engines.registry import default

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.base import Container, End, EndOf, Origin, Pod, Word
from slm_operator.cli.inputs.workloads.containers import (
    container_at,
    containers_at,
    objects,
    part,
    variables_at,
    words_at,
)
from slm_operator.cli.inputs.workloads.shell import commands_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.cli.inputs.workloads.base import Path, Raw, Subject

PREDICTOR: Path = ("spec", "predictor")
TEMPLATE: Path = ("spec", "template")
RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")
SERVER, MAIN = "kserve-container", "main"
MODEL_FOLDER = "/mnt/models"
_SEVERAL = "it is one engine over several GPUs, for which there is no advice"
_APART = {"prefill": "prefill and decode run in engines of their own, for which there is no advice", "worker": _SEVERAL}
ADDITIONAL = "VLLM_ADDITIONAL_ARGS"


def runtime_of(raw: Raw) -> str | None:
    """The name of the runtime that a service names. None: it names none."""
    name = part(raw, *map(str, PREDICTOR), "model").get("runtime")
    return name if isinstance(name, str) else None


def needs_runtime(raw: Raw) -> bool:
    """Whether a service brings no container of its own."""
    return bool(part(raw, *map(str, PREDICTOR), "model"))


def inference_service(subject: Subject, raw: Raw, beside: Sequence[Raw]) -> Pod:
    """The predictor's pod. Raises Refused without its runtime."""
    predictor = part(raw, *map(str, PREDICTOR))
    model = part(predictor, "model")
    if "workerSpec" in predictor:
        raise Refused(f"{subject}: spec.predictor.workerSpec: {_SEVERAL}")
    if not model:
        return _pod(predictor, tuple(containers_at(predictor, PREDICTOR)))
    runtime = _runtime(subject, raw, beside)
    whose = f"{runtime['kind']} {part(runtime, 'metadata').get('name')}"
    listed = part(runtime, "spec").get("containers")
    served = next((one for one in objects(listed) if one.get("name") == SERVER), None)
    if served is None:
        raise Refused(f"{subject}: {whose} has no container {SERVER}: name the runtime that starts the engine")
    at = listed.index(served) if isinstance(listed, list) else 0
    merged = _merged(model, served, ("spec", "containers", at), whose)
    pod = _pod(predictor, (merged,), above=part(runtime, "spec"))
    uri = model.get("storageUri")
    return replace(pod, model_uri=uri if isinstance(uri, str) else None, fetched_to=MODEL_FOLDER)


def _runtime(subject: Subject, raw: Raw, beside: Sequence[Raw]) -> Raw:
    named, runtimes = runtime_of(raw), [one for one in beside if one.get("kind") in RUNTIMES]
    found = [one for one in runtimes if named in (None, part(one, "metadata").get("name"))]
    if len(found) == 1:
        return found[0]
    if named is None:
        raise Refused(
            f"{subject}: spec.predictor.model names no runtime, and {len(found)} are beside it: give the one that serves it"
        )
    raise Refused(
        f"{subject}: its runtime {named} is not beside it: put it into the file, or ask the cluster with --for InferenceService/{subject.name}"
    )


def _merged(model: Raw, runtime: Raw, path: Path, whose: str) -> Container:
    own = container_at(model, (*PREDICTOR, "model"))
    variables = variables_at(runtime.get("env"), (*path, "env"), whose) | dict(own.env)
    given = {str(one.get("name")): one for one in (*objects(runtime.get("env")), *own.given_env)}
    image = own.image or (runtime.get("image") if isinstance(runtime.get("image"), str) else None)
    resources = {kind: part(runtime, "resources", kind) | part(own.resources, kind) for kind in ("requests", "limits")}
    args = model.get("args")
    return replace(
        own,
        name=SERVER,
        image=image,
        command=own.command or words_at(runtime.get("command"), (*path, "command"), whose),
        args=(*words_at(runtime.get("args"), (*path, "args"), whose), *own.args),
        env=variables,
        given_env=tuple(given.values()),
        resources=resources,
        mounts=(*objects(runtime.get("volumeMounts")), *own.mounts),
        end=End((*PREDICTOR, "model", "args"), EndOf.LIST if isinstance(args, list) else EndOf.NEW_LIST),
    )


def _pod(spec: Raw, containers: tuple[Container, ...], above: Raw | None = None) -> Pod:
    """`above`: what holds where the service says nothing."""
    selector = part(above, "nodeSelector") | part(spec, "nodeSelector")
    return Pod(
        containers=containers,
        node_selector={str(key): str(value) for key, value in selector.items()},
        tolerations=(*objects((above or {}).get("tolerations")), *objects(spec.get("tolerations"))),
        volumes=(*objects((above or {}).get("volumes")), *objects(spec.get("volumes"))),
    )


def llm_inference_service(subject: Subject, raw: Raw, _beside: Sequence[Raw]) -> Pod:
    """The pod of its template; what KServe's own configuration brings is the command and the model's folder."""
    template = part(raw, *map(str, TEMPLATE))
    if apart := next((name for name in _APART if part(raw, "spec").get(name) is not None), None):
        raise Refused(f"{subject}: spec.{apart}: {_APART[apart]}")
    for name, count in part(raw, "spec", "parallelism").items():
        if isinstance(count, int) and count > 1:
            raise Refused(f"{subject}: spec.parallelism.{name} {count}: {_SEVERAL}")
    containers = tuple(_served(one) for one in containers_at(template, TEMPLATE))
    if not containers:
        raise Refused(
            f"{subject}: spec.template has no container: add one with name {MAIN}, into which its arguments can go"
        )
    uri = part(raw, "spec", "model").get("uri")
    return replace(_pod(template, containers), model_uri=uri if isinstance(uri, str) else None, fetched_to=MODEL_FOLDER)


def _served(one: Container) -> Container:
    if one.name != MAIN or one.command:
        return one
    own = one.env.get(ADDITIONAL)
    base = tuple(Word(word, None) for word in (*default().command, MODEL_FOLDER))
    if own is None:
        path = one.end.path[:-1]
        end = one.end if one.args else End(path, EndOf.NEW_VARIABLE, variable=ADDITIONAL)
        return replace(one, command=base, end=end)
    further = _words(own.value or "", own.origin)
    if not own.as_written:
        unplaced = (replace(word, origin=None) for word in further)
        return replace(one, command=base, args=(*one.args, *unplaced))
    return replace(
        one,
        command=base,
        args=(*one.args, *further),
        end=End(own.origin.path, EndOf.TEXT, len((own.value or "").rstrip())),
    )


def _words(text: str, place: Origin) -> list[Word]:
    """The words of a variable that a shell splits."""
    return [word for line in commands_in(Word(text, place), {}, ()) for word in line.words]
