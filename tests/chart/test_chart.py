"""The chart as helm renders it: linted, unit-tested, valid against Kubernetes' own schemas, and never stale."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from slm_operator.planning.fleet.node.step import CHANGING

from hack import plain_manifests
from tests.chart.helm import CHART, ROOT, helm, of_kind, rendered
from tests.testbed.gotools import binary, sources

pytestmark = pytest.mark.slow

CRDS = sorted((ROOT / "crds").glob("*.yaml"))
META = yaml.safe_load((CHART / "Chart.yaml").read_text())
CASES = {
    "defaults": (),
    "namespaces": ("config.namespaces={team-a,team-b}",),
    "everything": (
        "networkPolicy.enabled=true",
        "policy.engines.images={mirror.example/}",
        "policy.slices.enabled=true",
        "policy.slices.namespaces={team}",
        "quota.namespaces={team}",
        "metrics.serviceMonitor.enabled=true",
        "metrics.dashboards.enabled=true",
        "priorityClassName=system-cluster-critical",
        "global.imageRegistry=mirror.example",
        "imagePullSecrets[0].name=mirror",
    ),
    "pod-monitor": ("metrics.podMonitor.enabled=true", "replicas=1", "rbac.create=false"),
}
UNKNOWN_KINDS = "ServiceMonitor,PodMonitor,ScaledObject"  # of the Prometheus operator, and KEDA


def test_lint_is_strict() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_charts_own_unit_tests_pass() -> None:
    done = subprocess.run([binary("helm-unittest"), CHART], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"Tests:\s+\d{2} passed", done.stdout)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_everything_rendered_is_valid_kubernetes(values: tuple[str, ...], schemas: Path) -> None:
    check(yaml.safe_dump_all(rendered(*values)), schemas)


def test_the_operator_tolerates_the_very_taint_that_it_sets() -> None:
    (operator,) = of_kind(rendered(), "Deployment")
    assert {
        "key": CHANGING.key,
        "operator": "Exists",
        "effect": CHANGING.effect,
    } in operator["spec"]["template"]["spec"]["tolerations"]


def test_plain_manifests_are_valid_and_complete(schemas: Path) -> None:
    built = subprocess.run(
        [binary("kubectl"), "kustomize", "config/default"], cwd=ROOT, capture_output=True, check=True
    )
    check(built.stdout.decode(), schemas)
    kinds = [found["kind"] for found in yaml.safe_load_all(built.stdout)]
    crds = ["CustomResourceDefinition"] * len(CRDS)
    assert sorted(kinds) == sorted(["Namespace", *crds, *(found["kind"] for found in rendered())])


def test_plain_manifests_are_not_stale() -> None:
    stale = [path.name for path, text in plain_manifests.files().items() if path.read_text() != text]
    assert stale == [], "run make generate"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid(example: Path, schemas: Path) -> None:
    check(example.read_text(), schemas)


def test_kubeconform_refuses_a_misspelt_field(schemas: Path) -> None:
    (service,) = of_kind(rendered(), "Service")
    service["spec"]["selectr"] = {}
    with pytest.raises(AssertionError, match="selectr"):
        check(yaml.safe_dump(service), schemas)


def test_crds_are_those_of_the_repository() -> None:
    shown = helm("show", "crds", str(CHART)).stdout
    found = {crd["metadata"]["name"]: crd for crd in yaml.safe_load_all(shown) if crd}
    assert found == {
        crd["metadata"]["name"]: crd for crd in map(yaml.safe_load, map(Path.read_text, (ROOT / "crds").glob("*.yaml")))
    }


def test_no_release_holds_a_crd_that_a_rollback_could_put_back() -> None:
    assert of_kind(rendered(), "CustomResourceDefinition") == []


def test_crds_say_which_release_they_are_of() -> None:
    said = {yaml.safe_load(path.read_text())["metadata"]["annotations"]["slm-operator.io/release"] for path in CRDS}
    assert said == {META["appVersion"]}


def test_artifact_hub_is_told_of_every_crd() -> None:
    told = yaml.safe_load(META["annotations"]["artifacthub.io/crds"])
    crds = [yaml.safe_load(path.read_text()) for path in CRDS]
    assert [(one["kind"], one["name"], one["version"]) for one in told] == [
        (crd["spec"]["names"]["kind"], crd["metadata"]["name"], crd["spec"]["versions"][0]["name"]) for crd in crds
    ]


def test_artifact_hubs_examples_are_valid(schemas: Path) -> None:
    check(yaml.safe_dump_all(yaml.safe_load(META["annotations"]["artifacthub.io/crdsExamples"])), schemas)


def test_the_readme_is_packed_and_has_every_value() -> None:
    text = helm("show", "readme", str(CHART)).stdout
    assert {f"`{line.split('`')[1]}`" for line in (ROOT / "docs/reference/chart.md").read_text().splitlines()[6:]} <= {
        f"`{line.split('`')[1]}`" for line in text.splitlines() if line.startswith("| `")
    }


def test_a_misspelt_value_stops_helm() -> None:
    with pytest.raises(RuntimeError, match="additional properties 'replica' not allowed"):
        rendered("replica=3")


def test_dashboards_reach_grafana_as_they_are() -> None:
    maps = of_kind(rendered("metrics.dashboards.enabled=true"), "ConfigMap")
    shipped = {name: text for found in maps for name, text in found["data"].items() if name.endswith(".json")}
    assert {name: json.loads(text) for name, text in shipped.items()} == {
        path.name: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")
    }


def check(manifests: str, schemas: Path) -> None:
    """Kubernetes' own schemas, strictly: an unknown field is an error."""
    done = subprocess.run(
        [
            *(binary("kubeconform"), "-strict", "-skip", UNKNOWN_KINDS),
            *(
                "-schema-location",
                f"{schemas}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json",
                "-",
            ),
        ],
        input=manifests,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A schema file for each kind, from the OpenAPI document in Kubernetes' own module and from our CRDs."""
    folder = tmp_path_factory.mktemp("schemas")
    definitions = json.loads(_swagger().read_text())["definitions"]
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
    for definition in definitions.values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    (folder / "all.json").write_text(json.dumps({"definitions": definitions}))
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", ()):
            _write(folder, gvk["group"], gvk["version"], gvk["kind"], {"$ref": f"all.json#/definitions/{name}"})
    for crd in (yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")):
        (version,) = crd["spec"]["versions"]
        schema = _closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        _write(folder, crd["spec"]["group"], version["name"], crd["spec"]["names"]["kind"], schema)
    return folder


def _write(folder: Path, group: str, version: str, kind: str, schema: dict[str, Any]) -> None:
    """NB: to kubeconform the group of the core API is its version."""
    (folder / f"{group or version}_{version}_{kind.lower()}.json").write_text(json.dumps(schema))


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if "properties" in schema:
        schema = schema | {"properties": {name: _closed(part) for name, part in schema["properties"].items()}}
        schema.setdefault("additionalProperties", False)
    if "items" in schema:
        schema = schema | {"items": _closed(schema["items"])}
    return {key: value for key, value in schema.items() if not key.startswith("exclusive")}


def _swagger() -> Path:
    """The document is in the module that the cluster's programs are built from."""
    return sources("kubernetes", "k8s.io/kubernetes") / "api" / "openapi-spec" / "swagger.json"
