"""`kubectl slm plan`: what would be deployed for a manifest, before it is applied.

With measurements (a file's, or those that the cluster holds for it) that is the advice. With the model's config.json,
or the folder that it lies in with the weights, it is an estimate, which says so. With neither, it says which profile would be measured and what that may cost. Changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.architecture import ConfigError, longest_sequence, read_architecture
from slm_core.engines.registry import engine_of
from slm_core.measurements import Workload

from slm_operator.advisor.validate import AdviceError
from slm_operator.cli.cluster import ask
from slm_operator.cli.commands.advise import show
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import from_manifest
from slm_operator.cli.inputs.manifests import deployment
from slm_operator.cli.inputs.models import model
from slm_operator.cli.inputs.profile_of import Found, profile_of
from slm_operator.cli.inputs.question import advice_on
from slm_operator.cli.render.packs import divided
from slm_operator.cli.render.story import show_sentence, show_unmeasured
from slm_operator.estimator.estimate import Subject, advise_unmeasured, estimate_ledger
from slm_operator.estimator.gpus import find_accelerator
from slm_operator.planning.deployment.advising import as_asked, settings_of, slo_of

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.estimator.gpus import Accelerator


def run(arguments: Namespace) -> int:
    """Print the plan."""
    raw, spec = deployment(arguments.filename)
    if arguments.config is not None:
        return _estimate(arguments, spec)
    found = _found(arguments, raw, spec)
    document = found.document
    if document is None:
        show_unmeasured(found, spec)
        return 0
    advice = advice_on(as_asked(spec.workload, document), slo_of(spec.slo), settings_of(spec))
    show(advice, document.ledger, engine_of(spec.engine.command), arguments.output)
    if arguments.output == "table" and (sentence := divided(spec, advice, document.ledger)) is not None:
        show_sentence(sentence)
    return 0


def _estimate(arguments: Namespace, spec: SLMDeploymentSpec) -> int:
    gpu = _accelerator(arguments, spec)
    subject = _subject(arguments.config, gpu, spec)
    try:
        advice = advise_unmeasured(spec.model.uri, subject, slo_of(spec.slo), settings_of(spec))
    except AdviceError as error:
        raise Refused(str(error)) from None
    show(advice, estimate_ledger(subject.model, gpu), engine_of(spec.engine.command), arguments.output)
    return 0


def _accelerator(arguments: Namespace, spec: SLMDeploymentSpec) -> Accelerator:
    product = arguments.gpu or spec.accelerator.product
    if product is None:
        raise Refused("an estimate is for a kind of GPU: give --gpu, or spec.accelerator.products")
    found = find_accelerator(product, memory_bytes=arguments.gpu_memory_bytes)
    if found is None:
        raise Refused(f"the memory of {product} is not known here: give --gpu-memory-bytes")
    return found


def _subject(config: str, gpu: Accelerator, spec: SLMDeploymentSpec) -> Subject:
    """The model as this manifest serves it: every field and argument that changes memory changes it, or is named."""
    lengths = Workload(
        source="spec.workload",
        input_tokens_mean=float(spec.workload.input_tokens),
        output_tokens_mean=float(spec.workload.output_tokens),
    )
    said = engine_of(spec.engine.command).memory_options(spec.engine.args)
    try:
        raw, checkpoint = model(config)
        counted = read_architecture(
            raw, kv_dtype=said.kv_dtype, dtype=spec.engine.dtype, quantization=said.quantization, checkpoint=checkpoint
        )
    except ConfigError as error:
        raise Refused(f"{config}: {error}") from None
    return Subject(
        model=counted,
        gpu=gpu,
        workload=lengths,
        max_model_len=spec.engine.max_model_len or longest_sequence(raw),
        weights_from="its weight files" if checkpoint else "the model's configuration",
        not_followed=said.not_followed,
    )


def _found(arguments: Namespace, raw: dict[str, Any], spec: SLMDeploymentSpec) -> Found:
    """What the file that was given holds, else what the cluster has measured of this."""
    if arguments.profile:
        return Found(name=arguments.profile, document=from_manifest(arguments.profile))
    if arguments.namespace is None:
        arguments.namespace = (raw.get("metadata") or {}).get("namespace")
    return ask(arguments, lambda cluster: profile_of(cluster, raw, spec))
