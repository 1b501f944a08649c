"""The command line of `python -m slm_runtime serve`, read into one value."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core import tuning
from slm_core.arguments import ABOVE_ZERO, AT_LEAST_ONE, count, number
from slm_core.engines.base import ModelOptions
from slm_core.engines.registry import command_and_arguments, default, engine_of
from slm_core.failure import EXIT_STATUS
from slm_core.pack_pod import FIRST_ENGINE_PORT, STATUS_PORT, SUPERVISOR_GRACE_SECONDS
from slm_core.sharing import MODES, by_word
from slm_core.sharing.base import Limits
from slm_core.tuning import Bounds

from slm_runtime.flags import add, add_device, refuse_secrets
from slm_runtime.serve.settings import EXCLUSIVE, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTS = Bounds(least=1, most=65535)
FRACTIONS = Bounds(above=0, most=1)
PERCENTAGES = Bounds(least=1, most=100)
_EPILOG = f"""
The words after `--` are the engine's command and the arguments that it always gets, as for `profile`. Default:
{" ".join(default().command)}.

The status port answers GET /healthz (the supervisor lives), /readyz (an engine serves, and the router asks where there is
one), /metrics (all engines on one page) and /status (JSON). SIGTERM and SIGINT end the pack: engines finish what they have
begun first, once the router sends them nothing more. In a pod: core/slm_core/pack_pod.py.

exit status: 0 ended by a signal, drained; 2 wrong command line; otherwise by class of failure:
""" + "\n".join(f"  {status:>3}  {failure}" for failure, status in EXIT_STATUS.items())


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command `serve`."""
    made = commands.add_parser(
        "serve",
        help="serve a model by several engines on one device",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_model(made.add_argument_group("what is served"))
    _add_pack(made.add_argument_group("the pack, as advised"))
    _add_process(made.add_argument_group("where it listens and how it ends"))


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", required=True, help="folder of the model, or a name that the engine resolves")
    group.add_argument("--served-model-name", help="name in requests (default: the model's last path component)")
    add_device(group)
    group.add_argument("--max-model-len", type=count(AT_LEAST_ONE), metavar="TOKENS", help="longest sequence")
    group.add_argument("--dtype", help="data type of the weights")


def _add_pack(group: argparse._ArgumentGroup) -> None:
    limit = "memory of the GPU that each engine is held to (default: an equal share)"
    threads = "part of the GPU's threads that each engine is held to (default: an equal share)"
    fraction = "part of the GPU's memory that each engine may count as its own (default: by their number)"
    waiting = "requests that an engine takes before it answers 503 (default: two batches)"
    unknown = "a flag that the engine does not know, and serves without: the profile's notes name it"
    modes = tuple(one.word for one in MODES)
    add(group, "--engines-per-gpu", count(tuning.ENGINES_PER_GPU), 1, metavar="R")
    group.add_argument("--sharing-mode", choices=modes, help="how they share it (default: one engine has it alone)")
    group.add_argument("--batch-size", type=count(AT_LEAST_ONE), required=True, metavar="B", help="of each engine")
    group.add_argument("--kv-cache-bytes", type=count(AT_LEAST_ONE), metavar="BYTES", help="of each engine")
    group.add_argument("--max-num-batched-tokens", type=count(AT_LEAST_ONE), metavar="TOKENS", help="of one step")
    group.add_argument("--gpu-memory-fraction", type=number(FRACTIONS), metavar="F", help=fraction)
    group.add_argument("--memory-limit-bytes", type=count(AT_LEAST_ONE), metavar="BYTES", help=limit)
    group.add_argument("--active-thread-percentage", type=count(PERCENTAGES), metavar="PERCENT", help=threads)
    group.add_argument("--leave-out", action="append", default=[], metavar="FLAG", help=unknown)
    group.add_argument("--max-in-flight", type=count(AT_LEAST_ONE), metavar="N", help=waiting)


def _add_process(group: argparse._ArgumentGroup) -> None:
    add(group, "--host", str, "127.0.0.1", help="address on which engines listen", metavar="ADDRESS")
    add(group, "--port", count(PORTS), FIRST_ENGINE_PORT, help="of the first engine; the others have those that follow")
    add(group, "--status-port", count(PORTS), STATUS_PORT, help="of the status, on every address")
    agent = "where a router asks, on loopback, which engines may have requests (default: there is no router)"
    group.add_argument("--agent-port", type=count(PORTS), metavar="PORT", help=agent)
    state = "where the pack keeps what its successor must know, should all of it be killed (default: nowhere)"
    group.add_argument("--state-file", type=Path, metavar="FILE", help=state)
    reason = "where the reason of the pack's end is written, as JSON (default: nowhere)"
    group.add_argument("--termination-message-file", type=Path, metavar="FILE", help=reason)
    grace = "from SIGTERM until everything has ended"
    add(group, "--grace-seconds", count(AT_LEAST_ONE), SUPERVISOR_GRACE_SECONDS, help=grace, metavar="SECONDS")
    add(group, "--startup-timeout-seconds", number(ABOVE_ZERO), tuning.STARTUP_SECONDS.default, metavar="SECONDS")


def settings_of(args: argparse.Namespace, words: Sequence[str]) -> Settings:
    """One value of all words, `words` being the engine's. Raises ProfileError where a secret stands among them."""
    command, arguments = command_and_arguments(words)
    engine = engine_of(command)
    refuse_secrets(engine, words)
    asked = by_word(args.sharing_mode) if args.sharing_mode else None
    chosen = ModelOptions(max_model_len=args.max_model_len, dtype=args.dtype)
    return Settings(
        model=args.model,
        served_name=args.served_model_name or Path(args.model).name,
        command=command,
        arguments=engine.fixed_arguments(chosen, arguments),
        engines=args.engines_per_gpu,
        mode=asked.mode if asked else EXCLUSIVE,
        limits=Limits(memory_bytes=args.memory_limit_bytes, thread_percentage=args.active_thread_percentage),
        batch_size=args.batch_size,
        kv_bytes=args.kv_cache_bytes,
        max_num_batched_tokens=args.max_num_batched_tokens,
        memory_fraction=args.gpu_memory_fraction,
        max_in_flight=args.max_in_flight,
        left_out=tuple(args.leave_out),
        host=args.host,
        first_port=args.port,
        status_port=args.status_port,
        agent_port=args.agent_port,
        state_file=args.state_file,
        termination_file=args.termination_message_file,
        grace_seconds=args.grace_seconds,
        startup_seconds=args.startup_timeout_seconds,
        device=args.device,
        gpu_product=args.gpu_product,
        gpu_memory_bytes=args.gpu_memory_bytes,
    )
