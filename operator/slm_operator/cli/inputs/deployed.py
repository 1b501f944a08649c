"""What a deployment of the cluster was decided from: its profile's measurements, its SLO, its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.cluster import Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measured
from slm_operator.cli.inputs.profiles import rested_on
from slm_operator.cli.inputs.validation import sentence
from slm_operator.planning.deployment.advising import as_asked, settings_of, slo_of

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings


def question(arguments: Namespace) -> tuple[MeasurementDocument, Slo, Settings]:
    """The question that the operator asked the advisor for `arguments.name`. Raises Refused before it is measured."""

    async def look(cluster: Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
        deployment = await cluster.deployment(arguments.name)
        used = rested_on(deployment, cluster.namespace)
        if used is None:
            raise Refused(f"SLMDeployment {arguments.name} has no profile yet: `kubectl slm explain` says why")
        return deployment, await cluster.profile(used[1], used[0])

    deployment, profile = ask(arguments, look)
    document = measured(profile, f"SLMProfile {profile['metadata']['name']}")
    if document is None:
        raise Refused(
            f"SLMProfile {profile['metadata']['name']} holds no measurements yet: `kubectl slm watch` shows progress"
        )
    try:
        spec = SLMDeploymentSpec.model_validate(deployment["spec"])
    except ValidationError as error:
        raise Refused(f"SLMDeployment {arguments.name}: {sentence(error, 'spec')}") from None
    return as_asked(spec.workload, document), slo_of(spec.slo), settings_of(spec)
