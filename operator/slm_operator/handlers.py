"""The only Kopf decorators. Kopf watches and keeps the process's life cycle; it decides, stores and writes nothing.

What is switched off, and why: events and peering (our own recorder and Lease), scanning for new CRDs and namespaces
(two more cluster-wide watches and their RBAC), and storages (for every event Kopf would deep-copy the object to diff
it, for handlers we do not have).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kopf

if TYPE_CHECKING:
    from slm_operator.assembly import Operator

CHUNK = 500
WATCHES = "multidimensional multitasker"
"""Kopf's name of the task that holds all watches."""


class _NoDiffs(kopf.DiffBaseStorage):  # type: ignore[misc]
    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):  # type: ignore[misc]
    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def kopf_settings(operator: Operator) -> kopf.OperatorSettings:
    """Kopf's settings, with a selector for each watch that can have one."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.chunk_size = CHUNK
    settings.process.ultimate_exiting_timeout = None  # main gives up on Kopf itself, once ours is cleaned up
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.finalizer = "slm-operator.io/unused-by-kopf"
    for watched in operator.world.watched.values():
        # NB: the key is this tuple; the string 'v1/services' silently matches nothing.
        selector = (*watched.group_version, watched.plural)
        if watched.label_selector:
            settings.watching.label_selectors[selector] = watched.label_selector
        if watched.field_selector:
            settings.watching.field_selectors[selector] = watched.field_selector
    return settings


def registry_of(operator: Operator) -> kopf.OperatorRegistry:
    """All handlers."""
    registry = kopf.OperatorRegistry()
    operator.kopf_task = WATCHES

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator]
    async def login(**_: Any) -> Any:
        connection = operator.connection
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=connection.watching_session())

    @kopf.on.startup(registry=registry)  # type: ignore[untyped-decorator]
    async def start(**_: Any) -> None:
        await operator.start()

    @kopf.on.cleanup(registry=registry)  # type: ignore[untyped-decorator]
    async def stop(**_: Any) -> None:
        await operator.stop()

    @kopf.on.probe(registry=registry)  # type: ignore[untyped-decorator]
    async def alive(**_: Any) -> None:
        if (because := operator.stuck_because()) is not None:
            raise kopf.PermanentError(because)  # NB: any other exception would be retried and hang the probe

    for watched in operator.world.watched.values():

        @kopf.on.event(*watched.group_version, watched.plural, id=watched.plural, registry=registry)  # type: ignore[untyped-decorator]
        async def taken(**_: Any) -> None:
            """Kopf watches what has a handler. None is ever called: objects are taken out of the answers to Kopf."""

    return registry
