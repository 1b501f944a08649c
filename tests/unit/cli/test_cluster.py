"""Commands against a cluster: what they say, what they send, and how they refuse."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.inputs import from_csv
from slm_operator.cli.main import main
from slm_operator.manifests.profile import profile_name
from slm_operator.planning.advising import advice_status, advise_deployment
from slm_runtime.codec import to_json
from unit.cli.api_server import GROUP, ApiServer, failure, kubeconfig_for, serve
from unit.cli.golden import DATA, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEAM = f"{GROUP}/namespaces/team"
DOCUMENT = from_csv(str(ROOT / DATA / "batch_sweep.csv"), str(ROOT / DATA / "replication.csv"), "opt-1.3b", None)
SPEC: dict[str, Any] = {"model": {"uri": "hf://facebook/opt-1.3b"}, "slo": {"itlFactor": 4}}
MANIFEST = {
    "apiVersion": "slm-operator.io/v1alpha1",
    "kind": "SLMDeployment",
    "metadata": {"name": "opt"},
    "spec": SPEC,
}
PROFILE_NAME = profile_name(SLMDeploymentSpec.model_validate(SPEC))
PROFILE = {
    "apiVersion": "slm-operator.io/v1alpha1",
    "kind": "SLMProfile",
    "metadata": {"name": PROFILE_NAME, "namespace": "team", "uid": "u1", "resourceVersion": "7", "labels": {"a": "b"}},
    "spec": {"model": SPEC["model"]},
    "status": {"phase": "Complete", "summary": "point 6/6", "gpuSeconds": 240.5, "measurements": to_json(DOCUMENT)},
}


def condition(kind: str, status: str, message: str) -> dict[str, str]:
    return {
        "type": kind, "status": status, "reason": "Because", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def deployed(ready: str = "True") -> dict[str, Any]:
    advice = advise_deployment(SLMDeploymentSpec.model_validate(SPEC), DOCUMENT)
    return MANIFEST | {
        "status": {
            "phase": "Serving",
            "conditions": [condition("Ready", ready, "all is well"), condition("Profiled", "True", "6 points")],
            "profile": {"name": PROFILE_NAME},
            "advice": advice_status(advice),
            "replicas": 2,
            "readyReplicas": 2,
        }
    }


def node(name: str, labels: dict[str, str], **allocatable: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}


H100 = {"nvidia.com/gpu.product": "NVIDIA-H100", "nvidia.com/gpu.count": "8"}
READY_CLUSTER: dict[str, Any] = {
    f"{TEAM}/slmdeployments": {"items": [deployed()]},
    f"{TEAM}/slmprofiles": {"items": [PROFILE]},
    f"{TEAM}/slmdeployments/opt": deployed(),
    f"{TEAM}/slmprofiles/{PROFILE_NAME}": PROFILE,
    "/apis/apps/v1/deployments": {"items": [{"status": {"readyReplicas": 2}}]},
    "/api/v1/nodes": {"items": [node("gpu-1", H100 | {"slm-operator.io/managed": "true"})]},
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("COLUMNS", "160")
    yield from serve(ApiServer(answers=dict(READY_CLUSTER)), tmp_path / "kubeconfig")


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "slmd.yaml"
    path.write_text(yaml.safe_dump(MANIFEST))
    return str(path)


def test_explain_prints_the_sentences_of_status(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "opt"]) == 0
    told = capsys.readouterr().out
    advice = server.answers[f"{TEAM}/slmdeployments/opt"]["status"]["advice"]
    assert told.startswith("opt is Serving: all is well\n")
    for sentence in advice["because"]:
        assert sentence in told
    assert "mean ITL 40.9 ms exceeds" in told


def test_explain_exits_with_1_while_it_is_not_ready(server: ApiServer) -> None:
    server.answers[f"{TEAM}/slmdeployments/opt"] = deployed("False")
    assert main(["explain", "opt"]) == 1


def test_explain_of_a_deployment_that_nobody_has_looked_at(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{TEAM}/slmdeployments/opt"] = MANIFEST
    assert main(["explain", "opt"]) == 1
    assert "the operator has not looked at it yet" in capsys.readouterr().out


def test_watch_prints_once_when_piped(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch"]) == 0
    told = capsys.readouterr().out
    assert "opt " in told
    assert "+13.3%" in told
    assert "point 6/6" in told


def test_watch_of_an_empty_namespace(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {f"{GROUP}/namespaces/empty/{kind}": {"items": []} for kind in ("slmdeployments", "slmprofiles")}
    assert main(["watch", "-n", "empty"]) == 0
    assert capsys.readouterr().out == "no SLMDeployment and no SLMProfile in namespace empty\n"


def test_report_of_a_deployment_uses_its_own_profile_and_slo(server: ApiServer, tmp_path: Path) -> None:
    assert main(["report", "opt", "-o", str(tmp_path / "r.html")]) == 0
    assert "Serve 2 engines per GPU (MPS)" in (tmp_path / "r.html").read_text()


def test_plan_uses_what_the_cluster_has_measured(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-f", manifest]) == 0
    assert capsys.readouterr().out.startswith("Serve 2 engines per GPU (MPS)")
    assert server.created == []


def test_plan_without_measurements_says_what_would_be_measured(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del server.answers[f"{TEAM}/slmprofiles/{PROFILE_NAME}"]
    assert main(["plan", "-f", manifest]) == 0
    assert "It would be measured first, in at most 15 GPU minutes." in capsys.readouterr().out


def test_plan_with_a_profile_file_asks_no_cluster(
    manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
    assert main(["plan", "-f", manifest, "--profile", str(tmp_path / "profile.yaml")]) == 0
    assert capsys.readouterr().out.startswith("Serve 2 engines per GPU (MPS)")


CONFIG = {
    "model_type": "opt", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192,
    "vocab_size": 50272, "max_position_embeddings": 2048, "torch_dtype": "float16",
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path / "config.json")


def test_plan_estimates_from_the_model_s_config(
    manifest: str, config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert main(["plan", "-f", manifest, "--config", config, "--gpu", "NVIDIA-H100-80GB-HBM3", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["replicasPerGpu"] == 1
    assert set(answer["source"].values()) == {"Estimated"}
    jsonschema.validate(answer, json.loads((ROOT / "docs/schemas/advice.json").read_text()))


def test_a_plan_shows_where_the_memory_goes(manifest: str, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", manifest, "--config", config, "--gpu", "NVIDIA-H100-80GB-HBM3"]) == 0
    told = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in told.splitlines()}
    parts = ("weights", "activations", "graphs", "context", "KV cache")
    assert sum(float(lines[part][-1]) for part in parts) == pytest.approx(float(lines["together"][-1]), abs=0.03)
    assert float(lines["together"][-1]) + float(lines["free"][-1]) == pytest.approx(80, abs=0.02)


ESTIMATES: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("no GPU named", CONFIG, [], "give --gpu, or spec.accelerator.product"),
    ("unknown GPU", CONFIG, ["--gpu", "Voodoo"], "give --gpu-memory-bytes"),
    ("too small a GPU", CONFIG, ["--gpu", "Voodoo", "--gpu-memory-bytes", "1000000000"], "use a larger GPU"),
    ("not a config", {"a": 1}, ["--gpu", "T4"], "num_hidden_layers"),
    ("not an object", [], ["--gpu", "T4"], "give the config.json of the model"),  # type: ignore[list-item]
    ("measurements too", CONFIG, ["--profile", "x"], "not allowed with"),
]


@pytest.mark.parametrize(("raw", "arguments", "sentence"), [c[1:] for c in ESTIMATES], ids=[c[0] for c in ESTIMATES])
def test_an_estimate_refuses(  # noqa: PLR0917 - a table's columns and fixtures
    manifest: str, raw: Any, arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(raw))
    try:
        code = main(["plan", "-f", manifest, "--config", str(tmp_path / "config.json"), *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert sentence in capsys.readouterr().err


def test_what_is_exported_can_be_imported(
    server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "exported.yaml"
    assert main(["profile", "export", PROFILE_NAME, "-o", str(exported)]) == 0
    assert main(["profile", "import", "-f", str(exported)]) == 0
    (created,) = server.created
    assert created["metadata"] == {"name": PROFILE_NAME, "namespace": "team", "labels": {"a": "b"}}
    assert created["spec"] == PROFILE["spec"] | {"measurements": to_json(DOCUMENT)}
    assert "status" not in created
    assert f"SLMProfile team/{PROFILE_NAME} imported" in capsys.readouterr().out


def test_a_bare_document_is_imported_under_a_given_name(server: ApiServer, tmp_path: Path) -> None:
    raw = to_json(DOCUMENT)
    raw["model"]["uri"] = "hf://facebook/opt-1.3b"
    (tmp_path / "document.json").write_text(json.dumps(raw))
    assert main(["profile", "import", "-f", str(tmp_path / "document.json"), "--name", "opt"]) == 0
    (created,) = server.created
    assert created["metadata"]["name"] == "opt"
    assert created["spec"]["workload"] == {"inputTokens": 111, "outputTokens": 292}


CHECKS: list[tuple[str, dict[str, Any], int, str]] = [
    ("everything", {}, 0, "8 on 1 nodes: NVIDIA-H100"),
    ("no chart", {f"{TEAM}/slmdeployments": failure(404, "the server could not find the requested resource")}, 1, "install the chart"),
    ("no operator", {"/apis/apps/v1/deployments": {"items": []}}, 1, "no ready pod of the operator"),
    ("no GPU", {"/api/v1/nodes": {"items": [node("cpu", {})]}}, 1, "no node offers an NVIDIA GPU"),
    ("not opted in", {"/api/v1/nodes": {"items": [node("gpu-1", H100)]}}, 0, "kubectl label node gpu-1 slm-operator.io/managed=true"),
    ("no feature discovery", {"/api/v1/nodes": {"items": [node("gpu-1", {}, **{"nvidia.com/gpu": "1"})]}}, 1, "enable GPU feature discovery"),
    ("MIG", {"/api/v1/nodes": {"items": [node("gpu-1", H100 | {"slm-operator.io/managed": "true", "nvidia.com/mig.config": "all-1g"})]}}, 0, "MIG is configured on gpu-1"),
    ("no right to see the operator", {"/apis/apps/v1/deployments": failure(403, 'User "u" cannot list resource "deployments"')}, 0, "no right to list Deployments"),
    ("no right to see our kinds", {f"{TEAM}/slmprofiles": failure(403, 'User "u" cannot list resource "slmprofiles"')}, 0, "is served"),
    ("no right to see nodes", {"/api/v1/nodes": failure(403, 'User "u" cannot list resource "nodes"')}, 0, "no right to list Nodes"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "code", "sentence"), [c[1:] for c in CHECKS], ids=[c[0] for c in CHECKS])
def test_check(
    server: ApiServer, changed: dict[str, Any], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= changed
    assert main(["check"]) == code
    assert sentence in capsys.readouterr().out


def test_check_without_the_right_to_create(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.allowed = False
    assert main(["check"]) == 1
    assert "you may not create an SLMDeployment in namespace team" in capsys.readouterr().out


LIVE = "import sys; from slm_operator.cli.main import main; sys.exit(main())"


@pytest.mark.slow
def test_watch_follows_what_happens_until_interrupted(server: ApiServer) -> None:
    ours, theirs = pty.openpty()
    watching = subprocess.Popen([sys.executable, "-c", LIVE, "watch"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    read_until(ours, "Serving")
    later = deployed()
    later["status"]["phase"] = "Draining"
    server.answers[f"{TEAM}/slmdeployments"] = {"items": [later]}
    read_until(ours, "Draining")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=20) == 130
    os.close(ours)


def read_until(terminal: int, word: str) -> None:
    """Read what the command draws until a word appears; the test's own timeout ends a wait in vain."""
    seen = ""
    while word not in seen:
        seen += os.read(terminal, 4096).decode(errors="replace")


