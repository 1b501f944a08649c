"""The command `serve`: looks at settings and device, then supervises the pack below `init`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
from typing import TYPE_CHECKING

from slm_core.failure import EXIT_STATUS, Failure, ProfileError
from slm_core.sharing import sharing_of

from slm_runtime.device_checks import check_device, open_device
from slm_runtime.serve.init import run_as_init
from slm_runtime.serve.narration import remedy_of
from slm_runtime.serve.output import Output, write_all
from slm_runtime.serve.pack import Death, Patience
from slm_runtime.serve.settings import Mistake, mistakes, mistakes_on
from slm_runtime.serve.supervisor import Supervisor
from slm_runtime.task import check_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_runtime.serve.settings import Settings

WRONG_COMMAND_LINE = 2


def serve(settings: Settings, patience: Patience | None = None) -> int:
    """Serve until asked to end. Returns the exit status."""
    if refused := _refused(mistakes(settings)):
        return refused
    return run_as_init(lambda: asyncio.run(_supervise(settings, patience or Patience())))


async def _supervise(settings: Settings, patience: Patience) -> int:
    output = Output(write_all)
    with contextlib.ExitStack() as held:
        try:
            _check(settings)
            device = open_device(settings.device, settings.gpu_product)
            if device is not None:
                held.callback(device.close)
                await check_device(device, settings.device, settings.gpu_product, settings.gpu_memory_bytes)
            if refused := _refused(mistakes_on(settings, device.memory_bytes if device else None)):
                return refused
            return await Supervisor(settings, device, output, patience).run()
        except ProfileError as error:
            failure = error.failure
            death = Death(failure=failure, message=str(error), remedy=error.remedy)
        except Exception as error:  # noqa: BLE001 - `init` ends what is left: a traceback would tell nobody more
            failure = Failure.INTERNAL
            death = Death(failure=failure, message=f"{type(error).__name__}: {error}")
        finally:
            await output.close()
    _tell([Mistake(message=f"{failure}: {death.message}", remedy=remedy_of(death, settings))])
    return EXIT_STATUS[failure]


def _check(settings: Settings) -> None:
    """What can be known to be wrong with this machine before a GPU is held. Raises ProfileError."""
    check_model(settings.model)
    daemon = sharing_of(settings.mode).daemon
    if daemon is not None and not shutil.which(daemon):
        raise ProfileError(Failure.SHARING, f"{daemon} is not in PATH")
    wanted = [(settings.host, port) for port in settings.ports] + [("", settings.status_port)]
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


def _refused(found: Iterable[Mistake]) -> int:
    """Say every mistake; the exit status, 0 where there is none."""
    _tell(found := tuple(found))
    return WRONG_COMMAND_LINE if found else 0


def _tell(found: Iterable[Mistake]) -> None:
    for one in found:
        sys.stderr.write(f"[pack] {one.message}\n[pack]   -> {one.remedy}\n")
    sys.stderr.flush()
