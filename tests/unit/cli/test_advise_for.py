"""`kubectl slm advise --for`: what somebody's flags cost, and the change to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonpatch
import pytest
import yaml
from slm_core.codec import to_json
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.cli.main import main
from slm_operator.manifests.profile_key import profile_key
from unit.cli.asking import BATCH, MEASURED, SLO, Asker, container

from tests.builders import engines, point
from tests.builders.engines import IMAGE, MODEL, PRODUCT, deployment

if TYPE_CHECKING:
    from unit.cli.api_server import ApiServer


def test_flags_that_break_the_slo_are_said_with_what_keeps_it(ask: Asker) -> None:
    code, out, _ = ask(deployment(container(f"{BATCH}=128")))
    said = " ".join(out.split())
    assert code == 0
    assert "Deployment team/chat runs with at most 128 sequences at once and breaks the SLO: --max-num-seqs 64" in said
    assert "15,238 tokens/s at a mean ITL of 16.8 ms, measured; mean ITL 16.8 ms exceeds 12.0 ms." in said
    assert "Advised: 12,308 tokens/s at a mean ITL of 10.4 ms, as measured." in said
    assert "The change: 19.2% fewer tokens/s, at a mean ITL that is 38.1% shorter." in said


def test_flags_that_lose_throughput_are_said_with_how_much(ask: Asker) -> None:
    found = ask.values(deployment(container(f"{BATCH}=8")))
    assert (found["now"]["standing"], found["now"]["figures"]["source"]) == ("Keeps", "Measured")
    assert found["difference"]["throughput"] == pytest.approx((64 / 10.4) / (8 / 4.8) - 1)
    assert found["flags"] == {BATCH: "64", "--max-num-batched-tokens": "8192"}
    assert found["cautions"] == []
    assert found["advice"]["configuration"]["batchSize"] == 64


def test_default_of_the_engine_is_its_batch(ask: Asker) -> None:
    """256 on a GPU of 64 GiB, which is more than was measured: no figures, and still a verdict."""
    now = ask.values(deployment(container()))["now"]
    assert (now["batchSize"], now["figures"], now["standing"]) == (256, None, "Breaks")
    assert now["batchSizeBecause"] == f"--max-num-seqs is not given: the default of vLLM 0.32.0 on {PRODUCT}"


def test_workload_that_runs_as_advised_needs_no_change(ask: Asker) -> None:
    raw = deployment(container(f"{BATCH}=64", "--max-num-batched-tokens=8192"))
    assert ask.values(raw)["patch"] == []
    assert "Deployment team/chat runs with what is advised." in ask(raw)[1]
    folder = ask.folder / "advice"
    assert ask(raw, "-o", "kustomize", "--to", str(folder))[:2] == (
        0, "Deployment team/chat runs with what is advised. Nothing is written.\n",
    )  # fmt: skip
    assert not folder.exists()


KINDS = {
    "Deployment": deployment(container(f"{BATCH}=8")),
    "KubeAI": engines.kubeai_model(image=IMAGE, args=[f"{BATCH}=8"]),
    "LLMInferenceService": engines.llm_inference_service(args=[f"{BATCH}=8"]),
}


@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
def test_every_kind_gets_the_same_decision(raw: dict[str, Any], ask: Asker) -> None:
    found = ask.values(raw)
    assert found["flags"][BATCH] == "64"
    assert found["now"]["figures"]["itlMs"] == 4.8
    after = jsonpatch.apply_patch(raw, found["patch"])
    assert ask.values(after)["patch"] == []


def test_patch_of_a_pull_request_comes_with_words_and_report(ask: Asker) -> None:
    folder = ask.folder / "advice"
    code, out, _ = ask(deployment(container(f"{BATCH}=8")), "-o", "kustomize", "--to", str(folder))
    assert code == 0
    names = {"advice-patch.yaml", "kustomization.yaml", "advice.md", "report.html"}
    assert {path.name for path in folder.iterdir()} == {line.rpartition("/")[2] for line in out.splitlines()} == names
    body = (folder / "advice.md").read_text()
    assert body.startswith("Deployment team/chat runs with at most 8 sequences at once: --max-num-seqs 64")
    assert "| --max-num-seqs | 8 | 64 |" in body
    assert "<html" in (folder / "report.html").read_text()
    assert ask(deployment(container(f"{BATCH}=8")), "-o", "kustomize", "--to", str(folder))[0] == 2
    assert ask(deployment(container(f"{BATCH}=8")), "-o", "kustomize", "--to", str(folder), "--force")[0] == 0


def test_several_engines_on_a_gpu_are_the_users_word(ask: Asker) -> None:
    packed = replace(
        MEASURED, points=(*MEASURED.points, point(32, replicas=2, confirmed=True, max_num_batched_tokens=8192))
    )
    raw = deployment(container(f"{BATCH}=8", resources={"limits": {"nvidia.com/gpu.shared": "1"}}))
    alone = ask.values(raw, measured=packed)
    assert alone["advice"]["configuration"]["enginesPerGpu"] == 1
    assert "It asks for nvidia.com/gpu.shared, a part of a GPU: say with --engines-per-gpu" in alone["cautions"][0]
    both = ask.values(raw, "--engines-per-gpu", "2", "--mode", "MPS", measured=packed)
    assert both["advice"]["configuration"]["enginesPerGpu"] == 2
    assert {"--kv-cache-memory-bytes", "--gpu-memory-utilization"} < set(both["flags"])


def test_pool_is_set_only_where_it_must_be(ask: Asker) -> None:
    """Nobody else could use what an engine with a GPU of its own leaves free."""
    pool = "--kv-cache-memory-bytes"
    raw = deployment(container(f"{BATCH}=8"))
    assert pool not in ask.values(raw)["flags"]
    assert pool in ask.values(raw, "--objective", "FreeMemory")["flags"]
    assert pool in ask.values(deployment(container(f"{pool}=1G")))["flags"]
    assert pool not in ask.values(deployment(container(f"{pool}=40G")))["flags"]


def test_batch_that_keeps_the_slo_is_never_made_slower(ask: Asker) -> None:
    """The advice for one engine beside others stops where a batch gains too little; alone on its GPU it need not."""
    flat = replace(
        MEASURED, points=(point(1, itl=4.0), point(32, itl=20.0), point(128, itl=60.0), point(256, itl=100.0))
    )
    code, out, _ = ask(deployment(container(f"{BATCH}=256")), "--itl-ms", "200", "-o", "json", measured=flat)
    found = json.loads(out)
    assert (code, found["now"]["standing"], found["flags"][BATCH]) == (0, "Keeps", "256")
    code, out, _ = ask(deployment(container()), "--itl-ms", "200", "--epsilon", "0.15", "-o", "json", measured=flat)
    assert json.loads(out)["flags"][BATCH] == "32"


def test_least_cost_of_a_gpu_is_the_most_tokens_here_too(ask: Asker) -> None:
    flat = replace(
        MEASURED, points=tuple(point(b, itl=b / 2 + 8, max_num_batched_tokens=8192) for b in (1, 8, 32, 256))
    )
    raw = deployment(container())
    by_cost, by_speed = (
        ask.values(raw, "--itl-ms", "200", *more, measured=flat)["flags"]
        for more in (("--objective", "CostPerToken"), ())
    )
    assert by_cost == by_speed


CAUTIONS = {
    "a version": (container(image="vllm/vllm-openai:v0.31.0"), "Measured was vllm 0.32.0, and it runs 0.31.0"),
    "an image of nobody": (container(image="own/vllm:1"), "Whether it is the engine that was measured is not known"),
    "an argument": (container("--enforce-eager"), "It runs with --enforce-eager, which was not measured."),
    "steps": (
        container("--max-num-batched-tokens=512"),
        "Measured was with steps of up to 8192 tokens, and it takes up to 512",
    ),
    "a path": ({**container(), "args": ["/models/x"]}, "Measured was hf://org/model, and it serves /models/x"),
}


@pytest.mark.parametrize(("own", "sentence"), CAUTIONS.values(), ids=CAUTIONS)
def test_what_must_be_true_for_the_figures_is_said(own: dict[str, Any], sentence: str, ask: Asker) -> None:
    assert any(one.startswith(sentence) for one in ask.values(deployment(own))["cautions"])


def test_nodes_of_any_gpu_are_a_caution(ask: Asker) -> None:
    (said,) = ask.values(deployment(container(), nodeSelector={}))["cautions"]
    assert (
        said
        == f"Measured was on {PRODUCT}, and its pods may run on any: select nodes by the label nvidia.com/gpu.product."
    )


REFUSED: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "another model": (deployment({**container(), "args": ["org/other"]}), (), "it serves hf://org/other, and what was measured is hf://org/model"),
    "another GPU": (
        deployment(container(), nodeSelector={"nvidia.com/gpu.product": "NVIDIA-L4"}), (), "its nodes have NVIDIA-L4, and measured was on",
    ),
    "two GPUs": (deployment(container(resources={"limits": {"nvidia.com/gpu": 2}})), (), "it asks for 2 nvidia.com/gpu"),
    "two GPUs of KubeAI": (engines.kubeai_model(resourceProfile="nvidia-gpu-l4:2"), (), "it asks for 2 nvidia.com/gpu"),
    "an SLO that nothing keeps": (deployment(container()), ("--itl-ms", "1"), "no flags keep what was asked"),
    "a folder that is needed": (deployment(container()), ("-o", "kustomize"), "-o kustomize is 2 files: give a folder for them with --to"),
    "a folder for nothing": (deployment(container()), ("--to", "x"), "--to is for a change: give -o args, json-patch"),
    "no chart": (deployment(container()), ("-o", "helm-values"), "which chart made it"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "more", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refusal_is_a_sentence_and_exit_code_2(raw: Any, more: tuple[str, ...], sentence: str, ask: Asker) -> None:
    code, out, err = ask(raw, *more)
    assert (code, out) == (2, "")
    assert err.startswith("kubectl slm advise: ")
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give measurements with -f or --from-csv, or an engine that you run with --for"),
        (("-f", "x.json", "-o", "args"), "a change to an engine is made for one that you run: give it with --for"),
        (("--for", "nothing.yaml"), "nothing.yaml: No such file or directory"),
        (("--for", "pod/x"), "pod is no kind that is known here"),
    ],
    ids=" ".join,
)
def test_question_without_its_parts_is_refused(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_nothing_measured_is_said_with_what_to_do(ask: Asker) -> None:
    code, out, _ = ask(deployment(container()), measured=None)
    assert code == 1
    assert "Nothing is known of Deployment team/chat that was measured." in out
    assert "-o slmprofile | kubectl apply -f -`" in out
    code, out, err = ask(deployment(container()), "-o", "args", measured=None)
    assert (code, out) == (2, "")
    assert "Nothing is known of Deployment team/chat that was measured." in err


# In a cluster.

PATH = "/apis/apps/v1/namespaces/default/deployments/chat"
PROFILES = "/apis/slm-operator.io/v1alpha1/namespaces/default/slmprofiles"


def served(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "metadata": {"name": "chat", "namespace": "default"}}


def in_cluster(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    code = main(["advise", "--for", "deploy/chat", *SLO, "-n", "default", *more])
    out, err = capsys.readouterr()
    return code, out, err


def test_profile_of_the_cluster_that_fits_is_used(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[PATH] = served(deployment(container(f"{BATCH}=8")))
    server.answers[PROFILES] = {"items": []}
    assert in_cluster(capsys)[0] == 1
    code, out, _ = in_cluster(capsys, "-o", "slmprofile")
    assert code == 0
    manifest = yaml.safe_load(out)
    manifest["metadata"] |= {"uid": "u", "resourceVersion": "1", "name": "by-another-name"}
    measured = manifest | {"status": {"phase": "Complete", "measurements": to_json(MEASURED)}}
    assert profile_key(SLMProfileSpec.model_validate(manifest["spec"]))
    server.answers[PROFILES] = {"items": [measured]}
    code, out, err = in_cluster(capsys, "-o", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["flags"][BATCH] == "64"
    assert {line.partition(" ")[0] for line in server.asked} <= {"GET", "POST"}
    assert server.created == server.patched == []


def test_workload_that_is_not_there_is_a_sentence(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    del server
    code, out, err = in_cluster(capsys)
    assert (code, out) == (2, "")
    assert "there is no Deployment chat in namespace default: `kubectl get deployments -A` lists what there is" in err


@pytest.mark.parametrize("kind", ["ServingRuntime", "ClusterServingRuntime"])
def test_runtime_of_a_service_is_asked_for(kind: str, server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    base, cluster_wide = "/apis/serving.kserve.io", kind.startswith("Cluster")
    server.answers[f"{base}/v1beta1/namespaces/default/inferenceservices/chat"] = engines.inference_service(
        args=[f"{BATCH}=8"]
    )
    where = "clusterservingruntimes" if cluster_wide else "namespaces/default/servingruntimes"
    server.answers[f"{base}/v1alpha1/{where}/vllm"] = engines.runtime(kind)
    code = main(["advise", "--for", "isvc/chat", "-n", "default", "-o", "slmprofile"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["spec"]["model"]["uri"] == f"hf://{MODEL}"
