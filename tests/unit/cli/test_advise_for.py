"""`kubectl slm advise --for`: what somebody's flags cost, the change to them, and the profile to measure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonpatch
import pytest
import yaml
from slm_core.codec import to_json
from slm_core.configuration import EngineConfiguration
from slm_core.counters import Counters
from slm_core.engines import vllm
from slm_core.measurements import Engine, Gpu, Model
from slm_core.slo import Slo
from slm_core.units import GIB
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.watched import ENGINE, doing
from slm_operator.cli.main import main
from slm_operator.cli.render.running import doing_in_words
from slm_operator.manifests.profile_key import profile_key
from slm_operator.slo.window import Scrape

from tests.builders import document, engines, point
from tests.builders.engines import IMAGE, MODEL, PRODUCT, deployment

if TYPE_CHECKING:
    from pathlib import Path

    from slm_core.measurements import MeasurementDocument
    from unit.cli.api_server import ApiServer

BATCH = "--max-num-seqs"
WORDS = ("vllm", "serve", MODEL, BATCH, "512", "--max-num-batched-tokens", "8192")
MEASURED = document(
    *(point(batch, max_num_batched_tokens=8192) for batch in (1, 8, 32, 64, 128)),
    model=Model(uri=f"hf://{MODEL}"),
    engine=Engine(version="0.32.0", image=IMAGE, args=WORDS),
    gpu=Gpu(product=PRODUCT, memory_bytes=64 * GIB),
)
"""ITL = 4 ms + 0.1 ms x B: 12 ms at 80."""
SLO = ("--itl-ms", "12")


def container(*args: str, **changes: Any) -> dict[str, Any]:
    return {"name": "engine", "image": IMAGE, "args": [MODEL, *args]} | changes


class Asker:
    """Asks about one workload with one document, both in files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def file(self, name: str, *raws: Any) -> str:
        path = self.folder / name
        path.write_text("\n---\n".join(json.dumps(raw) for raw in raws))
        return str(path)

    def __call__(self, raw: Any, *more: str, measured: MeasurementDocument | None = MEASURED) -> tuple[int, str, str]:
        files = () if measured is None else ("-f", self.file("measured.json", to_json(measured)))
        code = main(["advise", "--for", self.file("workload.yaml", raw), *files, *SLO, *more])
        out, err = self.capsys.readouterr()
        return code, out, err

    def values(self, raw: Any, *more: str, measured: MeasurementDocument = MEASURED) -> dict[str, Any]:
        code, out, err = self(raw, *more, "-o", "json", measured=measured)
        assert (code, err) == (0, "")
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Asker:
    return Asker(tmp_path, capsys)


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


def profiled(ask: Asker, raw: Any, *more: str) -> dict[str, Any]:
    code, out, err = ask(raw, *more, "-o", "slmprofile", measured=None)
    assert (code, err) == (0, "")
    found: dict[str, Any] = yaml.safe_load(out)
    return found


def test_profile_to_measure_is_that_of_the_workload(ask: Asker) -> None:
    own = container(
        f"{BATCH}=8", "--port=80", "--enforce-eager", "--max-model-len", "4k", "--dtype=half", "--trust-remote-code",
        env=[
            {"name": "VLLM_ATTENTION_BACKEND", "value": "FLASHINFER"}, {"name": "MY_API_KEY", "value": "secret"},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "HF_TOKEN"}}},
        ],
        resources={"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}},
    )  # fmt: skip
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    manifest = profiled(ask, deployment(own, tolerations=[toleration]), "--input-tokens", "100", "--concurrency", "9")
    assert manifest["metadata"] == {"name": "chat-advice", "namespace": "team"}
    assert manifest["spec"] == {
        "model": {"uri": f"hf://{MODEL}", "remoteCode": "Trusted", "credentialsSecretRef": {"name": "hub"}},
        "engine": {
            "image": IMAGE, "args": ["--enforce-eager"], "env": [{"name": "VLLM_ATTENTION_BACKEND", "value": "FLASHINFER"}],
            "maxModelLen": 4000, "dtype": "float16",
        },
        "gpu": {"product": PRODUCT, "tolerations": [toleration]},
        "workload": {"inputTokens": 100, "outputTokens": 338, "concurrencyPerGpu": 9},
        "search": {"slo": {"itl": {"maxMs": 12.0, "statistic": "Mean"}}, "mode": "Exclusive", "minEfficiency": 0.01},
        "podTemplate": {
            "spec": {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "4"}, "limits": {"memory": "16Gi"}}}]}
        },
    }  # fmt: skip


