"""The node's object, as the stand-in's parts need it: watch it, and the faults that its annotation asks for.

It must never write anything.
"""

import itertools
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from .api import Api
from .settings import FAULTS_ANNOTATION, Faults

FIRST_ANSWER_S = 5.0
T = TypeVar("T")

log = logging.getLogger(__name__)


class Node(Protocol):
    """The node this daemon runs on."""

    def watch(self) -> Iterator[dict[str, Any]]:
        """Yield the node's metadata now and after every change, for ever, through any disconnection."""
        ...


@dataclass(frozen=True, slots=True)
class ApiNode:
    """The node as the API server has it."""

    name: str
    api: Api

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """The node that the environment names. NB: the real plugin is not told, and asks nobody; ours has a variable of its own."""
        return cls(env.get("NODE_NAME") or env["STANDIN_NODE_NAME"], Api.from_env(env))

    def watch(self) -> Iterator[dict[str, Any]]:
        """See `Node`."""
        for nodes in self.api.follow("/api/v1/nodes", fieldSelector=f"metadata.name={self.name}"):
            yield from (node["metadata"] for node in nodes.values())


def faults_of(metadata: Mapping[str, Any]) -> Faults:
    """The faults that the node's annotation asks for; a malformed one is reported and means none."""
    try:
        return Faults.parse((metadata.get("annotations") or {}).get(FAULTS_ANNOTATION))
    except ValueError as error:
        log.error("%s", error)  # noqa: TRY400 - the traceback says nothing more
        return Faults()


def follow_faults(node: Node, tell: Callable[[Faults], None], *, patience_s: float = FIRST_ANSWER_S) -> Faults:
    """The node's faults now, none where nobody answers in time; each later change is reported from a thread of its own."""
    stream = changes(faults_of(metadata) for metadata in node.watch())
    first: queue.SimpleQueue[Faults] = queue.SimpleQueue()

    def follow() -> None:
        for number, faults in enumerate(stream):
            first.put(faults)
            tell(faults)
            if number:
                log.info("faults: %s", faults)

    threading.Thread(target=follow, name="faults", daemon=True).start()
    try:
        return first.get(timeout=patience_s)
    except queue.Empty:
        return Faults()


def changes(values: Iterable[T]) -> Iterator[T]:
    """The first value, and each that differs from the one before it."""
    return (value for value, _same in itertools.groupby(values))
