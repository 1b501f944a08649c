import json

import pytest
from slm_operator.kube import errors


def status(message: str, code: int) -> str:
    return json.dumps({"kind": "Status", "message": message, "code": code})


RBAC = 'jobs.batch is forbidden: User "system:serviceaccount:slm:op" cannot create resource "jobs" in API group "batch"'
QUOTA = 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 2, limited: 2'
WEBHOOK = 'admission webhook "policy.example.com" denied the request: no hostPath'
PDB = "Cannot evict pod as it would violate the pod's disruption budget."


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        pytest.param(403, status(RBAC, 403), errors.Forbidden, id="RBAC"),
        pytest.param(403, status(QUOTA, 403), errors.Refused, id="quota"),
        pytest.param(403, status(WEBHOOK, 403), errors.Refused, id="webhook"),
        pytest.param(422, status("spec: field is immutable", 422), errors.Refused, id="validation"),
        pytest.param(404, status('jobs "x" not found', 404), errors.NotFound, id="absent"),
        pytest.param(409, status("the object has been modified", 409), errors.Conflict, id="conflict"),
        pytest.param(429, status(PDB, 429), errors.Blocked, id="disruption budget"),
        pytest.param(429, status("too many requests", 429), errors.Unavailable, id="overload"),
        pytest.param(503, "", errors.Unavailable, id="no body"),
        pytest.param(500, "<html>proxy error</html>", errors.Unavailable, id="a proxy's page"),
        pytest.param(401, status("Unauthorized", 401), errors.Unavailable, id="credentials are being rotated"),
    ],
)
def test_api_status_becomes_its_error(code: int, body: str, kind: type[errors.ApiError]) -> None:
    error = errors.error_of(code, body)
    assert type(error) is kind
    assert error.message
    assert error.status == code


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("-1", 0.0), ("inf", 3600.0), ("nan", 0.0), ("Fri, 21 Nov 2026", None), (None, None)],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert errors.error_of(503, "", header).retry_after_seconds == seconds
