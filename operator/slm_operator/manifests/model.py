"""How a model reaches an engine: what to pass as --model, and which volumes and variables that takes.

Downloads are left to the ecosystem's own tools: hf:// to huggingface_hub in the engine, s3:// to its streaming loader,
oci:// to the kubelet's image volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slm_operator.api.parts import MeasuredModel

MODELS = "/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """The model's arguments for an engine, and volumes, mounts and variables that bring a model into an engine's container."""

    path: str
    """What --model says, and where config.json is when it is a folder."""
    revision: str | None = None
    """What the engine itself has to resolve."""
    streamed: bool = False
    """The engine itself reads the bucket that `path` names."""
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    env: tuple[dict[str, Any], ...] = ()


def model_source(model: MeasuredModel) -> ModelSource:
    """The source of a model by the scheme of its URI. The API admits no other scheme."""
    scheme, separator, rest = model.uri.partition("://")
    if not separator:
        return ModelSource(path=model.uri, env=_OFFLINE)
    return {"hf": _from_hub, "pvc": _from_claim, "s3": _from_bucket, "oci": _from_image}[scheme](rest, model)


_OFFLINE = ({"name": "HF_HUB_OFFLINE", "value": "1"},)


def claim_volume(name: str, claim: str, folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Volume and mount of a claim, read-only: many replicas share it."""
    return (
        {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
        {"name": name, "mountPath": folder, "readOnly": True},
    )


def _from_claim(rest: str, _model: MeasuredModel) -> ModelSource:
    claim, _, path = rest.partition("/")
    folder = f"{MODELS}/{claim}"
    volume, mount = claim_volume("model", claim, folder)
    return ModelSource(path=f"{folder}/{path}".rstrip("/"), volumes=(volume,), mounts=(mount,), env=_OFFLINE)


def _from_image(rest: str, model: MeasuredModel) -> ModelSource:
    reference, _, path = rest.partition("#")
    if model.revision is not None:
        reference += f"@{model.revision}" if ":" in model.revision else f":{model.revision}"
    volume = {"name": "model", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}
    mount = {"name": "model", "mountPath": f"{MODELS}/image", "readOnly": True}
    return ModelSource(path=f"{MODELS}/image/{path}".rstrip("/"), volumes=(volume,), mounts=(mount,), env=_OFFLINE)


def _from_hub(rest: str, model: MeasuredModel) -> ModelSource:
    return ModelSource(path=rest, revision=model.revision, env=_secret(model, "HF_TOKEN"))


def _from_bucket(_rest: str, model: MeasuredModel) -> ModelSource:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
    return ModelSource(path=model.uri, streamed=True, env=_secret(model, *keys))


def _secret(model: MeasuredModel, *keys: str) -> tuple[dict[str, Any], ...]:
    """Variables by reference: the kubelet resolves them, the operator never reads the Secret."""
    if model.credentials_secret_ref is None:
        return ()
    optional = len(keys) > 1  # S3 endpoints differ in what they need; a hub token is one key and must be there
    return tuple(
        {
            "name": key,
            "valueFrom": {
                "secretKeyRef": {"name": model.credentials_secret_ref.name, "key": key, "optional": optional}
            },
        }
        for key in keys
    )
