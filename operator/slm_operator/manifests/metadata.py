"""Names, labels and owners of what the operator makes.

Labels follow app.kubernetes.io. Names of SLMDeployments and SLMProfiles may have 253 characters and dots in them; the value
of a label and the name of a Service may not. A name that has to change for that gets a hash of the whole, so that no two
ever become one: otherwise a-b and a.b would be one Service.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.digest import digest

if TYPE_CHECKING:
    from slm_operator.watch.records import DeploymentRecord, Key, Meta, ProfileRecord

Manifest = dict[str, Any]

LONGEST = 63
"""Longest value of a label, and longest name of a Service, in characters."""
_HASH_LENGTH = 12
_HASHED = re.compile(r"-x[0-9a-f]{10}$")
"""How a name that was changed ends. NB: one that ends so by itself is changed too, or it could be another's."""


def label_value(name: str) -> str:
    """`name` where it can be the value of a label, else its head and a hash."""
    return _apart(name, name)


def dns_label(name: str) -> str:
    """`name` where it is a DNS label, else what of it can be in one, and a hash."""
    return _apart(name, name.replace(".", "-"))


def _apart(name: str, readable: str) -> str:
    if readable == name and len(name) <= LONGEST and _HASHED.search(name) is None:
        return name
    return f"{_head(readable)}-x{digest(name)}"


def _head(name: str) -> str:
    return name[: LONGEST - _HASH_LENGTH].rstrip("-.")


def serves_value(deployment: Key) -> str:
    """Value of the serves label on nodes: which deployment's pods a node's slices are for, the same for ever."""
    return label_value(f"{deployment.namespace}.{deployment.name}")


def is_served_in(serves: str, namespace: str) -> bool:
    """Whether a serves value is of a deployment there. NB: of two namespaces that begin with the same 50 letters or more it cannot say."""
    head = f"{namespace}."
    return serves.startswith(head if len(head) < LONGEST - _HASH_LENGTH else _head(head))


def child_name(deployment: Key) -> str:
    """Name of the Deployment, Service and PDB of an SLMDeployment. A Service name is a DNS label."""
    return dns_label(deployment.name)


def selector_labels(deployment: Key) -> dict[str, str]:
    """Labels that select the replicas of one SLMDeployment and nothing else."""
    return {names.DEPLOYMENT_LABEL: label_value(deployment.name)}


def labels(deployment: Key, component: str) -> dict[str, str]:
    """All labels of an object that belongs to an SLMDeployment."""
    return selector_labels(deployment) | {
        "app.kubernetes.io/name": "slm-engine",
        "app.kubernetes.io/instance": label_value(deployment.name),
        "app.kubernetes.io/component": component,
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
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
    """Name of the Job that measures a profile: its pods have it as the value of a label."""
    return dns_label(profile.meta.key.name)
