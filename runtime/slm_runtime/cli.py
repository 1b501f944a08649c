"""The command line of `python -m slm_runtime`. Reads words into one value; decides nothing."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core import tuning
from slm_core.architecture import longest_sequence
from slm_core.arguments import ABOVE_ZERO, AT_LEAST_ONE, count, number
from slm_core.engines.base import ModelOptions
from slm_core.engines.registry import command_and_arguments, default, engine_of
from slm_core.failure import EXIT_STATUS, Failure, ProfileError
from slm_core.search.steps import Request, packs_asked
from slm_core.sharing import AUTO, CHOICES, by_word, word_of
from slm_core.slo import ITL, LIMITS, METRICS, Slo, Statistic
from slm_core.units import GIB

from slm_runtime import events, profile
from slm_runtime.flags import add, add_device, refuse_secrets
from slm_runtime.host import Share
from slm_runtime.launches import Subject
from slm_runtime.ledger import read_config
from slm_runtime.measuring import Conditions
from slm_runtime.serve.arguments import add_command, settings_of
from slm_runtime.serve.command import serve
from slm_runtime.task import Task
from slm_runtime.window import Pace
from slm_runtime.workload import parse_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.engines.base import Engine
    from slm_core.measurements import SharingMode

EXPECTED_POINTS = 9
"""Of a whole profile, for the progress bar: six of one engine, two packs, one confirmation."""
_EPILOG = f"""
The words after `--` are the engine's command and the arguments that it always gets, from the first one that begins
with `--`, or after another `--`; the profiler adds the model, the port and what it measures. The command takes what
`{" ".join(default().command)}` takes: the model first, then flags. Default: {" ".join(default().command)}.

