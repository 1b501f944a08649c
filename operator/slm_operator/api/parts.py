"""Parts that both kinds share: model, engine, workload."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from slm_core import tuning
from slm_core.engines.registry import ENGINES

from slm_operator.api import owned_flags
from slm_operator.api.addresses import ONE_REVISION, DatasetAddress, ImageReference, ModelAddress
from slm_operator.api.base import Form, NameReference, ObjectName, Part, Text, cel, map_by, validations, within
from slm_operator.api.kubernetes import DataKey, EnvVarSource

Revision = Annotated[str, Field(max_length=128), Form(r"\S+", "a revision is a commit, tag or digest, without blanks")]


class MeasuredModel(Part):
    """Which model, and from where."""

    model_config = validations(ONE_REVISION)
    uri: ModelAddress
    """Where the model is: hf://org/name, pvc://claim/path, s3://bucket/path, oci://registry/image, or an absolute path in the engine image."""
    revision: Revision | None = None
    """Commit, tag or digest to serve. Default: what the source calls newest when an engine starts; pin it, so that replicas agree."""
    remote_code: Literal["Never", "Trusted"] = "Never"
    """Trusted: run Python code that comes with the model. It runs with the replica's rights: read it first."""
    credentials_secret_ref: NameReference | None = None
    """Secret with HF_TOKEN, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. It is referenced by pods and never read by the operator."""


class ModelSpec(MeasuredModel):
    """Which model to serve, and from where."""

    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Name under which clients ask for the model. Default: the name of the SLMDeployment."""


_OTHERS_SHARE = (
    "it decides which GPU, or how much of one, an engine has: that is the device plugin's and the operator's to say"
)
_OF_THE_PLUGIN = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_REFUSED = {name: why for engine in ENGINES for name, why in engine.refused_variables.items()}


def refused_variable(name: str) -> str | None:
    """Why no container of ours may have an environment variable; None when it may."""
    if name in _OF_THE_PLUGIN or name.startswith("CUDA_MPS_"):
        return _OTHERS_SHARE
    return _REFUSED.get(name)


def _taken_variable(name: str) -> str:
    why = refused_variable(name)
    if why is not None:
        raise PydanticCustomError("variable", "{message}", {"message": f"{name}: {why}"})
    return name


class EnvVar(Part):
    """An environment variable of the engine."""

    model_config = validations(
        cel(f"!(self.name in {list(_OF_THE_PLUGIN)}) && !self.name.startsWith('CUDA_MPS_')", _OTHERS_SHARE),
        *(cel(f"self.name != '{name}'", f"{name}: {why}") for name, why in _REFUSED.items()),
        cel("!(has(self.value) && has(self.valueFrom))", "give value or valueFrom, not both"),
    )
    name: Annotated[
        str,
        Field(max_length=253),
        Form(r"[ -<>-~]+", "the name of a variable is ASCII without '=': the value goes into the field value"),
        AfterValidator(_taken_variable),
    ]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value."""
    value_from: EnvVarSource | None = None
    """Where the value comes from, as in a container."""


class EngineSpec(Part):
    """An engine, as far as it is measured."""

    model_config = validations(
        *(cel(rule, why, field=".args") for rule, why in owned_flags.rules()),
        cel(*owned_flags.command_rule(), field=".command"),
    )
    image: ImageReference | None = None
    """Container image of the engine. The profile is measured in this very image. Default: config.defaults.engineImage of the operator's chart, as it was when an SLMDeployment was made (status.defaults), or when an SLMProfile was measured."""
    command: Annotated[list[Text], Field(max_length=16)] | None = None
    """Command of a program that takes what `vllm serve` takes: the model first, then flags, the operator's last. Default: vllm serve."""
    args: Annotated[list[Text], Field(max_length=64)] = []
    """Further arguments for the engine, for measuring and for serving alike."""
    env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=map_by("name"))] = []
    """Environment of the engine by name, for measuring and for serving alike."""
    max_model_len: Annotated[int, Field(ge=16, le=10_000_000)] | None = None
    """Longest sequence in tokens, prompt and output together. Default: the model's own limit."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Data type of weights and activations."""


class SecretKey(Part):
    """A key of a Secret of this namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: DataKey = "api-key"
    """The key in it."""


class ServedEngine(EngineSpec):
    """The engine that serves the model."""

    api_key_secret_ref: SecretKey | None = None
    """Secret with the key that clients must send (Authorization: Bearer ...), which the kubelet gives to the engine and the operator never reads. Health and metrics are answered without one. The model is measured without it: who renews the key measures nothing anew. Default: no key is asked for."""


class WorkloadSpec(Part):
    """The load to measure and to decide for."""

    model_config = validations(
        cel(
            "!(has(self.concurrencyPerGpu) && has(self.requestsPerSecondPerGpu))",
            "give concurrencyPerGpu or requestsPerSecondPerGpu, not both: one follows from the other",
        ),
    )
    input_tokens: Annotated[int, within(tuning.INPUT_TOKENS)] = tuning.INPUT_TOKENS.default
    """Mean prompt length in tokens. Ignored when a dataset is named."""
    output_tokens: Annotated[int, within(tuning.OUTPUT_TOKENS)] = tuning.OUTPUT_TOKENS.default
    """Mean output length in tokens. Ignored when a dataset is named."""
    dataset: DatasetAddress | None = None
    """File of conversations or token counts whose lengths are used: pvc://claim/path, or a path in the engine image. docs/how-to/your-own-data.md says which are read."""
    concurrency_per_gpu: Annotated[int, within(tuning.CONCURRENCY)] | None = None
    """Requests in flight, per GPU, to decide for. Default: full batches, which is where packs win; with thin traffic they lose."""
    requests_per_second_per_gpu: Annotated[float, within(tuning.REQUESTS_PER_SECOND)] | None = None
    """Requests per second, per GPU, to decide for, instead of concurrencyPerGpu: the profile turns them into requests in flight, and measures at that load."""
