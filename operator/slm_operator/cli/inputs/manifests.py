"""Manifests from files: what an API server would refuse is refused with every sentence, before anybody applies it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from slm_core.sharing import asked_mode

from slm_operator.api import names
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.admission.answer import asked
from slm_operator.cli.inputs.files import as_written
from slm_operator.cli.inputs.validation import sentence
from slm_operator.manifests.overlay import refused_for
from slm_operator.visible import visible_in


def deployment(filename: str) -> tuple[dict[str, Any], SLMDeploymentSpec]:
    """The one SLMDeployment of a file: its manifest, and its spec. Raises Refused."""
    found = [raw for raw in as_written(filename) if isinstance(raw, dict) and raw.get("kind") == names.DEPLOYMENT_KIND]
    if len(found) != 1:
        raise Refused(f"{filename}: {len(found)} objects of kind {names.DEPLOYMENT_KIND}: give exactly one")
    (raw,) = found
    if raw.get("apiVersion") != names.API_VERSION:
        raise Refused(f"{filename}: apiVersion: {raw.get('apiVersion')!r}: this command knows {names.API_VERSION}")
    kept = taken(raw, names.DEPLOYMENT_KIND, filename)
    try:
        spec = SLMDeploymentSpec.model_validate(kept["spec"])
    except ValidationError as error:
        raise Refused(f"{filename}: {sentence(error, 'spec')}") from None
    # The API server cannot see into a pod template.
    if wrong := refused_for(spec.pod_template or {}, asked_mode(spec.sharing.mode)):
        raise Refused("\n".join(f"{filename}: {one}" for one in wrong))
    return kept, spec


def taken(manifest: dict[str, Any], kind: str, filename: str) -> dict[str, Any]:
    """The object that an API server would keep of a manifest, visible. Raises Refused with all that it would say."""
    answer = asked(manifest, kind)
    if answer.findings:
        raise Refused("\n".join(f"{filename}: {sentence}" for sentence in answer.sentences()))
    kept: dict[str, Any] = visible_in(answer.kept)
    return kept
