"""Who may read /metrics, as the API server says: whose token it is (TokenReview), and whether they may (SubjectAccessReview).

Figures of the operator name every deployment of the cluster. This is the one place that asks for those two rights, and only where
`metrics.secure` of the chart is on. Must never keep a token: an answer is known by its hash, for a minute. Nor may who guesses
tokens keep a Prometheus out: from where one was let in, questions are counted apart.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from slm_operator.kube.errors import ApiError
from slm_operator.kube.rate import TokenBucket
from slm_operator.kube.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_operator.kube.client import Client

log = logging.getLogger(__name__)

TOKEN_REVIEW = Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
ACCESS_REVIEW = Resource("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False)
KNOWN_SECONDS = 60.0
"""How long an answer holds: a token that is withdrawn, and a right, are felt after that."""
MOST_KNOWN = 64
MOST_WELCOME = 16
"""Addresses from which somebody was let in: the replicas of a Prometheus or two, and people who look."""
MOST_CHARACTERS = 16 << 10
"""Longest token that is asked about."""
_TOKEN = re.compile(rf"[!-~]{{1,{MOST_CHARACTERS}}}")
"""NB: bytes of a header that are no text come as surrogates, which nothing can encode."""
ASKED_PER_SECOND, ASKED_AT_ONCE = 1.0, 10.0
"""Questions to the API server, of each address from which somebody was let in, and of all others together: whoever guesses costs it
no more."""
K = TypeVar("K")
V = TypeVar("V")
OK, UNAUTHENTICATED, FORBIDDEN, TOO_MANY, UNKNOWN = 200, 401, 403, 429, 503


@dataclass(slots=True, kw_only=True)
class Scrapers:
    """Judges scrapes by their header Authorization."""

    client: Client
    """NB: one that asks no election: a standby has metrics too."""
    clock: Callable[[], float]
    _known: dict[bytes, tuple[float, int]] = field(default_factory=dict, init=False)
    _strangers: TokenBucket = field(init=False)
    _welcome: dict[str, TokenBucket] = field(default_factory=dict, init=False)
    """NB: by address and not by token, for a Prometheus brings a new one each hour."""

    def __post_init__(self) -> None:
        self._strangers = self._budget()

    async def status_for(self, authorization: str, address: str) -> int:
        """The HTTP status that whoever sends this from an address is answered with."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or _TOKEN.fullmatch(token) is None:
            return UNAUTHENTICATED
        of = hashlib.sha256(token.encode()).digest()
        until, status = self._known.pop(of, (0.0, 0))
        if until <= self.clock():
            if not self._welcome.get(address, self._strangers).try_take():
                return TOO_MANY
            try:
                status = await self._judged(token)
            except ApiError as error:
                log.warning("scrape not judged", extra={"object": "/metrics", "because": error.message})
                return UNKNOWN
            until = self.clock() + KNOWN_SECONDS
        _keep(self._known, of, (until, status), MOST_KNOWN)
        if status == OK:
            _keep(self._welcome, address, self._welcome.get(address) or self._budget(), MOST_WELCOME)
        return status

    def _budget(self) -> TokenBucket:
        return TokenBucket(ASKED_PER_SECOND, ASKED_AT_ONCE, self.clock)

    async def _judged(self, token: str) -> int:
        said = (await self._asked(TOKEN_REVIEW, {"token": token})).get("status") or {}
        user = said.get("user") or {}
        if said.get("authenticated") is not True or not user.get("username"):
            return UNAUTHENTICATED
        who = {"user": user["username"]} | {part: user[part] for part in ("groups", "uid", "extra") if user.get(part)}
        asked = who | {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
        allowed = ((await self._asked(ACCESS_REVIEW, asked)).get("status") or {}).get("allowed")
        return OK if allowed is True else FORBIDDEN

    async def _asked(self, review: Resource, spec: dict[str, Any]) -> dict[str, Any]:
        body = {"apiVersion": review.api_version, "kind": review.kind, "metadata": {}, "spec": spec}
        return await self.client.create(review, "", body)


def _keep(those: dict[K, V], key: K, value: V, most: int) -> None:
    """Put it last, and forget what nobody has used for longest."""
    those.pop(key, None)
    those[key] = value
    if len(those) > most:
        del those[next(iter(those))]
