"""What the API server can answer other than yes, as types, so that callers match on meaning and not on numbers.

Assumes the body is a `Status` object, a plain text, or nothing. Must never hold a request body: it could hold a secret.
"""

from __future__ import annotations

from typing import Any

from slm_operator.decoding import decode
from slm_operator.visible import visible

MOST_SECONDS = 3600.0
"""Longest wait that an answer can ask for: whatever stands between may write `Retry-After: inf`."""


class ApiError(Exception):
    """A request that failed. `message` is the server's own sentence."""

    def __init__(self, message: str, status: int = 0, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class NotFound(ApiError):  # noqa: N818 - named for what it says, as the API server's reasons are
    """The object, or its kind, is not there."""


class Conflict(ApiError):  # noqa: N818
    """Somebody else wrote first, or owns a field: look again."""


class Forbidden(ApiError):  # noqa: N818
    """RBAC does not allow it: the operator's role lacks a rule. Trying again soon is of no use."""


class Refused(ApiError):  # noqa: N818
    """A quota, an admission webhook, validation or a taken name: its message goes to the object's owner."""


class Unserved(Refused):
    """The API server does not know the kind: its CRD must be installed."""


class Blocked(ApiError):  # noqa: N818
    """Not now: a PodDisruptionBudget does not allow an eviction, or the cluster is not as the watch shows it yet."""


class Unavailable(ApiError):  # noqa: N818
    """The server could not answer: overload, restart, network. Trying again later is right."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unavailable,  # credentials are being rotated; the connection reads them anew
    404: NotFound,
    409: Conflict,
    410: NotFound,
    400: Refused,
    405: Refused,
    413: Refused,
    415: Refused,
    422: Refused,
}


def error_of(status: int, body: str, retry_after: str | None = None) -> ApiError:
    """The error that an answer of 400 and above means."""
    answer = _status_object(body)
    message = visible(str(answer.get("message") or body.strip() or f"HTTP {status}")[:2048])
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 or status == 429 else ApiError)
    if status == 403:
        # NB: RBAC, quotas, Pod Security and webhooks all answer 403; only RBAC speaks of what a user cannot do.
        kind = Forbidden if 'User "' in message and " cannot " in message else Refused
    if status == 429 and "disruption budget" in message:
        kind = Blocked
    if status == 500 and "more than one PodDisruptionBudget" in message:
        kind = Blocked
    return kind(message, status, _seconds(retry_after))


def _status_object(body: str) -> dict[str, Any]:
    try:
        answer = decode(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    try:
        return min(max(0.0, float(retry_after)), MOST_SECONDS) if retry_after is not None else None
    except ValueError:
        return None
