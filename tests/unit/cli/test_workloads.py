"""What is read of workloads that others run, in every form in which a command line is put together, and what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.read import in_cluster, of_file

from tests.builders import engines
from tests.builders.engines import IMAGE, MODEL, deployment, shell

if TYPE_CHECKING:
    from pathlib import Path

    from slm_operator.cli.inputs.workloads.base import RunningEngine

BATCH = "--max-num-seqs"
API_SERVER = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
KSERVE_SCRIPT = "export MODEL=${MODEL_DIR}\nif [[ -z ${MODEL_DIR} ]]\nthen\n  export MODEL=${MODEL_ID}\nfi\n\nvllm serve ${MODEL} --port 8000 $@\n"


def read(tmp_path: Path, *raws: Any) -> RunningEngine:
    """By way of a file with several documents; JSON is YAML."""
    file = tmp_path / "workload.yaml"
    file.write_text("\n---\n".join(json.dumps(raw) for raw in raws))
    return of_file(str(file)).engine()


def container(**changes: Any) -> dict[str, Any]:
    return {"name": "engine", "image": IMAGE} | changes


READ: dict[str, tuple[Any, ...]] = {
    "arguments of the image": (deployment(container(args=[MODEL, BATCH, "64"])),),
    "a StatefulSet": (deployment(container(args=[MODEL, BATCH, "64"]), kind="StatefulSet"),),
    "the whole command": (deployment(container(command=["vllm", "serve", MODEL, f"{BATCH}=64"])),),
    "command and arguments": (deployment(container(command=["vllm", "serve"], args=[MODEL, BATCH, "64"])),),
    "arguments that bring the command": (deployment(container(args=["vllm", "serve", MODEL, BATCH, "64"])),),
    "the module": (deployment(container(command=API_SERVER, args=["--model", MODEL, "--max_num_seqs=64"])),),
    "a reference to a variable": (
        deployment(container(args=["$(MODEL)", f"{BATCH}=$(SEQS)"], env=[{"name": "MODEL", "value": MODEL}, {"name": "SEQS", "value": "64"}])),
    ),
    "a variable of a variable": (
        deployment(container(args=[MODEL, f"{BATCH}=$(SEQS)"], env=[{"name": "N", "value": "4"}, {"name": "SEQS", "value": "6$(N)"}])),
    ),
    "a reference that is none": (deployment(container(args=[MODEL, "--chat-template", "$$(N)", BATCH, "64"], env=[{"name": "N", "value": "4"}])),),
    "a variable that others use": (deployment(shell(f"export HOME=/tmp PORT=80; vllm serve {MODEL} {BATCH} 64")),),
    "an image of another name": (
        deployment(container(image="own/engine:1", command=["tini", "--", "vllm", "serve", MODEL, BATCH, "64"])),
    ),
    "a shell": (deployment(shell(f"vllm serve {MODEL} {BATCH} 64")),),
    "a shell in arguments": (deployment(container(command=["/bin/bash"], args=["-ec", f"exec vllm serve {MODEL} {BATCH}=64"])),),
    "a shell's lines": (deployment(shell(f"set -e\npip install vllm && exec vllm serve {MODEL} \\\n  {BATCH} '64' # most\n")),),
    "a shell's variables": (deployment(shell(f'vllm serve "$MODEL" {BATCH} "${{SEQS}}" > /tmp/log 2>&1', env={"MODEL": MODEL, "SEQS": "64"})),),
    "a variable with several words": (deployment(shell("vllm serve $ARGS", env={"ARGS": f"{MODEL} --port 80 {BATCH}=64"})),),
    "a reference in a shell": (deployment(shell(f"vllm serve {MODEL} {BATCH} $(SEQS)", env={"SEQS": "64"})),),
    "a default in a shell": (deployment(shell(f"vllm serve {MODEL} {BATCH} ${{SEQS:-64}}")),),
    "arguments behind a shell": (deployment(shell('exec vllm serve "$@"', args=("vllm", MODEL, BATCH, "64"))),) ,
    "a proxy beside it": (deployment(container(args=[MODEL, BATCH, "64"]), {"name": "proxy", "image": "envoyproxy/envoy:v1"}),),
    "KServe": (engines.runtime(), engines.inference_service(args=[f"{BATCH}=64"])),
    "KServe, a default of the runtime": (engines.runtime(args=[f"{BATCH}=64"]), engines.inference_service()),
    "KServe, a default that is overruled": (engines.runtime(args=[f"{BATCH}=8"]), engines.inference_service(args=[f"{BATCH}=64"])),
    "KServe, a cluster's runtime": (engines.runtime("ClusterServingRuntime"), engines.inference_service(args=[f"{BATCH}=64"])),
    "KServe, a shell of the runtime": (
        engines.runtime(command=["bash", "-c", KSERVE_SCRIPT, "bash"], args=[]), engines.inference_service(args=[f"{BATCH}=64"]),
    ),
    "KServe, a container of its own": (
        {
            **engines.inference_service(),
            "spec": {"predictor": {"nodeSelector": {"nvidia.com/gpu.product": engines.PRODUCT}, "containers": [container(args=[MODEL, BATCH, "64"])]}},
        },
    ),
    "LLMInferenceService, arguments": (engines.llm_inference_service(args=[f"{BATCH}=64"]),),
    "LLMInferenceService, a variable": (
        engines.llm_inference_service(env=[{"name": "VLLM_ADDITIONAL_ARGS", "value": f"--port 80 {BATCH} 64"}]),
    ),
    "LLMInferenceService, a command": (engines.llm_inference_service(command=["vllm", "serve", MODEL, BATCH, "64"]),),
    "KubeAI": (engines.kubeai_model(args=[f"{BATCH}=64"]),),
    "a List": ({"apiVersion": "v1", "kind": "List", "items": [deployment(container(args=[MODEL, BATCH, "64"]))]},),
    "another workload in the file": (
        {**deployment({"name": "web", "image": "nginx"}), "metadata": {"name": "web"}}, deployment(container(args=[MODEL, BATCH, "64"])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("raws", READ.values(), ids=READ)
def test_batch_is_read_however_it_is_given(raws: tuple[Any, ...], tmp_path: Path) -> None:
    running = read(tmp_path, *raws)
    said = running.line.last(BATCH)
    assert said is not None
    assert (said.value, running.line.problems) == ("64", ())
    assert running.pod.model_uri == f"hf://{MODEL}" or running.line.model == MODEL


def test_default_of_nobody_is_not_read(tmp_path: Path) -> None:
    assert read(tmp_path, engines.kubeai_model()).line.last(BATCH) is None


def test_image_resources_and_nodes_are_read(tmp_path: Path) -> None:
    of_two = {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "1", "memory": "8Gi"}}
    running = read(
        tmp_path, engines.runtime(resources=of_two), engines.inference_service(resources={"requests": {"cpu": "6"}})
    )
    assert running.container.resources == {"requests": {"cpu": "6"}, "limits": of_two["limits"]}
    assert (running.container.image, running.version, running.gpu_product) == (IMAGE, "0.32.0", engines.PRODUCT)
    assert running.gpus == {"nvidia.com/gpu": 1}
    assert str(running.subject) == "InferenceService team/chat"


REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "no engine": ((deployment({"name": "web", "image": "nginx"}),), "Deployment team/chat: no engine is started in its containers (web)"),
    "two engines": (
        (deployment(None, {"name": "draft", "image": IMAGE, "args": [MODEL]}),),
        "Deployment team/chat: it runs 2 engines, in draft and engine",
    ),
    "two engines of one shell": ((deployment(shell("vllm serve a/b & vllm serve c/d")),), "it runs 2 engines, in engine and engine"),
    "another engine": ((deployment({"name": "s", "image": "lmsysorg/sglang:v1"}),), "container s runs SGLang, and there is advice for vllm only"),
    "another engine of KubeAI": ((engines.kubeai_model(engine="OLlama"),), "spec.engine is OLlama, and there is advice for vllm only"),
    "a contradiction": (
        (deployment(container(args=[MODEL, BATCH, "64", f"{BATCH}=32"])),),
        "container engine: it says --max-num-seqs twice, 64 and 32",
    ),
    "several GPUs": ((deployment(container(args=[MODEL, "-tp", "4"])),), "--tensor-parallel-size 4: there is advice"),
    "a variable of a Secret": (
        (deployment(container(command=["sh", "-c", f"vllm serve {MODEL} $MORE"], env=[{"name": "MORE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])),),
        "$MORE, which comes from Secret s: write those arguments into the workload",
    ),
    "a variable that nobody sets": ((deployment(shell(f"vllm serve {MODEL} ${{MORE}}")),), "${MORE}, which its container does not set"),
    "a variable that the shell sets": (
        (deployment(shell(f"SEQS=64; vllm serve {MODEL} {BATCH} $SEQS", env={"SEQS": "32"})),),
        "$SEQS, which the shell's text itself sets: write those arguments into the workload",
    ),
    "a value that the shell sets": (
        (deployment(shell(f"export SEQS=64 && vllm serve {MODEL} {BATCH}=${{SEQS}}", env={"SEQS": "32"})),), "${SEQS}, which the shell's text itself sets",
    ),
    "a variable that the shell reads": ((deployment(shell(f"read -r SEQS < f; vllm serve {MODEL} {BATCH} $SEQS", env={"SEQS": "32"})),), "text itself sets"),
    "a quote without end": ((deployment(shell(f"vllm serve {MODEL} '{BATCH} 64")),), "a quote in it has no end"),
    "a variable of too many": (
        (deployment(container(args=[MODEL, f"{BATCH}=$(A9)"], env=[{"name": "A0", "value": "6" * 1000}, *({"name": f"A{n}", "value": f"$(A{n - 1})" * 10} for n in range(1, 10))])),),
        "--max-num-seqs says $(A",
    ),
    "a substitution": ((deployment(shell(f"vllm serve {MODEL} {BATCH} $(nproc --all)")),), "a shell's substitution"),
    "no runtime": ((engines.inference_service(),), "its runtime vllm is not beside it: put it into the file"),
    "a runtime that is not named": (
        (engines.inference_service(runtime_name=None), engines.runtime(), engines.runtime(name="b")), "names no runtime, and 2 are beside it",
    ),
    "a runtime without its container": (
        ({**engines.runtime(), "spec": {"containers": []}}, engines.inference_service()), "ServingRuntime vllm has no container kserve-container",
    ),
    "prefill apart": (
        ({**engines.llm_inference_service(), "spec": {"prefill": {}, "template": {}}},), "spec.prefill: prefill and decode run in engines",
    ),
    "several nodes": (
        ({**engines.inference_service(), "spec": {"predictor": {"model": {}, "workerSpec": {}}}},), "spec.predictor.workerSpec: it is one engine over several GPUs",
    ),
    "workers": (({**engines.llm_inference_service(), "spec": {"worker": {}, "template": {}}},), "spec.worker: it is one engine over several"),
    "parallelism": (({**engines.llm_inference_service(), "spec": {"parallelism": {"tensor": 2}}},), "spec.parallelism.tensor 2: it is one engine"),
    "no container": (({**engines.llm_inference_service(), "spec": {}},), "spec.template has no container: add one with name main"),
    "no workload": (({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}},), "no workload that may run an engine in it (Service)"),
    "two workloads": ((deployment(), {**deployment(), "metadata": {"name": "b"}}), "Deployment chat and Deployment b: give one of them"),
    "nothing": (({},), "no workload that may run an engine in it (nothing)"),
}  # fmt: skip


@pytest.mark.parametrize(("raws", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_advised_is_named(raws: tuple[Any, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        read(tmp_path, *raws)
    assert sentence in str(refused.value)


def test_workload_of_a_cluster_is_a_kind_and_a_name(tmp_path: Path) -> None:
    for kind in ("deploy", "Deployment", "deployments", "deployments.apps"):
        found = in_cluster(f"{kind}/chat")
        assert found is not None
        assert (found[0].resource.kind, found[1]) == ("Deployment", "chat")
    for what in ("isvc/a", "llmisvc/a", "sts/a", "models.kubeai.org/a"):
        assert in_cluster(what) is not None
    assert in_cluster(str(tmp_path)) is None
    assert in_cluster("manifests/chat.yaml") is None
    with pytest.raises(Refused, match="--for pod/chat: pod is no kind that is known here"):
        in_cluster("pod/chat")


SHAPES = [
    deployment(), engines.inference_service(), engines.llm_inference_service(), engines.kubeai_model(args=["--seed=1"]),
    deployment(shell(f"vllm serve {MODEL} {BATCH} 64", env={"A": "b"})),
]  # fmt: skip


def _spoilt(value: Any, wrong: Any) -> list[Any]:
    """The same value, once for each place in it, with something else there."""
    found = [wrong]
    if isinstance(value, dict):
        found += [value | {key: one} for key, inner in value.items() for one in _spoilt(inner, wrong)]
    if isinstance(value, list):
        found += [
            [*value[:at], one, *value[at + 1 :]] for at, inner in enumerate(value) for one in _spoilt(inner, wrong)
        ]
    return found


@pytest.mark.parametrize("wrong", [None, 7, "text", [], {}, [None], {"a": None}, True], ids=str)
def test_object_of_a_wrong_shape_is_a_sentence(wrong: Any, tmp_path: Path) -> None:
    """No traceback, wherever the wrong value stands."""
    for shape in SHAPES:
        for raw in _spoilt(shape, wrong):
            with contextlib.suppress(Refused):
                read(tmp_path, raw, engines.runtime())
