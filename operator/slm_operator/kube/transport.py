"""The one method by which requests leave: everything of `client` works over anything that has it.

Exists so that what talks to an API server is tested against a server that is a function. Must never raise for a status: a
transport carries answers, and `client` says what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the API server, by its path on it."""

    method: str
    path: str
    params: Mapping[str, str] | None = None
    body: bytes | None = None
    content_type: str = JSON
    """Of the body."""
    most_bytes: int | None = None
    """So much of the answer is read; None: all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. NB: as bytes, read by no codec that the answer names: some take quadratic time."""

    status: int
    body: bytes
    retry_after: str | None = None


class Transport(Protocol):
    """The way to an API server."""

    async def send(self, request: Request) -> Answer:
        """Send a request and read the answer. Raises Unavailable when there is none."""
