"""Commands that read or write manifests: plan, profile export and profile import."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from slm_core.codec import to_json
from slm_operator.cli.inputs.profile_of import rested_on
from slm_operator.cli.main import main
from slm_operator.watch.custom_resources import profile
from unit.cli.api_server import GROUP, failure
from unit.cli.cluster_objects import DOCUMENT, MANIFEST, PROFILE, PROFILE_NAME, SPEC, TEAM, kept_profile
from unit.cli.golden import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from unit.cli.api_server import ApiServer


def test_plan_uses_what_the_cluster_has_measured(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-f", manifest]) == 0
    assert capsys.readouterr().out.startswith("Serve 2 engines per GPU (MPS)")
    assert server.created == []


def test_plan_without_measurements_says_what_would_be_measured(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{TEAM}/slmprofiles"] = {"items": []}
    assert main(["plan", "-f", manifest]) == 0
    assert "It would be measured first, in at most 15 GPU minutes." in capsys.readouterr().out


def test_a_plan_finds_a_profile_by_what_it_measured_of_any_name(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = PROFILE | {"metadata": PROFILE["metadata"] | {"name": "by-hand"}}  # type: ignore[operator]
    of_another = named | {"spec": {"model": {"uri": "/other"}}}
    unreadable = named | {"spec": {"model": 7}}
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [of_another, unreadable, named]}
    assert main(["plan", "-f", manifest]) == 0
    assert capsys.readouterr().out.startswith("Serve 2 engines per GPU (MPS)")
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [of_another, unreadable]}
    assert main(["plan", "-f", manifest]) == 0
    assert "It would be measured first" in capsys.readouterr().out


SETTINGS = "/api/v1/namespaces/slm-system/configmaps/slm-operator"
WITH_LIBRARY = {"data": {"config.yaml": "profiles: {libraryNamespaces: [lib]}\n"}}
LIBRARY = f"{GROUP}/namespaces/lib/slmprofiles"
WORKLOADS = "/apis/apps/v1/deployments"


def denied(verb: str, plural: str) -> tuple[int, dict[str, Any]]:
    return failure(403, f'{plural} is forbidden: User "u" cannot {verb} resource "{plural}"')


def test_a_plan_takes_a_profile_of_a_library(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= {f"{TEAM}/slmprofiles": {"items": []}, SETTINGS: WITH_LIBRARY, LIBRARY: {"items": [PROFILE]}}
    assert main(["plan", "-f", manifest]) == 0
    assert capsys.readouterr().out.startswith("Serve 2 engines per GPU (MPS)")


UNSEEN: list[tuple[str, dict[str, Any], str]] = [
    ("operator", {WORKLOADS: denied("list", "deployments")}, "no right to list deployments in all namespaces"),
    ("settings", {SETTINGS: denied("get", "configmaps")}, "no right to get configmaps there"),
    ("library", {SETTINGS: WITH_LIBRARY, LIBRARY: denied("list", "slmprofiles")}, "library namespace lib"),
]


@pytest.mark.parametrize(("answers", "why"), [c[1:] for c in UNSEEN], ids=[c[0] for c in UNSEEN])
def test_a_plan_names_the_library_that_it_could_not_see(
    server: ApiServer, manifest: str, answers: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= {f"{TEAM}/slmprofiles": {"items": []}} | answers
    assert main(["plan", "-f", manifest]) == 0
    reported = " ".join(capsys.readouterr().out.split())
    assert "Unless a library of profiles has it, which is not known: " in reported
    assert why in reported


def test_a_plan_of_what_is_being_measured_names_its_phase(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running = kept_profile("by-hand", phase="Running", measurements=None)
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [running]}
    assert main(["plan", "-f", manifest]) == 0
    reported = capsys.readouterr().out
    assert reported.startswith("No measurements yet: SLMProfile by-hand is Running.")
    assert "Unless a library" not in reported


def test_a_plan_passes_over_a_profile_that_is_not_readable(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    later = kept_profile("later", measurements=LATER)
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [later, PROFILE]}
    assert main(["plan", "-f", manifest]) == 0
    assert capsys.readouterr().out.startswith("Serve 2 engines per GPU (MPS)")


@pytest.mark.parametrize("deleting", [False, True])
def test_plan_takes_the_newest_of_several_profiles(*, deleting: bool) -> None:
    old = kept_profile("old", measurements=to_json(replace(DOCUMENT, measured_at="2026-01-01T00:00:00Z")))
    new = kept_profile("new", measurements=to_json(replace(DOCUMENT, measured_at="2026-02-01T00:00:00Z")))
    new["metadata"] |= {"deletionTimestamp": "2026-03-01T00:00:00Z"} if deleting else {}
    assert rested_on(map(profile, (new, old)), "").name == ("old" if deleting else "new")


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
    assert answer["configuration"]["enginesPerGpu"] == 1
    assert set(answer["source"].values()) == {"Estimated"}
    jsonschema.validate(answer, json.loads((ROOT / "docs/reference/schemas/advice.json").read_text()))


def test_a_plan_shows_where_the_memory_goes(manifest: str, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", manifest, "--config", config, "--gpu", "NVIDIA-H100-80GB-HBM3"]) == 0
    reported = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in reported.splitlines()}
    parts = ("weights", "activations", "graphs", "context", "KV cache")
    assert sum(float(lines[part][-1]) for part in parts) == pytest.approx(float(lines["together"][-1]), abs=0.03)
    assert float(lines["together"][-1]) + float(lines["free"][-1]) == pytest.approx(80, abs=0.02)


ESTIMATES: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("no GPU named", CONFIG, [], "give --gpu, or spec.accelerator.products"),
    ("unknown GPU", CONFIG, ["--gpu", "Voodoo"], "give --gpu-memory-bytes"),
    ("too small a GPU", CONFIG, ["--gpu", "Voodoo", "--gpu-memory-bytes", "1000000000"], "use a larger GPU"),
    ("not a config", {"a": 1}, ["--gpu", "T4"], "model_type: missing"),
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


def test_exported_profile_can_be_imported(
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


def test_import_takes_the_profile_that_is_measured(server: ApiServer, tmp_path: Path) -> None:
    new = PROFILE | {"metadata": {"name": "new"}, "status": {}}
    (tmp_path / "two.yaml").write_text(f"{json.dumps(new)}\n---\n{json.dumps(PROFILE)}\n")
    assert main(["profile", "import", "-f", str(tmp_path / "two.yaml")]) == 0
    assert [one["metadata"]["name"] for one in server.created] == [PROFILE_NAME]


@pytest.mark.parametrize("odd", [{"spec": 7}, {"status": "x"}], ids=["spec", "status"])
def test_export_of_an_object_of_another_form_is_refused(
    server: ApiServer, odd: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{TEAM}/slmprofiles/{PROFILE_NAME}"] = PROFILE | odd
    assert main(["profile", "export", PROFILE_NAME]) == 2
    assert f"SLMProfile {PROFILE_NAME}: {next(iter(odd))}: expected an object" in capsys.readouterr().err


def test_a_bare_document_is_imported_under_a_given_name(server: ApiServer, tmp_path: Path) -> None:
    raw = to_json(DOCUMENT)
    raw["model"]["uri"] = "hf://facebook/opt-1.3b"
    (tmp_path / "document.json").write_text(json.dumps(raw))
    assert main(["profile", "import", "-f", str(tmp_path / "document.json"), "--name", "opt"]) == 0
    (created,) = server.created
    assert created["metadata"]["name"] == "opt"
    assert created["spec"]["workload"] == {"inputTokens": 111, "outputTokens": 292}


MANIFESTS: list[tuple[str, Any, str]] = [
    ("misspelt field", MANIFEST | {"spec": SPEC | {"sloo": {}}}, "spec.sloo: no such field: did you mean slo?"),
    ("wrong type", MANIFEST | {"spec": SPEC | {"replicas": "many"}}, "spec.replicas"),
    ("out of range", MANIFEST | {"spec": SPEC | {"advisor": {"minEfficiency": 3}}}, "spec.advisor.minEfficiency"),
    ("no model", MANIFEST | {"spec": {}}, "spec.model: missing: Which model to serve"),
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


LATER = {"schema": "slm-operator.io/measurements/v2", "points": "of another form"}
IMPORTS: list[tuple[str, Any, str]] = [
    ("document without a name", to_json(DOCUMENT), "give the profile a name with --name"),
    ("document of a model that is no URI", PROFILE | {"spec": {"model": {"uri": "opt"}}}, "spec.model.uri"),
    ("misspelt field", PROFILE | {"spec": PROFILE["spec"] | {"modell": 1}}, "spec.modell"),
    ("no name", PROFILE | {"metadata": {}}, "metadata.name is missing"),
    (
        "newer document",
        LATER,
        "v2' is newer than slm-operator.io/measurements/v1, the newest that this version reads: upgrade",
    ),
    (
        "no spec",
        {k: v for k, v in PROFILE.items() if k != "spec"},
        f"SLMProfile {PROFILE_NAME}: spec: expected an object",
    ),
    ("odd spec", PROFILE | {"spec": 7}, f"SLMProfile {PROFILE_NAME}: spec: expected an object, found 7: export"),
    (
        "odd labels",
        PROFILE | {"metadata": {"name": "p", "labels": ["a"]}},
        "SLMProfile p: metadata.labels: expected an",
    ),
    ("newer profile", PROFILE | {"status": {"measurements": LATER}}, "or export the profile with an older version"),
]


@pytest.mark.parametrize(("raw", "sentence"), [c[1:] for c in IMPORTS], ids=[c[0] for c in IMPORTS])
def test_import_refuses_a_file(
    server: ApiServer, raw: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.json").write_text(json.dumps(raw))
    assert main(["profile", "import", "-f", str(tmp_path / "p.json")]) == 2
    assert sentence in capsys.readouterr().err
    assert server.created == []


def test_a_plan_from_a_newer_document_is_refused(
    manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "later.json").write_text(json.dumps(LATER))
    assert main(["plan", "-f", manifest, "--profile", str(tmp_path / "later.json")]) == 2
    assert "is newer than slm-operator.io/measurements/v1" in capsys.readouterr().err


def test_a_plan_names_the_profile_whose_document_is_newer(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [PROFILE | {"status": {"measurements": LATER}}]}
    assert main(["plan", "-f", manifest]) == 2
    assert f"SLMProfile {PROFILE_NAME}: status.measurements: schema: 'slm-op" in capsys.readouterr().err


def test_import_of_a_name_that_is_taken(server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[f"POST {TEAM}/slmprofiles"] = failure(409, "slmprofiles already exists")
    (tmp_path / "p.json").write_text(json.dumps(PROFILE))
    assert main(["profile", "import", "-f", str(tmp_path / "p.json")]) == 2
    assert "delete the old one first" in capsys.readouterr().err
