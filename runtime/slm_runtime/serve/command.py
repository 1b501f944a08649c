"""The command `serve`: looks at settings and device, then supervises the pack below `init`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
from typing import TYPE_CHECKING

from slm_core.failure import EXIT_STATUS, Failure, ProfileError
from slm_core.pack_pod import Termination
from slm_core.sharing import sharing_of

from slm_runtime.device_checks import check_device, open_device
from slm_runtime.serve.files import leave
from slm_runtime.serve.init import run_as_init
from slm_runtime.serve.memory_watch import MemoryWatch
from slm_runtime.serve.narration import remedy_of
from slm_runtime.serve.output import Output, write_all
from slm_runtime.serve.pack import Death, Patience, death_of
from slm_runtime.serve.settings import Mistake, mistakes, mistakes_on
from slm_runtime.serve.supervisor import Supervisor
from slm_runtime.task import check_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_runtime.serve.settings import Settings

WRONG_COMMAND_LINE = 2


def serve(settings: Settings, patience: Patience | None = None) -> int:
    """Serve until asked to end. Returns the exit status."""
    if found := mistakes(settings):
        return _refuse(settings, found)
    return run_as_init(lambda: asyncio.run(_supervise(settings, patience or Patience())))


async def _supervise(settings: Settings, patience: Patience) -> int:
    output = Output(write_all)
    with contextlib.ExitStack() as held:
        try:
            memory = MemoryWatch(settings)
            _check(settings)
            device = open_device(settings.device, settings.gpu_product)
            if device is not None:
                held.callback(device.close)
                await check_device(device, settings.device, settings.gpu_product, settings.gpu_memory_bytes)
            if found := mistakes_on(settings, device.memory_bytes if device else None):
                return _refuse(settings, found)
            supervisor = Supervisor(settings, device, output, patience, memory)
            with memory.until_seen_to_end():
                status = await supervisor.run()
        except ProfileError as error:
            death = death_of(error)
        except Exception as error:  # noqa: BLE001 - `init` ends what is left: a traceback would tell nobody more
            death = Death(failure=Failure.INTERNAL, message=f"{type(error).__name__}: {error}")
        else:
            fatal = supervisor.pack.fatal
            _leave(settings, None if fatal is None else _word(fatal, settings))
            return status
        finally:
            await output.close()
    _tell([Mistake(message=f"{death.failure}: {death.message}", remedy=remedy_of(death, settings))])
    _leave(settings, _word(death, settings))
    return EXIT_STATUS[death.failure]


def _word(death: Death, settings: Settings) -> Termination:
    return Termination(reason=death.failure, message=death.message, remedy=remedy_of(death, settings))


def _leave(settings: Settings, word: Termination | None) -> None:
    if settings.termination_file:
        leave(settings.termination_file, word)


def _refuse(settings: Settings, found: tuple[Mistake, ...]) -> int:
    """Say every mistake; the exit status."""
    _tell(found)
    words = ("; ".join(one.message for one in found), "; ".join(one.remedy for one in found))
    _leave(settings, Termination(reason=Failure.ARGUMENTS, message=words[0], remedy=words[1]))
    return WRONG_COMMAND_LINE


def _check(settings: Settings) -> None:
    """What can be known to be wrong with this machine before a GPU is held. Raises ProfileError."""
    check_model(settings.model)
    daemon = sharing_of(settings.mode).daemon
    if daemon is not None and not shutil.which(daemon):
        raise ProfileError(Failure.SHARING, f"{daemon} is not in PATH")
    wanted = [(settings.host, port) for port in settings.ports] + [("", settings.status_port)]
    wanted += [("127.0.0.1", settings.agent_port)] if settings.agent_port else []
    if taken := [port for host, port in wanted if _is_taken(host, port)]:
        raise ProfileError(Failure.PORT, f"somebody listens already on port {', '.join(map(str, taken))}")


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what was closed is free
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _tell(found: Iterable[Mistake]) -> None:
    for one in found:
        sys.stderr.write(f"[pack] {one.message}\n[pack]   -> {one.remedy}\n")
    sys.stderr.flush()
