"""Groups of arguments that several commands share: the cluster, the form of the answer, measurements, and the question.

Apart from `arguments` by length. As there, nothing here may read a file nor import what a command needs to run.
"""

from __future__ import annotations

import argparse
import re

from slm_core import tuning
from slm_core.arguments import ABOVE_ZERO, count, number
from slm_core.sharing import AUTO, CHOICES
from slm_core.slo import METRICS, Statistic
from slm_core.tuning import flag


def force(command: argparse._ActionsContainer) -> None:
    """Whether a file that is there may be written over."""
    command.add_argument("--force", action="store_true", help="write over a file that is there")


def cluster(command: argparse.ArgumentParser) -> None:
    """Which cluster, and which namespace of it."""
    group = command.add_argument_group("cluster")
    group.add_argument("-n", "--namespace", metavar="NAMESPACE", help="namespace (default: the context's)")
    group.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: the current one)")
    group.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig file (default: $KUBECONFIG, ~/.kube/config)")


def form(command: argparse.ArgumentParser, *for_scripts: str) -> None:
    """How the answer is written: for people, or `for_scripts`."""
    command.add_argument(
        "-o", "--output", choices=("table", *for_scripts), default="table", help="form of the answer (default table)"
    )


CHANGES = ("args", "json-patch", "kustomize", "helm-values")
"""Forms of a change to an engine that somebody runs; a test holds them against the table that writes them."""


def running(command: argparse.ArgumentParser) -> None:
    """The engine that somebody runs without the operator."""
    group = command.add_argument_group("an engine that you run yourself (docs/how-to/advise-others.md)")
    group.add_argument(
        "--for",
        dest="workload",
        metavar="WHAT",
        help="KIND/NAME in the cluster, or a file: a Deployment, StatefulSet, InferenceService, LLMInferenceService or "
        "KubeAI Model. Without measurements those of an SLMProfile are used that measured the same",
    )
    group.add_argument(
        "--to",
        metavar="DIR",
        help="write the change into this folder, with advice.md and report.html for a pull request; `-o kustomize` needs it",
    )
    force(group)
    group.add_argument(
        "--metrics",
        metavar="URL",
        help="its metrics page, as http://localhost:8000/metrics: what it does now, beside what was measured under that load",
    )
    group.add_argument(
        "--metrics-seconds", type=number(ABOVE_ZERO), default=30.0, metavar="S", help="for how long (default 30)"
    )
    group.add_argument(
        "--input-tokens", type=count(tuning.INPUT_TOKENS), default=tuning.INPUT_TOKENS.default, metavar="N",
        help=f"mean prompt length that `-o slmprofile` measures with (default {tuning.INPUT_TOKENS.default})",
    )  # fmt: skip
    group.add_argument(
        "--output-tokens", type=count(tuning.OUTPUT_TOKENS), default=tuning.OUTPUT_TOKENS.default, metavar="N",
        help=f"mean output length, the same (default {tuning.OUTPUT_TOKENS.default})",
    )  # fmt: skip


def measurements(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Where measurements come from."""
    group = command.add_argument_group("measurements")
    one = group.add_mutually_exclusive_group(required=required)
    one.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        help="a measurement document or an SLMProfile, JSON or YAML; or result files of other benchmarks "
        "(docs/how-to/your-own-data.md), one -f each; - is stdin",
    )
    one.add_argument(
        "--from-csv", metavar="FILE", help="runs of one engine, a row each, with the columns of the published sweeps"
    )
    group.add_argument(
        "--packs-csv", metavar="FILE", help="runs of several engines on one GPU, with the same columns and `sharing`"
    )
    group.add_argument(
        "--model", metavar="NAME", help="whose rows of the CSV to use; needed when it holds several models"
    )
    group.add_argument(
        "--ledger",
        metavar="FILE",
        help="memory of the engine that made the CSV, JSON or YAML, as `ledger` of a document",
    )


def _currency(text: str) -> str:
    if re.fullmatch(tuning.CURRENCY, text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no code of three capital letters, as EUR")


def question(command: argparse.ArgumentParser) -> None:
    """The SLO, the load and how to judge."""
    slo = command.add_argument_group("SLO: latency limits of a request")
    for metric in METRICS:
        either = slo.add_mutually_exclusive_group()
        either.add_argument(flag(metric.field), type=number(ABOVE_ZERO), metavar="MS", help=metric.help)
        if (factor := metric.factor) is not None:
            words = f"{factor.help} (default {factor.default:g})"
            either.add_argument(flag(factor.field), type=number(ABOVE_ZERO), metavar="X", help=words)
        words = f"the figure of {metric.name} that is limited (default Mean)"
        slo.add_argument(flag(metric.statistic_field), choices=tuple(map(str, Statistic)), default="Mean", help=words)

    load = command.add_argument_group(
        "the load to decide for (default: every batch full)"
    ).add_mutually_exclusive_group()
    load.add_argument("--concurrency", type=count(tuning.CONCURRENCY), metavar="N", help="requests in flight per GPU")
    load.add_argument("--requests-per-second", type=number(ABOVE_ZERO), metavar="N", help="requests per second per GPU")

    judge = command.add_argument_group("how to judge")
    for name, knob in tuning.KNOBS.items():
        judge.add_argument(
            *filter(None, (knob.alias, flag(name))),
            dest=name,
            type=number(knob, hint=knob.hint),
            default=knob.default,
            metavar="FRACTION",
            help=f"{knob.help} (default {knob.default:g})",
        )
    judge.add_argument(
        "--objective",
        choices=("Throughput", "FreeMemory", "CostPerToken", "EnergyPerToken"),
        default="Throughput",
        help="what the GPU is for (default Throughput)",
    )
    judge.add_argument(
        "--price-per-gpu-hour",
        type=number(tuning.PRICE_PER_GPU_HOUR),
        metavar="PRICE",
        help="what the GPU costs, for the cost of tokens",
    )
    judge.add_argument("--currency", type=_currency, default="USD", metavar="CODE", help="of that price (default USD)")
    judge.add_argument(
        "--mode",
        choices=CHOICES,
        default=AUTO,
        help="sharing that may be advised (default Auto)",
    )
    judge.add_argument(
        "--engines-per-gpu",
        type=count(tuning.ENGINES_PER_GPU),
        metavar="R",
        help="your own number of engines; the answer says what it costs",
    )
    judge.add_argument(
        "--max-engines-per-gpu", type=count(tuning.MAX_ENGINES_PER_GPU), metavar="R", help="most engines on a GPU"
    )
    judge.add_argument(
        "--gpu-memory-bytes",
        type=count(tuning.GPU_MEMORY_BYTES),
        metavar="BYTES",
        help="memory of the GPU that will serve (default: the measured one's)",
    )