CLAIM = {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]}
MOUNTS = {"volumeMounts": [{"name": "m", "mountPath": "/models", "subPath": "llm"}]}
URIS: dict[str, tuple[Any, str]] = {
    "a hub's name": (deployment(container()), f"hf://{MODEL}"),
    "a path in a claim": (deployment({**container(), "args": ["/models/x"], **MOUNTS}, **CLAIM), "pvc://models/llm/x"),
    "a path in the image": (deployment({**container(), "args": ["/opt/model"]}), "/opt/model"),
    "a bucket": (deployment({**container(), "args": ["s3://bucket/m"]}), "s3://bucket/m"),
    "what KServe downloads": (engines.llm_inference_service(), f"hf://{MODEL}"),
    "KubeAI's address": (engines.kubeai_model(image=IMAGE, url=f"hf://{MODEL}?x=y"), f"hf://{MODEL}"),
}  # fmt: skip


def test_revision_in_kserves_address_is_kept(ask: Asker) -> None:
    raw = engines.llm_inference_service()
    raw["spec"]["model"]["uri"] = f"hf://{MODEL}:1234abc"
    assert profiled(ask, raw)["spec"]["model"] == {"uri": f"hf://{MODEL}", "revision": "1234abc"}


@pytest.mark.parametrize(("raw", "uri"), URIS.values(), ids=URIS)
def test_profile_has_the_model_where_the_workload_has_it(raw: Any, uri: str, ask: Asker) -> None:
    assert profiled(ask, raw)["spec"]["model"]["uri"] == uri


