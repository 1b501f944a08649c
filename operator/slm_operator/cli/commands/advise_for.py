"""`kubectl slm advise --for`: what the flags of an engine that somebody else runs cost, and the change to it.

Reads the workload, finds measurements, asks the advisor, and writes the answer. Changes nothing: a change is text, for a pull
request. Every change is applied to what was read and read again before it is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from slm_core.engines.base import Advised
from slm_core.sharing.exclusive import EXCLUSIVE

from slm_operator.advisor.advice import Objective
from slm_operator.advisor.present import difference, present
from slm_operator.api import names
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measurements
from slm_operator.cli.inputs.question import advice_on, settings_of, slo_of
from slm_operator.cli.inputs.validation import sentence
from slm_operator.cli.inputs.workloads.fit import cautions
from slm_operator.cli.inputs.workloads.read import in_cluster, of_cluster, of_file
from slm_operator.cli.inputs.workloads.to_measure import least_efficiency, profile
from slm_operator.cli.render.patches.forms import FORMS, Change, as_yaml
from slm_operator.cli.render.patches.operations import applied, operations
from slm_operator.cli.render.running import Answer, as_json, as_markdown, headline, show
from slm_operator.cli.support import private_file

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.engines.base import Batching
    from slm_core.measurements import MeasurementDocument

    from slm_operator.advisor.advice import Advice, Settings
    from slm_operator.cli.cluster import Cluster
    from slm_operator.cli.inputs.workloads.base import Raw, RunningEngine
    from slm_operator.cli.inputs.workloads.read import Found
    from slm_operator.cli.inputs.workloads.watched import Doing

NO_ANSWER = 1


@dataclass(frozen=True, slots=True)
class _Asked:
    found: Found
    document: MeasurementDocument | None


def run(arguments: Namespace) -> int:
    """Print or write the answer. Exit code 1 where nothing was measured yet."""
    if arguments.to is not None and arguments.output not in FORMS:
        raise Refused(f"--to is for a change: give -o {', '.join(FORMS)} with it")
    if arguments.metrics is not None and not arguments.metrics.startswith(("http://", "https://")):
        raise Refused(f"--metrics {arguments.metrics}: give an address, as http://localhost:8000/metrics")
    asked = _asked(arguments)
    running = asked.found.engine()
    if arguments.output == "slmprofile":
        print(as_yaml(_checked(profile(running, arguments), arguments)), end="")  # noqa: T201
        return 0
    if asked.document is None:
        return _unmeasured(arguments, running)
    answer = _answer(arguments, asked, running, asked.document)
    if arguments.output in FORMS:
        _write(arguments, answer)
    elif arguments.output == "table":
        show(answer)
    else:
        _print(as_json(answer), arguments.output)
    return 0


def _asked(arguments: Namespace) -> _Asked:
    """The workload, and what was measured of it: in the files that were given, else in the cluster that it runs in."""
    given = measurements(arguments) if arguments.filename is not None or arguments.from_csv is not None else None
    at = in_cluster(arguments.workload)
    if at is None:
        return _Asked(of_file(arguments.workload), given)
    from slm_operator.cli.cluster import ask  # noqa: PLC0415 - a file needs no cluster
    from slm_operator.cli.inputs.profile_of import profile_with  # noqa: PLC0415 - the same
    from slm_operator.manifests.profile_key import profile_key  # noqa: PLC0415 - the same

    async def look(cluster: Cluster) -> _Asked:
        found = await of_cluster(cluster, *at)
        if given is not None or arguments.output == "slmprofile":
            return _Asked(found, given)
        manifest = _checked(profile(found.engine(), arguments), arguments)
        spec = SLMProfileSpec.model_validate(manifest["spec"])
        return _Asked(found, (await profile_with(cluster, profile_key(spec), manifest["metadata"]["name"])).document)

    return ask(arguments, look)


def _checked(manifest: Raw, arguments: Namespace) -> Raw:
    """The manifest, as an API server would take it. Raises Refused with all that it would say."""
    from slm_operator.cli.inputs.manifests import taken  # noqa: PLC0415 - it loads CEL, which an answer does not need

    kept = taken(manifest, names.PROFILE_KIND, f"{arguments.workload}, as an SLMProfile")
    try:
        SLMProfileSpec.model_validate(kept["spec"])
    except ValidationError as error:
        raise Refused(f"{arguments.workload}, as an SLMProfile: {sentence(error, 'spec')}") from None
    return manifest


def _unmeasured(arguments: Namespace, running: RunningEngine) -> int:
    """What to measure, and how."""
    said = (
        f"Nothing is known of {running.subject} that was measured. Measure it: `kubectl slm advise --for {arguments.workload} "
        "-o slmprofile | kubectl apply -f -` where the operator runs, which changes nothing else; then ask again, with -f and its "
        "`kubectl slm profile export` where that is another cluster. Or give results of a benchmark with -f "
        "(docs/how-to/your-own-data.md)."
    )
    if arguments.output != "table":
        raise Refused(said)
    print(said)  # noqa: T201
    return NO_ANSWER


def _answer(arguments: Namespace, asked: _Asked, running: RunningEngine, document: MeasurementDocument) -> Answer:
    slo, settings = slo_of(arguments), _settings(arguments)
    batching = _batching(running, document, settings)
    cautious = cautions(running, document, batching.max_num_batched_tokens)
    advice = advice_on(document, slo, settings)
    if advice.closest is not None:
        raise Refused(
            f"{running.subject}: no flags keep what was asked: {advice.closest.because}: {advice.closest.remedy}"
        )
    now = present(document, slo, settings, batching.batch_size, batching.because)
    flags = _flags(running, document, advice, settings)
    patch = operations(running, asked.found.raw, flags)
    after = asked.found.engine(applied(asked.found.raw, patch))
    wrong = [name for name, value in flags.items() if _says(after, name) != value]
    if wrong:
        raise Refused(f"{running.subject}: {', '.join(wrong)} cannot be changed where it is given: change it by hand")
    return Answer(
        running=running, document=document, slo=slo, settings=settings, advice=advice, batching=batching, now=now,
        difference=difference(now, advice), flags=flags, cautions=cautious, patch=patch,
        change=Change(raw=asked.found.raw, after=after, patch=patch),
        doing=_doing(arguments, running, document, settings, batching),
    )  # fmt: skip


def _doing(
    arguments: Namespace, running: RunningEngine, document: MeasurementDocument, settings: Settings, batching: Batching
) -> Doing | None:
    """What its own metrics say of it, where somebody named them."""
    if arguments.metrics is None:
        return None
    from slm_operator.cli.inputs.workloads.watched import doing, readings, served_of  # noqa: PLC0415 - it loads an HTTP client

    served = served_of(document, settings, batching)
    seen = readings(arguments.metrics, running.engine, arguments.metrics_seconds)
    return doing(seen, document, slo_of(arguments), settings.engines_per_gpu or 1, served)


def _settings(arguments: Namespace) -> Settings:
    """NB: how many engines share a GPU is not in their manifest: one, unless the user says so."""
    settings = settings_of(arguments)
    if settings.engines_per_gpu is not None:
        return settings
    return replace(settings, mode=EXCLUSIVE.mode, min_efficiency=least_efficiency(arguments))


def _batching(running: RunningEngine, document: MeasurementDocument, settings: Settings) -> Batching:
    gpu, version = document.gpu, running.version
    if running.container.image is not None and running.container.image == document.engine.image:
        version = document.engine.version
    return running.engine.batching_of(running.line, version, settings.gpu_memory_bytes or gpu.memory_bytes, gpu.product)


def _flags(
    running: RunningEngine, document: MeasurementDocument, advice: Advice, settings: Settings
) -> dict[str, str | None]:
    """What is to be set.

    NB: tokens of a step only where the chosen point tells them: the advice falls back on the engine's smallest default.
    """
    served, engine = advice.configuration, running.engine
    chosen = next((c.point for c in advice.candidates if c.chosen), None)
    engines = served.engines_per_gpu
    advised = Advised(
        batch_size=served.batch_size,
        max_num_batched_tokens=None if chosen is None else chosen.max_num_batched_tokens,
        kv_bytes=served.kv_cache_bytes,
        memory_fraction=engine.fraction_while_serving(engines, document.ledger) if engines > 1 else None,
        frees_memory=settings.objective is Objective.FREE_MEMORY,
    )
    return engine.advised_flags(running.line, advised)


def _says(after: RunningEngine, name: str) -> str | None:
    flag = after.line.last(name)
    return None if flag is None else flag.value


def _write(arguments: Namespace, answer: Answer) -> None:
    if arguments.output == "kustomize" and not answer.patch:  # which takes no empty patch
        print(f"{headline(answer)} Nothing is written.")  # noqa: T201
        return
    files = FORMS[arguments.output](answer.change)
    if arguments.to is None:
        if len(files) > 1:
            raise Refused(f"-o {arguments.output} is {len(files)} files: give a folder for them with --to")
        (text,) = files.values()
        print(text, end="")  # noqa: T201
        return
    from slm_operator.report.page import page  # noqa: PLC0415 - only a folder has it
    from slm_operator.report.view import scene  # noqa: PLC0415 - the same

    html = page(scene(answer.document, answer.advice, answer.slo, answer.settings))
    folder = Path(arguments.to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror or error}: give a folder that can be written") from None
    for name, text in (files | {"advice.md": as_markdown(answer), "report.html": html}).items():
        private_file.write(folder / name, text.encode(), force=arguments.force)
        print(folder / name)  # noqa: T201


def _print(values: Raw, form: str) -> None:
    if form == "yaml":
        print(as_yaml(values), end="")  # noqa: T201
        return
    from slm_operator.cli.render.for_scripts import print_json  # noqa: PLC0415

    print_json(values)
