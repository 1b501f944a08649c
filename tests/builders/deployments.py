"""SLMDeployments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.defaults import NOTHING
from slm_operator.manifests.defaulted import measured_with
from slm_operator.watch import custom_resources

from tests.builders.metadata import Raw, manifest, raw_meta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.watch.records import DeploymentRecord

MODEL = {"uri": "pvc://models/opt"}


def raw_deployment(
    name: str = "chat",
    spec: Mapping[str, Any] | None = None,
    namespace: str = "team",
    *,
    status: Raw | None = None,
    **head: Any,
) -> Raw:
    """An SLMDeployment of some model, unless spec names one. `head` adds to its metadata."""
    stored = {"metadata": raw_meta(name, namespace, **head), "status": status or {}}
    return manifest(names.DEPLOYMENT_KIND, name, {"model": MODEL} | dict(spec or {})) | stored


def deployment_spec(spec: Mapping[str, Any] | None = None) -> SLMDeploymentSpec:
    """Spec alone, as planning has it: of some model unless it names one, with an engine of some image."""
    return measured_with(SLMDeploymentSpec.model_validate({"model": MODEL} | dict(spec or {})), NOTHING)


def spec_of(record: DeploymentRecord) -> SLMDeploymentSpec:
    """Of a deployment that can be read."""
    assert record.spec is not None, record.broken
    return record.spec


def deployment(
    name: str = "chat", spec: Mapping[str, Any] | None = None, namespace: str = "team", **changed: Any
) -> DeploymentRecord:
    """Its record, with the fields that a case is about. A spec that cannot be read is the case's mistake.

    Its engine has an image, as planning finds it, and it keeps no default: a case that is about those resolves them.
    """
    record = custom_resources.deployment(raw_deployment(name, spec, namespace))
    assert record.broken is None, record.broken
    assert record.spec is not None
    return replace(record, **{"spec": measured_with(record.spec, NOTHING)} | changed)