exit status: 0 measured; 2 wrong command line; otherwise by class of failure:
""" + "\n".join(f"  {status:>3}  {failure}" for failure, status in EXIT_STATUS.items())


_CONTINUE_HELP = (
    "go on from a measurement document: what it knows of this model, GPU and workload is not measured again"
)
_CPUS_HELP = "CPUs that a replica may use; beside a GPU each engine is held to so many cores"
_MEMORY_HELP = "host memory that a replica may use; beside a GPU a note says which pack had less"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, 2 for a wrong command line, or that of a class of failure."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:at])
    engine = tuple(words[at + 1 :]) or default().command
    if args.command == "serve":
        return _serve(args, engine)
    remedies = engine_of(engine).remedies
    reporter = events.reporter(EXPECTED_POINTS, remedies, has_output=args.output is not None)
    try:
        task = _task(args, engine, "slm_runtime " + " ".join(words))
        return asyncio.run(profile.run(task, reporter))
    except ProfileError as error:
        reporter.failed(error.failure, str(error), error.remedy)
        return EXIT_STATUS[error.failure]
    except BrokenPipeError:  # whoever read the events has gone
        return EXIT_STATUS[Failure.INTERRUPTED]


def _serve(args: argparse.Namespace, engine: tuple[str, ...]) -> int:
    try:
        settings = settings_of(args, engine)
    except ProfileError as error:
        sys.stderr.write(f"{error.failure}: {error}\n  -> {error.remedy}\n")
        return EXIT_STATUS[error.failure]
    return serve(settings)


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="slm_runtime", description="Measure small language models on one device, and serve them as a pack."
    )
    commands = top.add_subparsers(dest="command", required=True)
    made = commands.add_parser(
        "profile",
        help="find the best batch size and pack for one model",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_subject(made.add_argument_group("what is measured"))
    _add_question(made.add_argument_group("what is to be found out"))
    _add_limits(made.add_argument_group("what it may cost"))
    made.add_argument("--output", type=Path, metavar="FILE", help="write the measurement document here too")
    made.add_argument("--continue-from", type=Path, metavar="FILE", help=_CONTINUE_HELP)
    add_command(commands)
    return top


def _add_subject(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", required=True, help="folder of the model, or a name that the engine resolves")
    group.add_argument("--served-model-name", help="name in requests (default: the model's last path component)")
    group.add_argument("--model-uri", help="where the model came from, for the document (default: --model)")
    group.add_argument("--model-revision", "--revision", dest="revision", help="its revision, for the document")
    group.add_argument("--image", help="the engine's image, for the document")
    add_device(group)
    group.add_argument("--cpus-per-engine", type=number(ABOVE_ZERO), metavar="CPUS", help=_CPUS_HELP)
    group.add_argument("--host-memory-per-engine-bytes", type=count(AT_LEAST_ONE), metavar="BYTES", help=_MEMORY_HELP)
    group.add_argument("--max-model-len", type=count(AT_LEAST_ONE), metavar="TOKENS", help="longest sequence")
    group.add_argument("--dtype", help="data type of the weights")


def _add_question(group: argparse._ArgumentGroup) -> None:
    lengths = "lengths: N, lognormal:MEAN,P99 or uniform:LOW,HIGH"
    load = "requests in flight to decide for (default: full batches)"
    add(group, "--input-tokens", str, str(tuning.INPUT_TOKENS.default), help=f"prompt {lengths}", metavar="LENGTHS")
    add(group, "--output-tokens", str, str(tuning.OUTPUT_TOKENS.default), help=f"output {lengths}", metavar="LENGTHS")
    group.add_argument(
        "--dataset", metavar="FILE", help="conversations or token counts, whose lengths are used instead"
    )
    one = group.add_mutually_exclusive_group()
    one.add_argument("--concurrency", type=count(tuning.CONCURRENCY), help=load)
    rate = "the same as requests per second, of one GPU"
    one.add_argument("--requests-per-second", type=number(tuning.REQUESTS_PER_SECOND), metavar="N", help=rate)
    for limit in LIMITS:
        group.add_argument(tuning.flag(f"slo_{limit.field}"), type=number(ABOVE_ZERO), help=limit.help)
    for metric in METRICS:
        words = f"the figure of {metric.name} that is limited"
        figures = list(Statistic)
        add(group, tuning.flag(f"slo_{metric.statistic_field}"), Statistic, Statistic.MEAN, choices=figures, help=words)
    for name, knob in tuning.KNOBS.items():
        add(group, tuning.flag(name), number(knob), knob.default, help=knob.help)
    group.add_argument("--sharing-mode", choices=tuple(map(word_of, CHOICES)), default=word_of(AUTO))
    own, most = count(tuning.ENGINES_PER_GPU), tuning.MAX_ENGINES_PER_GPU
    group.add_argument("--engines-per-gpu", type=own, metavar="R", help="measure packs of exactly R engines")
    add(group, "--max-engines-per-gpu", count(most), most.default, metavar="R")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    pace, batch, budget = Pace(), tuning.MAX_BATCH_SIZE, tuning.MAX_NUM_BATCHED_TOKENS
    add(group, "--max-gpu-minutes", number(tuning.MAX_GPU_MINUTES), tuning.GPU_MINUTES_BY_HAND)
    add(group, "--max-batch-size", count(batch), batch.default, metavar="B")
    small = " and ".join(f"{tokens} below {below // GIB} GiB" for below, tokens in tuning.TOKENS_BY_MEMORY)
    by_memory = f"tokens of one step (default: {budget.default}; of device memory {small})"
    group.add_argument("--max-num-batched-tokens", type=count(budget), help=by_memory, metavar="TOKENS")
    add(group, "--startup-timeout-seconds", number(tuning.STARTUP_SECONDS), tuning.STARTUP_SECONDS.default)
    add(group, "--min-window-seconds", number(ABOVE_ZERO), pace.min_seconds)
    add(group, "--max-window-seconds", number(ABOVE_ZERO), pace.max_seconds)
    add(group, "--poll-seconds", number(ABOVE_ZERO), pace.poll_seconds)
    add(group, "--hang-seconds", number(ABOVE_ZERO), pace.hang_seconds)


def _task(args: argparse.Namespace, words: tuple[str, ...], provenance: str) -> Task:
    """One value of all words, `words` being the engine's. Raises ProfileError for lengths that make no sense."""
    name = args.served_model_name or Path(args.model).name
    command, arguments = command_and_arguments(words)
    engine = engine_of(command)
    refuse_secrets(engine, words)
    given = engine.read_arguments(arguments)
    chosen = ModelOptions(max_model_len=args.max_model_len, dtype=args.dtype)
    max_model_len = args.max_model_len or given.max_model_len or longest_sequence(read_config(args.model))
    request = _request(args, engine, max_model_len)
    return Task(
        subject=Subject(
            model=args.model,
            served_name=name,
            command=command,
            arguments=engine.fixed_arguments(chosen, arguments),
            max_model_len=max_model_len,
            timeout_seconds=args.startup_timeout_seconds,
            replica=Share(cpus=args.cpus_per_engine, memory_bytes=args.host_memory_per_engine_bytes),
        ),
        request=request,
        max_num_batched_tokens=args.max_num_batched_tokens,
        lengths=args.dataset or parse_lengths(args.input_tokens, args.output_tokens),
        conditions=Conditions(
            pace=Pace(
                poll_seconds=args.poll_seconds,
                min_seconds=args.min_window_seconds,
                max_seconds=args.max_window_seconds,
                hang_seconds=args.hang_seconds,
            ),
            limited=tuple(m for m in METRICS if m is not ITL and m.limit_ms(request.slo) is not None),
            seed=secrets.randbits(64),
        ),
        asked_mode=_asked_mode(args),
        model_uri=args.model_uri or args.model,
        revision=args.revision,
        dtype=args.dtype or given.dtype,
        image=args.image,
        device=args.device,
        gpu_product=args.gpu_product,
        gpu_memory_bytes=args.gpu_memory_bytes,
        output=args.output,
        continue_from=args.continue_from,
        provenance=provenance,
    )


def _asked_mode(args: argparse.Namespace) -> SharingMode | None:
    asked = by_word(args.sharing_mode)
    return asked.mode if asked is not None else None


def _request(args: argparse.Namespace, engine: Engine, max_model_len: int | None) -> Request:
    max_engines, engines = packs_asked(_asked_mode(args), args.engines_per_gpu, args.max_engines_per_gpu)
    return Request(
        slo=Slo.read(args, prefix="slo_"),
        max_gpu_seconds=args.max_gpu_minutes * 60,
        max_batch_size=args.max_batch_size,
        **tuning.tuned(args),
        max_engines=max_engines,
        engines=engines,
        concurrency=args.concurrency,
        requests_per_second=args.requests_per_second,
        max_model_len=max_model_len,
        engine=engine,
    )
