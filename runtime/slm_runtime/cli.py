"""The command line of `python -m slm_runtime`. Reads words into one Task; decides nothing."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.engines.base import ModelOptions
from slm_core.engines.registry import default, engine_of
from slm_core.failure import EXIT_STATUS, Failure, ProfileError
from slm_core.slo import Percentile, Slo

from slm_runtime import events, profile
from slm_runtime.ledger import read_config
from slm_runtime.measuring import Conditions
from slm_runtime.rig import Subject
from slm_runtime.search.steps import Request
from slm_runtime.window import Pace
from slm_runtime.workload import parse_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.engines.base import Engine

EXPECTED_POINTS = 9
"""Of a whole profile, for the progress bar: six of one engine, two packs, one confirmation."""
_EPILOG = f"""
The words after `--` are the engine's command and the arguments that it shall always have; the profiler adds the
model, the port and what it measures. Default: {" ".join(default().command)}.

exit status: 0 measured; 2 wrong command line; otherwise by class of failure:
""" + "\n".join(f"  {status:>3}  {failure}" for failure, status in EXIT_STATUS.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, 2 for a wrong command line, or that of a class of failure."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:at])
    command = tuple(words[at + 1 :]) or default().command
    remedies = engine_of(command).remedies
    reporter = events.reporter(EXPECTED_POINTS, remedies, has_output=args.output is not None)
    try:
        task = _task(args, command, "slm_runtime " + " ".join(words))
        return asyncio.run(profile.run(task, reporter))
    except ProfileError as error:
        reporter.failed(error.failure, str(error))
        return EXIT_STATUS[error.failure]
    except BrokenPipeError:  # whoever read the events has gone
        return EXIT_STATUS[Failure.INTERRUPTED]


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="slm_runtime", description="Measure small language models on one device.")
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
    return top


def _add_subject(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", required=True, help="folder of the model, or a name that the engine resolves")
    group.add_argument("--served-model-name", help="name in requests (default: the model's last path component)")
    group.add_argument("--model-uri", help="where the model came from, for the document (default: --model)")
    group.add_argument("--model-revision", "--revision", dest="revision", help="its revision, for the document")
    group.add_argument("--image", help="the engine's image, for the document")
    group.add_argument("--gpu-product", help="name of the device, for the document (default: NVML's, or CPU)")
    group.add_argument("--max-model-len", type=_positive, metavar="TOKENS", help="longest sequence")
    group.add_argument("--dtype", help="data type of the weights")


def _add_question(group: argparse._ArgumentGroup) -> None:
    lengths = "N, lognormal:MEAN,P99 or uniform:LOW,HIGH (default: %(default)s)"
    group.add_argument("--input-tokens", default="161", metavar="LENGTHS", help=f"prompt lengths: {lengths}")
    group.add_argument("--output-tokens", default="338", metavar="LENGTHS", help=f"output lengths: {lengths}")
    group.add_argument("--dataset", metavar="FILE", help="ShareGPT JSON, whose lengths are used instead")
    group.add_argument("--concurrency", type=_positive, help="requests in flight to decide for (default: full batches)")
    group.add_argument("--slo-itl-ms", type=_above_zero, help="largest inter-token latency")
    group.add_argument("--slo-itl-factor", type=_above_zero, help="the same as a multiple of ITL at B=32")
    group.add_argument("--slo-ttft-ms", type=_above_zero, help="largest time to first token")
    group.add_argument("--slo-percentile", type=Percentile, choices=list(Percentile), default=Percentile.MEAN)
    group.add_argument("--min-efficiency", type=_above_zero, default=0.1, help="epsilon (default: %(default)s)")
    group.add_argument(
        "--min-gain", type=float, default=0.05, help="gain that a pack must bring (default: %(default)s)"
    )
    group.add_argument("--sharing-mode", choices=("auto", "mps", "time-slicing", "none"), default="auto")
    group.add_argument("--replicas", type=_positive, metavar="R", help="measure packs of exactly R engines")
    group.add_argument("--max-replicas", type=_positive, default=4, metavar="R", help="(default: %(default)s)")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-gpu-minutes", type=_above_zero, default=30.0, help="(default: %(default)s)")
    group.add_argument("--max-batch-size", type=_positive, default=512, metavar="B", help="(default: %(default)s)")
    group.add_argument("--max-num-batched-tokens", type=_positive, default=8192, help="(default: %(default)s)")
    group.add_argument("--startup-timeout-seconds", type=_above_zero, default=900.0, help="(default: %(default)s)")
    pace = Pace()
    group.add_argument(
        "--min-window-seconds", type=_above_zero, default=pace.min_seconds, help="(default: %(default)s)"
    )
    group.add_argument(
        "--max-window-seconds", type=_above_zero, default=pace.max_seconds, help="(default: %(default)s)"
    )
    group.add_argument("--poll-seconds", type=_above_zero, default=pace.poll_seconds, help="(default: %(default)s)")
    group.add_argument("--hang-seconds", type=_above_zero, default=pace.hang_seconds, help="(default: %(default)s)")


def _task(args: argparse.Namespace, command: tuple[str, ...], provenance: str) -> profile.Task:
    """One value of all words. Raises ProfileError for lengths that make no sense."""
    name = args.served_model_name or Path(args.model).name
    engine = engine_of(command)
    given = engine.read_arguments(command)
    chosen = engine.model_arguments(ModelOptions(max_model_len=args.max_model_len, dtype=args.dtype))
    max_model_len = args.max_model_len or given.max_model_len or _longest(args.model)
    return profile.Task(
        subject=Subject(
            model=args.model,
            served_name=name,
            command=(*command, *chosen),
            max_model_len=max_model_len,
            timeout_seconds=args.startup_timeout_seconds,
        ),
        request=_request(args, engine, max_model_len),
        lengths=args.dataset or parse_lengths(args.input_tokens, args.output_tokens),
        conditions=Conditions(
            pace=Pace(
                poll_seconds=args.poll_seconds,
                min_seconds=args.min_window_seconds,
                max_seconds=args.max_window_seconds,
                hang_seconds=args.hang_seconds,
            ),
            ttft_matters=args.slo_ttft_ms is not None,
        ),
        asked_mode=args.sharing_mode,
        model_uri=args.model_uri or args.model,
        revision=args.revision,
        dtype=args.dtype or given.dtype,
        image=args.image,
        gpu_product=args.gpu_product,
        output=args.output,
        provenance=provenance,
    )


def _request(args: argparse.Namespace, engine: Engine, max_model_len: int | None) -> Request:
    alone = args.sharing_mode == "none" or args.replicas == 1
    return Request(
        slo=Slo(
            itl_ms=args.slo_itl_ms,
            itl_factor=args.slo_itl_factor,
            ttft_ms=args.slo_ttft_ms,
            percentile=args.slo_percentile,
        ),
        max_gpu_seconds=args.max_gpu_minutes * 60,
        max_batch_size=args.max_batch_size,
        max_num_batched_tokens=max(args.max_num_batched_tokens, args.max_batch_size),
        min_efficiency=args.min_efficiency,
        min_gain=args.min_gain,
        max_replicas=1 if alone else max(args.max_replicas, args.replicas or 1),
        replicas=None if alone else args.replicas,
        concurrency=args.concurrency,
        max_model_len=max_model_len,
        engine=engine,
    )


def _longest(model: str) -> int | None:
    config = read_config(model)
    longest = config.get("text_config", config).get("max_position_embeddings")
    return longest if isinstance(longest, int) else None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value
