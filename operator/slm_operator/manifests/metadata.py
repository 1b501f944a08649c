"""Names, labels and owners of what the operator makes.

Labels follow app.kubernetes.io. Label values are at most 63 characters, names of SLMDeployments may be 253: where a
value must be a label, a name that is too long is cut and gets a hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.digest import digest

if TYPE_CHECKING:
    from slm_operator.watch.records import DeploymentRecord, Key, Meta, ProfileRecord

Manifest = dict[str, Any]

_LABEL_LENGTH = 63
_SERVICE_NAME_LENGTH = 63


def label_value(name: str, length: int = _LABEL_LENGTH) -> str:
    """`name` where it fits, else its head and a hash."""
    return name if len(name) <= length else f"{name[: length - 11].rstrip('-.')}-{digest(name)}"


def serves_value(deployment: Key) -> str:
    """Value of the serves label on nodes: which deployment's pods a node's slices are for, the same for ever."""
    return label_value(f"{deployment.namespace}.{deployment.name}")


def is_served_in(serves: str, namespace: str) -> bool:
    """Whether a serves value is of a deployment there. NB: of two namespaces that begin with the same 51 letters or more it cannot say."""
    head = f"{namespace}."
    kept = _LABEL_LENGTH - 11
    return serves.startswith(head if len(head) < kept else head[:kept].rstrip("-."))


def child_name(deployment: Key) -> str:
    """Name of the Deployment, Service and PDB of an SLMDeployment. A Service name is a DNS label."""
    return label_value(deployment.name.replace(".", "-"), _SERVICE_NAME_LENGTH)


def selector_labels(deployment: Key) -> dict[str, str]:
    """Labels that select the replicas of one SLMDeployment and nothing else."""
    return {names.DEPLOYMENT_LABEL: label_value(deployment.name)}


def labels(deployment: Key, component: str) -> dict[str, str]:
    """All labels of an object that belongs to an SLMDeployment."""
    return selector_labels(deployment) | {
        "app.kubernetes.io/name": "slm-engine",
        "app.kubernetes.io/instance": label_value(deployment.name),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "slm-operator",
    }


def owner(kind: str, meta: Meta, *, controller: bool = True) -> dict[str, Any]:
    """An owner reference, so that deleting the owner deletes the object."""
    reference: dict[str, Any] = {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": meta.key.name,
        "uid": meta.uid,
    }
    return reference | ({"controller": True, "blockOwnerDeletion": True} if controller else {})


def of_deployment(api_version: str, kind: str, deployment: DeploymentRecord, component: str) -> Manifest:
    """The head of a namespaced object that an SLMDeployment owns."""
    key = deployment.meta.key
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": child_name(key),
            "namespace": key.namespace,
            "labels": labels(key, component),
            "ownerReferences": [owner(names.DEPLOYMENT_KIND, deployment.meta)],
        },
    }


def job_name(profile: ProfileRecord) -> str:
    """Name of the Job that measures a profile."""
    return label_value(profile.meta.key.name.replace(".", "-"), _SERVICE_NAME_LENGTH)