MOUNTED = [
    {"name": "vllm", "persistentVolumeClaim": {"claimName": "vllm-cpu", "readOnly": True}},
    {"name": "templates", "configMap": {"name": "chat-templates"}},
    {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
    {"name": "cache", "persistentVolumeClaim": {"claimName": "hub"}},
    {"name": "key", "secret": {"secretName": "key"}},
    {"name": "node", "hostPath": {"path": "/opt"}},
    {"name": "shm", "emptyDir": {"medium": "Memory"}},
]
"""Read-only content, the model, a folder that engines write to, and what no profile may have."""


def test_profile_mounts_what_the_engine_only_reads(ask: Asker) -> None:
    """An engine does not start without its chat template; its model is mounted anyway, and a cache is the other's own."""
    own = container("--chat-template=/templates/chat.jinja") | {
        "args": ["/models/opt", "--chat-template=/templates/chat.jinja"],
        "volumeMounts": [
            {"name": "vllm", "mountPath": "/opt/vllm"},
            {"name": "templates", "mountPath": "/templates"},
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "cache", "mountPath": "/root/.cache"},
            {"name": "key", "mountPath": "/key"},
            {"name": "node", "mountPath": "/node", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    manifest = profiled(ask, deployment(own, volumes=MOUNTED))
    assert manifest["spec"]["model"] == {"uri": "pvc://models/opt"}
    pod = manifest["spec"]["podTemplate"]["spec"]
    assert pod["volumes"] == [
        {"name": "of-workload-0", "persistentVolumeClaim": {"claimName": "vllm-cpu", "readOnly": True}},
        {"name": "of-workload-1", "configMap": {"name": "chat-templates"}},
    ]
    assert pod["containers"] == [
        {
            "name": "engine",
            "volumeMounts": [
                {"name": "of-workload-0", "mountPath": "/opt/vllm", "readOnly": True},
                {"name": "of-workload-1", "mountPath": "/templates", "readOnly": True},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (engines.kubeai_model(), "its image is not in it: set it there"),
        ({**engines.llm_inference_service(), "spec": {"template": {"containers": [{"name": "main", "image": IMAGE}]}}}, "from where its model comes into /mnt/models is not in it"),
        (deployment({"name": "e", "image": IMAGE}), "which model it serves is not in its arguments"),
        (deployment({**container(), "args": ["/m/x"], "volumeMounts": [{"name": "v", "mountPath": "/m"}]}), "is in volume v, which is no claim"),
        (deployment(container("--quantization q".replace(" ", "=")), nodeSelector={"slm-operator.io/x": "y"}), "labels of the operator's"),
    ],
    ids=["no image", "no address", "no model", "no claim", "a label of the operator's"],
)  # fmt: skip
def test_profile_that_nothing_could_measure_is_refused(raw: Any, sentence: str, ask: Asker) -> None:
    code, out, err = ask(raw, "-o", "slmprofile", measured=None)
    assert (code, out) == (2, "")
    assert sentence in err


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


ZERO = Counters(**dict.fromkeys(Counters.__dataclass_fields__, 0.0))


def counted(requests: int, seconds_each: float, *, tokens: int = 100) -> Counters:
    """An engine that has answered so many requests of a hundred tokens in, one token each ITL."""
    gaps = requests * (tokens - 1)
    return replace(
        ZERO,
        finished=requests,
        prompt_tokens=100 * requests,
        output_tokens=tokens * requests,
        itl_count=gaps,
        itl_sum=gaps * seconds_each,
        ttft_count=requests,
    )


def at(seconds: float, counters: Counters) -> Scrape:
    return Scrape(at_seconds=seconds, engines={ENGINE: counters})


ALONE = EngineConfiguration(batch_size=64, max_num_batched_tokens=8192)
DOING: list[tuple[str, Counters, EngineConfiguration | None, str]] = [
    # By Little's law 1,000 requests of 99 gaps of 8 ms in 20 s are 39.6 in flight: measured ones have an ITL of 7.96 ms there.
    ("as measured", counted(1000, 0.008), ALONE, "Measured engines make 9,950 tokens/s at a mean ITL of 8.0 ms there, of which that is 101%."),
    ("half as fast", counted(500, 0.016), ALONE, "of which that is 50%."),
    ("a batch that is not known", counted(1000, 0.008), None, "With so many in flight and such a batch nothing was measured."),
    ("other lengths", counted(1000, 0.008, tokens=200), ALONE, "Measured were other lengths, so this says nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("after", "served", "words"), [c[1:] for c in DOING], ids=[c[0] for c in DOING])
def test_what_an_engine_does_stands_beside_what_was_measured(
    after: Counters, served: EngineConfiguration | None, words: str
) -> None:
    found = doing((at(0.0, ZERO), at(20.0, after)), MEASURED, Slo(itl_ms=12.0), 1, served)
    said = list(doing_in_words(found))
    assert said[0].startswith("Over 20 s one GPU of it does")
    assert words in said[-1]


def test_engines_of_one_gpu_do_as_much_each() -> None:
    found = doing((at(0.0, ZERO), at(20.0, counted(1000, 0.008))), MEASURED, Slo(itl_ms=12.0), 2, None)
    assert found.figures.throughput_tokens_per_second == 2 * 1000 * 200 / 20


SILENT = {
    "nobody asks": (counted(5, 0.01), counted(5, 0.01), "no request has finished within 20 s"),
    "restarted": (
        counted(500, 0.01),
        counted(5, 0.01),
        "the engine's counters began anew within 20 s: it was restarted",
    ),
}


@pytest.mark.parametrize("case", SILENT)
def test_metrics_that_say_nothing_are_a_sentence(case: str) -> None:
    before, after, words = SILENT[case]
    with pytest.raises(Refused, match=words):
        doing((at(0.0, before), at(20.0, after)), MEASURED, Slo(itl_ms=12.0), 1, ALONE)


def engine_page(counters: Counters) -> str:
    names = {"running": 3, "waiting": 1, "kv_usage": 0.2} | {
        name: getattr(counters, name) for name in Counters.__dataclass_fields__
    }
    shown = vllm._COUNTERS.names
    return "".join(f'{sample}{{model_name="m"}} {float(names[field])}\n' for field, sample in shown.items())


def test_metrics_page_of_the_engine_is_read_twice(ask: Asker, server: ApiServer) -> None:
    pages = iter([engine_page(ZERO), engine_page(counted(1000, 0.008))])
    server.answer = lambda *_: (200, next(pages))  # type: ignore[method-assign]
    url = ("--metrics", f"{server.url}/metrics", "--metrics-seconds", "0.01")
    found = ask.values(deployment(container(f"{BATCH}=64")), *url)
    assert found["doing"]["figures"]["itlMs"] == pytest.approx(8.0)
    assert any("Over 0 s one GPU of it does" in one for one in found["sentences"])
    assert ask.values(deployment(container(f"{BATCH}=64")))["doing"] is None


PAGES = {
    "no address": ("localhost:8000/metrics", "--metrics localhost:8000/metrics: give an address"),
    "nobody there": ("http://127.0.0.1:1/metrics", "http://127.0.0.1:1/metrics: "),
}


@pytest.mark.parametrize("case", PAGES)
def test_metrics_page_that_cannot_be_read_is_refused(ask: Asker, case: str) -> None:
    url, words = PAGES[case]
    code, _, err = ask(deployment(container(f"{BATCH}=64")), "--metrics", url)
    assert code == 2
    assert words in err
