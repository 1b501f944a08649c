"""What the operator may do against what it did: the chart's rules and the API audit log, compared both ways.

    audit log --uses--> Use(verb, group, resource, namespace, name, denied)  <--covers--  Grant  <--grants-- rendered chart

Pure, so that a recorded log is a unit test. NB: the audit log names a server-side apply that made an object `patch`
with 201, but the API server asked for `create` as well. The name in a list's field selector is the request's name, as it
is to resourceNames.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OPERATOR = "system:serviceaccount:slm-system:slm-operator"

SELDOM = {
    (
        "update",
        "slm-operator.io",
        "slmdeployments/finalizers",
    ): "asked by OwnerReferencesPermissionEnforcement, where on",
    ("update", "slm-operator.io", "slmprofiles/finalizers"): "asked by OwnerReferencesPermissionEnforcement, where on",
    ("delete", "", "pods"): "a replica that the kubelet refused at admission (tests/unit/planning/test_deployment.py)",
    (
        "create",
        "",
        "pods/eviction",
    ): "own replicas leave a node that changes its class (tests/unit/planning/test_fleet.py)",
}
"""Grants that an ordinary run need not use, and why they are there."""


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One kind of request that was made."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    denied: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One verb on one resource, in one namespace or (empty) everywhere."""

    verb: str
    group: str
    resource: str
    namespace: str
    names: tuple[str, ...] = ()

    def covers(self, use: Use) -> bool:
        """Whether this grant is what allowed the request."""
        return (
            (self.verb, self.group, self.resource) == (use.verb, use.group, use.resource)
            and self.namespace in {"", use.namespace}
            and (not self.names or use.name in self.names)
        )


def uses(audit_lines: Iterable[str], user: str = OPERATOR) -> set[Use]:
    """What a user asked for, requests of no resource (discovery) left out."""
    found: set[Use] = set()
    for event in map(json.loads, audit_lines):
        if event["user"].get("username") == user and event.get("objectRef", {}).get("resource"):
            found.update(_uses(event))
    return found


def _uses(event: dict[str, Any]) -> Iterator[Use]:
    asked = event["objectRef"]
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    denied = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
    place = (asked.get("apiGroup", ""), resource, asked.get("namespace", ""))
    yield Use(event["verb"], *place, asked.get("name", ""), denied)
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        yield Use("create", *place, asked.get("name", ""), denied)


def grants(objects: Iterable[dict[str, Any]], account: str) -> set[Grant]:
    """What the chart's roles give to a service account."""
    by_name = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}
    found: set[Grant] = set()
    for (kind, namespace, _), binding in by_name.items():
        if kind in {"RoleBinding", "ClusterRoleBinding"} and account in {s["name"] for s in binding["subjects"]}:
            role = binding["roleRef"]
            where = namespace if role["kind"] == "Role" else ""
            found.update(_granted(by_name[role["kind"], where, role["name"]], namespace))
    return found


def _granted(role: dict[str, Any], namespace: str) -> Iterator[Grant]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Grant(verb, group, resource, namespace, tuple(rule.get("resourceNames", ())))


def denied(used: Iterable[Use]) -> list[Use]:
    """Kinds of request that RBAC refused.

    NB: an API server that has just started refuses everything until it has read the roles. A kind of request that was
    allowed another time is granted, and the operator has asked again.
    """
    known = set(used)
    return sorted(use for use in known if use.denied and replace(use, denied=False) not in known)


def unused(granted: Iterable[Grant], used: Iterable[Use]) -> list[Grant]:
    """Grants that no request needed, those of SELDOM left out."""
    asked = list(used)
    return sorted(
        grant
        for grant in granted
        if (grant.verb, grant.group, grant.resource) not in SELDOM and not any(grant.covers(use) for use in asked)
    )
