"""`kubectl slm plan`: what would be deployed for a manifest, before it is applied.

With measurements (a file's, or those that the cluster holds for it) that is the advice. With the model's config.json,
or the folder that it lies in with the weights, it is an estimate, which says so. With neither, it says which profile would be measured and what that may cost. Changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from slm_core.architecture import ConfigError, longest_sequence, read_architecture
from slm_core.engines.registry import engine_of
from slm_core.measurements import Workload

from slm_operator.advisor.validate import AdviceError
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.cli.cluster import PROFILE, Cluster, ask
from slm_operator.cli.commands.advise import show
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import from_manifest, measured
from slm_operator.cli.inputs.manifests import deployment
from slm_operator.cli.inputs.models import model
from slm_operator.cli.inputs.question import advice_on
from slm_operator.cli.render.story import show_unmeasured
from slm_operator.estimator.estimate import Subject, advise_unmeasured, estimate_ledger
from slm_operator.estimator.gpus import find_accelerator
from slm_operator.kube.errors import NotFound
from slm_operator.manifests.profile import profile_name, profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.planning.deployment.advising import as_asked, settings_of, slo_of

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.estimator.gpus import Accelerator


def run(arguments: Namespace) -> int:
    """Print the plan."""
    raw, spec = deployment(arguments.filename)
    if arguments.config is not None:
        return _estimate(arguments, spec)
    name = spec.profiling.profile_name or profile_name(spec)
    document = from_manifest(arguments.profile) if arguments.profile else _held(arguments, raw, spec)
    if document is None:
        show_unmeasured(name, spec)
        return 0
    show(
        advice_on(as_asked(spec, document), slo_of(spec.slo), settings_of(spec)),
        document.ledger,
        engine_of(spec.engine.command),
        arguments.output,
    )
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


def _held(arguments: Namespace, raw: dict[str, Any], spec: SLMDeploymentSpec) -> MeasurementDocument | None:
    """What the cluster has measured of this, in the manifest's namespace: of the name that spec gives, else by its key."""
    named, key = spec.profiling.profile_name, profile_key(profile_spec(spec))

    async def look(cluster: Cluster) -> list[dict[str, Any]]:
        if named is None:
            return [one for one in await cluster.client.list(PROFILE, cluster.namespace) if _key_of(one) == key]
        try:
            return [await cluster.profile(named)]
        except NotFound:
            return []

    if arguments.namespace is None:
        arguments.namespace = (raw.get("metadata") or {}).get("namespace")
    found = [measured(one, f"SLMProfile {one['metadata']['name']}") for one in ask(arguments, look)]
    documents = [one for one in found if one is not None]
    return max(documents, key=lambda one: one.measured_at or "", default=None)


def _key_of(raw: dict[str, Any]) -> str | None:
    """NB: a profile that this version cannot read is none of ours."""
    try:
        return profile_key(SLMProfileSpec.model_validate(raw.get("spec")))
    except ValidationError:
        return None
