"""`kubectl slm profile export|import`: measurements into git and into another cluster, without measuring again.

The other actions are beside it, a module each, and imported only when they run.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from slm_core.codec import shown, to_json
from slm_core.measurements import Gpu, Model

from slm_operator.api import names
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.cli.cluster import PROFILE, Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import document_in, from_results, held, read_all
from slm_operator.cli.inputs.kubectl_yaml import Dumper
from slm_operator.cli.inputs.manifests import taken
from slm_operator.cli.inputs.validation import sentence
from slm_operator.cli.support import private_file
from slm_operator.defaults import Defaults

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.measurements import MeasurementDocument


def run(arguments: Namespace) -> int:
    """Dispatch to the action."""
    match arguments.action:
        case "export":
            return _export(arguments)
        case "import":
            return _import(arguments)
        case other:
            code: int = import_module(f"slm_operator.cli.commands.profile_{other}").run(arguments)
            return code


def _export(arguments: Namespace) -> int:
    manifest = exported(ask(arguments, lambda cluster: cluster.profile(arguments.name)))
    text = yaml.dump(manifest, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    if arguments.output == "-":
        sys.stdout.write(text)
        return 0
    private_file.write(Path(arguments.output), text.encode(), force=arguments.force)
    return 0


def _import(arguments: Namespace) -> int:
    manifest = imported(arguments)

    async def create(cluster: Cluster) -> str:
        namespace = manifest["metadata"].setdefault("namespace", cluster.namespace)
        await cluster.client.create(PROFILE, namespace, manifest)
        return f"SLMProfile {namespace}/{manifest['metadata']['name']} imported"

    print(ask(arguments, create))  # noqa: T201
    return 0


def exported(raw: dict[str, Any]) -> dict[str, Any]:
    """The profile as a manifest that another cluster takes: measurements in spec, nothing of this cluster left.

    Raises Refused while there is nothing measured.
    """
    name = raw["metadata"]["name"]
    labels = _object(name, "metadata.labels", raw["metadata"].get("labels") or {})
    spec, status = _object(name, "spec", raw.get("spec")), _object(name, "status", raw.get("status") or {})
    measured = status.get("measurements") or spec.get("measurements")
    if measured is None:
        phase = status.get("phase") or "Pending"
        raise Refused(f"SLMProfile {name} is {phase} and holds no measurements yet: `kubectl slm watch` shows progress")
    # NB: not the label by which an operator knows what it made: there it is not its own to delete.
    kept = {key: text for key, text in labels.items() if key != names.MANAGED_BY_LABEL}
    metadata = {"name": name} | ({"labels": kept} if kept else {})
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.PROFILE_KIND,
        "metadata": metadata,
        "spec": spec | {"measurements": measured},
    }


def _object(profile: str, path: str, part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise Refused(f"SLMProfile {profile}: {path}: expected an object, found {shown(part)}: export the profile anew")
    return part


def imported(arguments: Namespace) -> dict[str, Any]:
    """The SLMProfile of the files: a manifest as exported, or what else holds measurements, which needs a name. Raises Refused."""
    files, name = read_all(arguments.filename), arguments.name
    filename = ", ".join(arguments.filename)
    results = from_results(files)
    if results is None and (arguments.model or arguments.gpu):
        raise Refused(f"{filename} names its own model and GPU: leave --model and --gpu out")
    document = document_in(files) if results is None else _of_client(results, arguments, filename)
    found = next((raw for _, raws in files for raw in raws if _is_profile(raw) and held(raw) is not None), None)
    if found is None and name is None:
        raise Refused(f"{filename} is a bare document: give the profile a name with --name")
    manifest = _of_document(document) if found is None else exported(_named(found, filename))
    if name is not None:
        manifest["metadata"]["name"] = name
    kept = taken(manifest, names.PROFILE_KIND, filename)
    try:
        SLMProfileSpec.model_validate(kept["spec"])
    except ValidationError as error:
        raise Refused(f"{filename}: {sentence(error, 'spec')}") from None
    return manifest


def _is_profile(raw: Any) -> bool:
    return isinstance(raw, dict) and raw.get("kind") == names.PROFILE_KIND


def _of_client(document: MeasurementDocument, arguments: Namespace, filename: str) -> MeasurementDocument:
    """The document with what no client sees: which model an engine serves under its name, and on which GPU."""
    asked = (("--name", arguments.name), ("--model", arguments.model), ("--gpu", arguments.gpu))
    if missing := [flag for flag, given in asked if given is None]:
        raise Refused(
            f"{filename} holds what a client saw, which is neither model nor GPU: give {' and '.join(missing)}"
        )
    return replace(document, model=Model(uri=arguments.model), gpu=Gpu(product=arguments.gpu, memory_bytes=0))


def _named(raw: dict[str, Any], filename: str) -> dict[str, Any]:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise Refused(f"{filename}: metadata.name is missing: give the profile a name")
    return raw


def _of_document(document: MeasurementDocument) -> dict[str, Any]:
    model, engine, workload = document.model, document.engine, document.workload
    spec: dict[str, Any] = {
        "model": {"uri": model.uri} | ({"revision": model.revision} if model.revision else {}),
        # NB: of results that name none the image is taken for the one that engines have where nobody says.
        "engine": {"image": engine.image or Defaults().engine_image},
        "gpu": {"product": document.gpu.product},
        "workload": {
            "inputTokens": max(1, round(workload.input_tokens_mean)),
            "outputTokens": max(2, round(workload.output_tokens_mean)),
        },
        "measurements": to_json(document),
    }
    return {"apiVersion": names.API_VERSION, "kind": names.PROFILE_KIND, "metadata": {}, "spec": spec}
