"""Parts that both kinds share: model, engine, workload."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from slm_core import tuning
from slm_core.engines.base import Owner
from slm_core.engines.registry import ENGINES

from slm_operator.api.addresses import ONE_REVISION, DatasetAddress, ImageReference, ModelAddress
from slm_operator.api.base import Form, NameReference, Part, Text, cel, map_by, validations, within
from slm_operator.api.kubernetes import EnvVarSource

_OWNERS = {
    Owner.MODEL: "spec.model.uri",
    Owner.SERVED_NAME: "spec.model.name",
    Owner.REVISION: "spec.model.revision",
    Owner.REMOTE_CODE: "spec.model.remoteCode",
    Owner.MAX_MODEL_LEN: "spec.engine.maxModelLen",
    Owner.DTYPE: "spec.engine.dtype",
    Owner.ADVICE: "the advice",
    Owner.OPERATOR: "the operator",
    Owner.ONE_GPU: "the operator: an engine has one GPU or a share of it",
}
OWNED_FLAGS = {flag: _OWNERS[owner] for engine in ENGINES for flag, owner in engine.owned_flags.items()}
"""Flags of engines that the operator sets, and from what. Given by hand they would contradict what was measured."""


Revision = Annotated[str, Field(max_length=128), Form(r"\S+", "a revision is a commit, tag or digest, without blanks")]


class ModelSpec(Part):
    """Which model to serve, and from where."""

    model_config = validations(ONE_REVISION)
    uri: ModelAddress
    """Where the model is: hf://org/name, pvc://claim/path, s3://bucket/path, oci://registry/image, or an absolute path in the engine image."""
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Name under which clients ask for the model. Default: the name of the SLMDeployment."""
    revision: Revision | None = None
    """Commit, tag or digest to serve. Default: what the source calls newest when an engine starts; pin it, so that replicas agree."""
    remote_code: Literal["Never", "Trusted"] = "Never"
    """Trusted: run Python code that comes with the model. It runs with the replica's rights: read it first."""
    credentials_secret_ref: NameReference | None = None
    """Secret with HF_TOKEN, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. It is referenced by pods and never read by the operator."""


_OTHERS_SHARE = (
    "it decides which GPU, or how much of one, an engine has: that is the device plugin's and the operator's to say"
)
_OPENS_DOORS = (
    "it opens endpoints by which every client may stop or empty the engine: use an engine of your own for that"
)

_DOORS = sorted(name for engine in ENGINES for name in engine.refused_variables)


def refused_variable(name: str) -> str | None:
    """Why no container of ours may have an environment variable; None when it may."""
    if name == "NVIDIA_VISIBLE_DEVICES" or name.startswith("CUDA_MPS_"):
        return _OTHERS_SHARE
    return _OPENS_DOORS if name in _DOORS else None


def _taken_variable(name: str) -> str:
    why = refused_variable(name)
    if why is not None:
        raise PydanticCustomError("variable", "{message}", {"message": f"{name}: {why}"})
    return name


class EnvVar(Part):
    """An environment variable of the engine."""

    model_config = validations(
        cel("self.name != 'NVIDIA_VISIBLE_DEVICES' && !self.name.startsWith('CUDA_MPS_')", _OTHERS_SHARE),
        cel(" && ".join(f"self.name != '{name}'" for name in _DOORS), _OPENS_DOORS),
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


_OWNED_LIST = "[" + ", ".join(f"'{flag}'" for flag in OWNED_FLAGS) + "]"


class EngineSpec(Part):
    """The engine that serves the model."""

    model_config = validations(
        cel(
            f"!has(self.args) || self.args.all(a, !(a.split('=')[0].replace('_', '-') in {_OWNED_LIST}))",
            "args holds a flag that the operator owns (it follows from spec or from the advice): remove it; "
            "docs/api.md lists the owned flags and the fields that replace them",
        ),
    )
    image: ImageReference = ENGINES[0].image
    """Container image of the engine. The profile is measured in this very image."""
    command: Annotated[list[Text], Field(max_length=16)] | None = None
    """Command that starts the OpenAI-compatible server; the operator appends its flags. Default: python3 -m vllm.entrypoints.openai.api_server."""
    args: Annotated[list[Text], Field(max_length=64)] = []
    """Further arguments for the engine, for measuring and for serving alike."""
    env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=map_by("name"))] = []
    """Environment of the engine by name, for measuring and for serving alike."""
    max_model_len: Annotated[int, Field(ge=16, le=10_000_000)] | None = None
    """Longest sequence in tokens, prompt and output together. Default: the model's own limit."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Data type of weights and activations."""


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
    """ShareGPT-style JSON whose lengths are used: pvc://claim/path, or a path in the engine image."""
    concurrency_per_gpu: Annotated[int, within(tuning.CONCURRENCY)] | None = None
    """Requests in flight, per GPU, to decide for. Default: full batches, which is where packs win; with thin traffic they lose."""
    requests_per_second_per_gpu: Annotated[float, within(tuning.REQUESTS_PER_SECOND)] | None = None
    """Requests per second, per GPU, to decide for, instead of concurrencyPerGpu."""
