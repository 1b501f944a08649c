"""A profile's Job that goes on from what was measured before: its pod finds the document as a file.

The document is an annotation of the pod, projected into a volume: a ConfigMap would need a right that the operator does not
have, and an argument may not be as long. Must never be given more than an annotation holds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slm_core.codec import to_json

from slm_operator.api import names
from slm_operator.manifests.engine import CONTAINER

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

    from slm_operator.manifests.metadata import Manifest

FOLDER, FILE = "/slm-former", "document.json"
VOLUME = "slm-former"
"""NB: it comes after a podTemplate, which may have volumes of any name."""
MOST_BYTES = 192 << 10
"""Longest text of a document that is handed over: Kubernetes takes 256 KiB of all annotations. About 150 points."""


def written(document: MeasurementDocument) -> str:
    """The document as one line."""
    return json.dumps(to_json(document), separators=(",", ":"))


def going_on(job: Manifest, former: MeasurementDocument | None) -> Manifest:
    """The Job with a document to go on from; as it is without one."""
    if former is None:
        return job
    template = job["spec"]["template"]
    metadata, pod = template["metadata"], template["spec"]
    source = {"fieldRef": {"fieldPath": f"metadata.annotations['{names.FORMER_ANNOTATION}']"}}
    volume = {"name": VOLUME, "downwardAPI": {"items": [{"path": FILE} | source]}}
    mount = {"name": VOLUME, "mountPath": FOLDER, "readOnly": True}
    containers = [
        one
        if one["name"] != CONTAINER
        else one | {"args": _with_former(one["args"]), "volumeMounts": [*one["volumeMounts"], mount]}
        for one in pod["containers"]
    ]
    annotations = (metadata.get("annotations") or {}) | {names.FORMER_ANNOTATION: written(former)}
    template = template | {
        "metadata": metadata | {"annotations": annotations},
        "spec": pod | {"containers": containers, "volumes": [*pod["volumes"], volume]},
    }
    return job | {"spec": job["spec"] | {"template": template}}


def _with_former(args: list[str]) -> list[str]:
    """NB: behind the first `--` are the engine's words."""
    at = args.index("--")
    return [*args[:at], "--continue-from", f"{FOLDER}/{FILE}", *args[at:]]
