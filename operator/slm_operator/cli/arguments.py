"""The commands and their arguments, and nothing else.

Exists apart so that `--help`, a typing error and shell completion cost no import. Must never read a file nor import
what a command needs to run: every command names the module that does.
"""

from __future__ import annotations

import argparse

from slm_core import tuning
from slm_core.arguments import count, number

from slm_operator.cli.argument_groups import CHANGES, cluster, force, form, measurements, question, running

EXAMPLES = """examples:
  kubectl slm advise --from-csv batch_sweep.csv --model opt-1.3b --itl-factor 2
  kubectl slm advise -f profile.yaml --itl-ms 40 -o json
  kubectl slm advise --for deploy/chat -f profile.yaml --itl-ms 40 -o kustomize --to advice
  kubectl slm report -f profile.yaml --itl-ms 40 -o report.html
  kubectl slm check
  kubectl slm plan -f slmdeployment.yaml
  kubectl slm explain my-model
"""


def parser() -> argparse.ArgumentParser:
    """Every command of `kubectl slm`. `run` is the module whose `run(arguments)` does the work."""
    root = argparse.ArgumentParser(
        prog="kubectl slm",
        description="Small language models on shared GPUs: advice, evidence and what the cluster makes of them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _advise(commands)
    _report(commands)
    _plan(commands)
    _explain(commands)
    _watch(commands)
    _top(commands)
    _history(commands)
    _rollback(commands)
    _upgrade(commands)
    _profile(commands)
    _check(commands)
    _support(commands)
    return root


def _advise(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    advise = commands.add_parser(
        "advise",
        help="batch size, KV memory and engines per GPU from measurements; needs no cluster",
        description="Decide from measurements: batch size, KV memory, engines per GPU and how they share it. With --for: what "
        "the flags of an engine that you run yourself cost against that, and the change to it.",
    )
    running(advise)
    measurements(advise, required=False)
    question(advise)
    form(advise, "json", "yaml", *CHANGES, "slmprofile")
    cluster(advise)


def _report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="the advice and its evidence as one HTML file that opens offline",
        description="Write the advice and its evidence as one HTML file that opens offline and prints.",
    )
    report.add_argument(
        "name", metavar="NAME", nargs="?", help="an SLMDeployment of the cluster, with its own SLO and settings"
    )
    measurements(report, required=False)
    question(report)
    cluster(report)
    report.add_argument(
        "-o", "--output", metavar="FILE", default="report.html", help="where to write (default report.html)"
    )
    force(report)


def _plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plan = commands.add_parser(
        "plan",
        help="what a manifest would deploy, before it is applied",
        description="What an SLMDeployment would become. Changes nothing.",
    )
    plan.add_argument("-f", "--filename", metavar="FILE", required=True, help="an SLMDeployment; - is stdin")
    source = plan.add_mutually_exclusive_group()
    source.add_argument("--profile", metavar="FILE", help="measurements to decide from; no cluster is asked then")
    source.add_argument(
        "--config",
        metavar="PATH",
        help="the model's config.json, or its folder with the weights, for an estimate; no cluster is asked then",
    )
    plan.add_argument("--gpu", metavar="PRODUCT", help="GPU to estimate for (default: spec.accelerator.products)")
    plan.add_argument(
        "--gpu-memory-bytes",
        type=count(tuning.GPU_MEMORY_BYTES),
        metavar="BYTES",
        help="its memory, where the product is not known",
    )
    form(plan, "json", "yaml")
    cluster(plan)


def _explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    explain = commands.add_parser(
        "explain",
        help="what the operator decided for a deployment, and why",
        description="What the operator decided for a deployment, and why. Exit code 1 while it is not ready.",
    )
    explain.add_argument("name", metavar="NAME", help="an SLMDeployment")
    cluster(explain)


def _watch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    watch = commands.add_parser(
        "watch",
        help="deployments and running profiles, live",
        description="Deployments and profiles of a namespace, live; printed once when piped.",
    )
    watch.add_argument("--once", action="store_true", help="print once and end")
    cluster(watch)


def _top(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    top = commands.add_parser(
        "top",
        help="tokens per second, ITL and KV use of each deployment, beside the advised figures, live",
        description="What the engines of a namespace do now, beside the advised figures, live; printed once when piped. "
        "Their own counters are read through the API server, which needs the right to get pods/proxy.",
    )
    top.add_argument("--once", action="store_true", help="look twice, print once and end")
    cluster(top)


def _history(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    history = commands.add_parser(
        "history",
        help="which advice a deployment ran with before, and from which profile",
        description="The revisions of a deployment that the cluster remembers: the advice, the profile that it rests on "
        "and how many replicas run with it.",
    )
    history.add_argument("name", metavar="NAME", help="an SLMDeployment")
    form(history, "json")
    cluster(history)


def _rollback(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rollback = commands.add_parser(
        "rollback",
        help="return to the advice of a former revision, by pinning the profile that it rests on",
        description="Set spec.profiling.profileRef to the profile of a former revision, if that brings its very arguments "
        "back; refused otherwise. What is kept in git must be changed there.",
    )
    rollback.add_argument("name", metavar="NAME", help="an SLMDeployment")
    rollback.add_argument(
        "--to-revision",
        type=count(tuning.Bounds(least=1, most=100_000)),
        metavar="N",
        help="as `history` numbers them (default: the one before)",
    )
    rollback.add_argument("--dry-run", action="store_true", help="say what would be set, and set nothing")
    cluster(rollback)


def _upgrade(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    upgrade = commands.add_parser(
        "upgrade",
        help="have a deployment take the operator's defaults of now",
        description="A deployment keeps the engine image and the other defaults of the operator that it was made with. This has "
        "it take those of now: another image is measured first, and its engines are replaced as after a change of spec. "
        "`check` lists who has older ones.",
    )
    upgrade.add_argument("name", metavar="NAME", help="an SLMDeployment")
    upgrade.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    cluster(upgrade)


def _profile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    profile = commands.add_parser("profile", help="measurements: list, compare, export, import and prune them")
    actions = profile.add_subparsers(dest="action", required=True, metavar="ACTION")
    _profile_list(actions)
    _profile_diff(actions)
    _profile_prune(actions)
    export = actions.add_parser("export", help="an SLMProfile with its measurements, ready to be applied elsewhere")
    export.add_argument("name", metavar="NAME", help="an SLMProfile")
    export.add_argument("-o", "--output", metavar="FILE", default="-", help="where to write (default stdout)")
    force(export)
    cluster(export)
    _profile_import(actions)


def _profile_list(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = actions.add_parser("list", help="what is measured, who uses it, and what it cost")
    one.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    form(one, "json")
    cluster(one)


def _profile_diff(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    diff = actions.add_parser(
        "diff",
        help="what differs between two measurements, point by point",
        description="What was measured differently, and by how much each point that both have differs. Both may be files: "
        "no cluster is asked then.",
    )
    for name in ("A", "B"):
        what = "an SLMProfile of the cluster, or a file (./NAME where both are there)"
        diff.add_argument(f"of_{name.lower()}", metavar=name, help=what)
    form(diff, "json")
    cluster(diff)


def _profile_prune(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prune = actions.add_parser(
        "prune",
        help="delete profiles that the operator made and that nobody uses; shows them unless you say --yes",
        description="The SLMProfiles that the operator made and that no SLMDeployment has used for a while. Nothing is "
        "deleted without --yes; what you made or imported never is.",
    )
    prune.add_argument(
        "--unused-for",
        type=number(tuning.Bounds(least=0)),
        default=30.0,
        metavar="DAYS",
        help="how long nobody may have used them (default 30)",
    )
    prune.add_argument("--yes", action="store_true", help="delete them")
    form(prune, "json")
    cluster(prune)


def _profile_import(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    take = actions.add_parser(
        "import", help="make an SLMProfile from an exported one, a measurement document, or results of other benchmarks"
    )
    take.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        required=True,
        help="what was exported, or a document; or result files of other benchmarks (docs/how-to/your-own-data.md), one -f each; - is stdin",
    )
    take.add_argument("--name", metavar="NAME", help="name of the new SLMProfile (default: the exported one's)")
    take.add_argument("--model", metavar="URI", help="which model other benchmarks measured, as spec.model.uri")
    take.add_argument("--gpu", metavar="PRODUCT", help="on which GPU, as its node's label nvidia.com/gpu.product")
    cluster(take)


def _check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check",
        help="whether the cluster and your rights are ready, with the remedy for what is not",
        description="Whether the cluster and your rights are ready: the operator, NVIDIA's device plugin and the nodes "
        "that opted in, each finding with its remedy. Exit code 1 when something must be fixed first.",
    )
    form(check, "json")
    cluster(check)


def _support(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    support = commands.add_parser(
        "support",
        help="one archive that tells what is going on, without secrets, for whoever helps you",
        description="Gather deployments, profiles, their pods and events, nodes, the operator's log and the findings of "
        "`check` into one archive. Secrets are never read; values of variables, foreign annotations and user fields "
        "that may hold one are replaced.",
    )
    support.add_argument(
        "-o", "--output", metavar="FILE", default="slm-support.tgz", help="where to write (default slm-support.tgz)"
    )
    force(support)
    cluster(support)