REFUSALS: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("absent", {}, ["explain", "gone"], 'slmdeployments.slm-operator.io "gone" not found in namespace team'),
    ("no rights", {f"{TEAM}/slmdeployments/opt": failure(403, 'User "u" cannot get resource "slmdeployments"')}, ["explain", "opt"], "no rights: User"),
    ("credentials", {f"{TEAM}/slmdeployments/opt": failure(401, "Unauthorized")}, ["explain", "opt"], "refuses these credentials"),
    ("no chart", {f"{TEAM}/slmdeployments/opt": failure(404, "the server could not find the requested resource")}, ["explain", "opt"], "install the chart"),
    ("overload", {f"{TEAM}/slmdeployments/opt": failure(503, "try later")}, ["explain", "opt"], "does not answer: try later"),
    ("other context", {}, ["explain", "opt", "--context", "there"], "there"),
    ("nothing measured", {f"{TEAM}/slmprofiles/{PROFILE_NAME}": PROFILE | {"status": {"phase": "Running"}}}, ["profile", "export", PROFILE_NAME], "is Running and holds no measurements yet"),
    ("no profile yet", {f"{TEAM}/slmdeployments/opt": MANIFEST}, ["report", "opt"], "has no profile yet"),
    ("report of nothing", {}, ["report"], "give the NAME of an SLMDeployment, or measurements"),
    ("report of two things", {}, ["report", "opt", "-f", "x"], "give the NAME of an SLMDeployment, or measurements"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "arguments", "sentence"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_refuses(
    server: ApiServer, changed: dict[str, Any], arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= changed
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.splitlines()) == 1


MANIFESTS: list[tuple[str, Any, str]] = [
    ("misspelt field", MANIFEST | {"spec": SPEC | {"sloo": {}}}, "spec.sloo: Extra inputs are not permitted"),
    ("wrong type", MANIFEST | {"spec": SPEC | {"replicas": "many"}}, "spec.replicas"),
    ("out of range", MANIFEST | {"spec": SPEC | {"advisor": {"minEfficiency": 3}}}, "spec.advisor.minEfficiency"),
    ("no model", MANIFEST | {"spec": {}}, "spec.model: Field required"),
    ("no spec", {k: v for k, v in MANIFEST.items() if k != "spec"}, "spec: "),
    ("other version", MANIFEST | {"apiVersion": "slm-operator.io/v9"}, "this command knows slm-operator.io/v1alpha1"),
    ("other kind", MANIFEST | {"kind": "Pod"}, "0 objects of kind SLMDeployment"),
    ("a list", [1, 2], "0 objects of kind SLMDeployment"),
]


@pytest.mark.parametrize(("raw", "sentence"), [c[1:] for c in MANIFESTS], ids=[c[0] for c in MANIFESTS])
def test_plan_refuses_a_manifest(raw: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(raw))
    assert main(["plan", "-f", str(tmp_path / "m.yaml")]) == 2
    assert sentence in capsys.readouterr().err


IMPORTS: list[tuple[str, Any, str]] = [
    ("document without a name", to_json(DOCUMENT), "give the profile a name with --name"),
    ("document of a model that is no URI", PROFILE | {"spec": {"model": {"uri": "opt"}}}, "spec.model.uri"),
    ("misspelt field", PROFILE | {"spec": PROFILE["spec"] | {"modell": 1}}, "spec.modell"),
    ("no name", PROFILE | {"metadata": {}}, "metadata.name is missing"),
]


@pytest.mark.parametrize(("raw", "sentence"), [c[1:] for c in IMPORTS], ids=[c[0] for c in IMPORTS])
def test_import_refuses(
    server: ApiServer, raw: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.json").write_text(json.dumps(raw))
    assert main(["profile", "import", "-f", str(tmp_path / "p.json")]) == 2
    assert sentence in capsys.readouterr().err
    assert server.created == []


def test_import_of_a_name_that_is_taken(server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[f"POST {TEAM}/slmprofiles"] = failure(409, "slmprofiles already exists")
    (tmp_path / "p.json").write_text(json.dumps(PROFILE))
    assert main(["profile", "import", "-f", str(tmp_path / "p.json")]) == 2
    assert "delete the old one first" in capsys.readouterr().err


KUBECONFIGS: list[tuple[str, str | None, str]] = [
    ("none", None, "no kubeconfig at"),
    ("empty", "", "is not a kubeconfig"),
    ("not YAML", "a: [", "is not a kubeconfig"),
    ("a list", "[1]", "is not a kubeconfig"),
    ("without a context", "apiVersion: v1\nkind: Config\n", "mend it, or give --context"),
    (
        "to nobody",
        json.dumps(kubeconfig_for("http://127.0.0.1:9")),
        "the cluster at http://127.0.0.1:9 does not answer",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), [c[1:] for c in KUBECONFIGS], ids=[c[0] for c in KUBECONFIGS])
def test_no_cluster(
    content: str | None,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert main(["watch"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
