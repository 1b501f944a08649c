"""All that Kopf needs to be talked into. It watches and keeps the process's life cycle; it decides, stores and writes nothing.

What is switched off, and why: events and peering (our own recorder and Lease), scanning for new CRDs and namespaces
(two more cluster-wide watches and their RBAC), and storages (for every event Kopf would deep-copy the object to diff
it, for handlers we do not have).
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from slm_operator.kube import credentials  # noqa: F401 - before Kopf, which would import all of the kubernetes package

# isort: split

import kopf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.assembly import Operator

log = logging.getLogger(__name__)

CHUNK = 500
WATCHES = "multidimensional multitasker"
"""Kopf's name of the task that holds all watches."""
END_SECONDS = 5.0
"""How long Kopf is given to end its own tasks, after ours have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How Kopf ended."""

    failure: BaseException | None
    left_behind: bool
    """It did not, within `END_SECONDS`: the process must be ended by `leave_behind`."""


async def watch_until_stopped(operator: Operator, namespaces: Sequence[str], liveness_port: int) -> Ended:
    """Run Kopf, and with it the operator, until either ends or is asked to. No namespaces: all; port 0: no liveness."""
    stopping = asyncio.create_task(operator.stop_flag.wait())  # NB: before Kopf, which ends all that came after it
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry_of(operator),
            settings=kopf_settings(operator),
            liveness_endpoint=f"http://0.0.0.0:{liveness_port}/healthz" if liveness_port else None,
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            # NB: Kopf's default asks getpass.getuser(), and the image's UID has no name.
            identity="slm-operator",
            stop_flag=operator.stop_flag,
        )
    )
    await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await operator.stop()
    ended, _ = await asyncio.wait({watching}, timeout=END_SECONDS)
    stopping.cancel()
    return Ended(failure=watching.exception() if ended else None, left_behind=not ended)


def leave_behind(code: int) -> NoReturn:
    """End the process although Kopf has not ended. NB: asyncio would wait for its tasks for ever."""
    log.warning("left behind", extra={"because": f"Kopf did not end within {END_SECONDS:.0f} s"})
    logging.shutdown()
    os._exit(code)


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
    settings.process.ultimate_exiting_timeout = None  # `leave_behind` does that, once ours is cleaned up
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

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator]
    async def login(**_: Any) -> Any:
        connection = operator.connection
        return kopf.AiohttpSession(
            server=connection.server, aiohttp_session=connection.watching_session(operator.world)
        )

    @kopf.on.startup(registry=registry)  # type: ignore[untyped-decorator]
    async def start(**_: Any) -> None:
        """Begin to act.

        NB: when a watch is lost for good (its CRD was deleted, say), Kopf 1.45.2 waits for its own tasks for ever and then
        kills this process, clean-up and all. So the task that holds the watches is looked at here.
        """
        for task in asyncio.all_tasks():
            if task.get_name() == WATCHES:
                task.add_done_callback(operator.ended)
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
