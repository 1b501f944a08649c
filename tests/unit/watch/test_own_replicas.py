"""Whose number `spec.replicas` is, read off managedFields as the API server writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from slm_operator.watch import custom_resources

from tests.builders import Raw, raw_meta


def owner(manager: str, operation: str = "Apply", **rest: Any) -> Raw:
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}}}} | rest


OWN = owner("slm-operator-replicas")
OTHER_FIELDS = {
    "manager": "kubectl",
    "operation": "Apply",
    "fieldsV1": {"f:spec": {".": {}, "f:model": {"f:uri": {}}}},
}
STATUS = {
    "manager": "slm-operator",
    "operation": "Apply",
    "subresource": "status",
    "fieldsV1": {"f:status": {"f:replicas": {}}},
}


def deployment(*managed: Raw, annotation: str = "", **spec: Any) -> Raw:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": annotation} if annotation else {}
    head = raw_meta("chat", annotations=annotations, managedFields=[OTHER_FIELDS, *managed, STATUS])
    return {"metadata": head, "spec": {"model": {"uri": "pvc://m"}} | spec}


def in_manifest(replicas: object) -> str:
    return json.dumps({"spec": {"replicas": replicas}})


CASES: dict[str, tuple[Raw, int | None, int | None]] = {
    "the operator's alone": (deployment(OWN, replicas=2), None, 2),
    "absent": (deployment(), None, None),
    "nobody's: kubectl scale leaves no owner": (deployment(replicas=2), 2, None),
    "an autoscaler's": (deployment(owner("hpa", "Update", subresource="scale"), replicas=2), 2, None),
    "owned by both": (deployment(OWN, owner("kustomize-controller"), replicas=2), 2, None),
    "zero, by a person": (deployment(owner("kubectl-edit", "Update"), replicas=0), 0, None),
    "our name in an update": (deployment(owner("slm-operator-replicas", "Update"), replicas=2), 2, None),
    "the same number in a manifest": (deployment(OWN, annotation=in_manifest(2), replicas=2), 2, None),
    "another number in an old manifest": (deployment(OWN, annotation=in_manifest(3), replicas=2), None, 2),
    "a manifest that is none": (deployment(OWN, annotation='{"replicas"', replicas=2), None, 2),
    "a manifest that is a list": (deployment(OWN, annotation='["replicas"]', replicas=2), None, 2),
    "a manifest whose spec is a text": (deployment(OWN, annotation='{"spec": "replicas", "replicas": 2}', replicas=2), None, 2),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_number_is_somebody_elses_or_the_operators_own(case: str) -> None:
    raw, theirs, own = CASES[case]
    before = json.dumps(raw)
    record = custom_resources.deployment(raw)
    assert record.spec is not None
    assert (record.spec.replicas, record.own_replicas) == (theirs, own)
    assert json.dumps(raw) == before
