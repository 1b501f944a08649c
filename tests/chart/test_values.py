"""The values' schema refuses what the chart would ignore. Without helm: the same JSON schema, checked here."""

import json
from typing import Any

import jsonschema
import pytest
import yaml
from slm_operator.settings import Settings

from tests.chart.helm import CHART

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def problems(values: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_defaults_are_valid() -> None:
    assert problems(VALUES) == []


def test_the_operator_reads_what_the_chart_gives_it() -> None:
    assert Settings.model_validate(VALUES["config"]) == Settings()


@pytest.mark.parametrize(
    ("values", "because"),
    [
        ({"replica": 2}, "'replica' was unexpected"),
        ({"config": {"nodes": {"maxchanging": 2}}}, "'maxchanging' was unexpected"),
        ({"config": {"profiling": {"image": "mine"}}}, "'image' was unexpected"),
        ({"config": {"nodes": {"maxChanging": 0}}}, "0 is less than the minimum of 1"),
        ({"config": {"nodes": {"optInLabel": "a/b/c"}}}, "'a/b/c' does not match"),
        ({"config": {"namespaces": "team-a"}}, "'team-a' is not of type 'array'"),
        ({"config": {"profiles": {"libraryNamespaces": ["a.b"]}}}, "'a.b' does not match"),
        ({"quota": {"namespaces": ["Team_1"]}}, "'Team_1' does not match"),
        ({"policy": {"slices": {"namespaces": ["a/b"]}}}, "'a/b' does not match"),
        ({"policy": {"closedNamespaces": [""]}}, "'' does not match"),
        ({"networkPolicy": {"engines": {"namespaces": ["a b"]}}}, "'a b' does not match"),
        ({"config": {"profiles": {"libraryNamespaces": ["a", "a"]}}}, "has non-unique elements"),
        ({"config": {"profiles": {"libraryNamespaces": [f"a{i}" for i in range(17)]}}}, "is too long"),
        ({"config": {"profiles": {"retentionDays": 0}}}, "0 is not valid under any of the given schemas"),
        ({"replicas": "2"}, "'2' is not of type 'integer'"),
        ({"image": {"pullPolicy": "Sometimes"}}, "'Sometimes' is not one of"),
        ({"image": {"digest": "sha256:abc"}}, "does not match"),
        ({"metrics": {"port": 0}}, "0 is less than the minimum of 1"),
        ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "'30' does not match"),
        ({"policy": {"engines": {"images": "x"}}}, "'x' is not of type 'array'"),
        ({"networkPolicy": {"apiServerPorts": []}}, "[] should be non-empty"),
        ({"imagePullSecrets": ["registry"]}, "'registry' is not of type 'object'"),
        ({"global": {"imagePullSecrets": [{"name": ""}]}}, "'' should be non-empty"),
        ({"config": {"profiling": {"imagePullSecrets": ["a"]}}}, "'imagePullSecrets' was unexpected"),
        ({"crds": {"keep": False}}, "'keep' was unexpected"),
        ({"config": {"defaults": {"tolerations": [{"operater": "Exists"}]}}}, "'operater' was unexpected"),
        ({"config": {"defaults": {"resources": {"cpu": "two"}}}}, "'two' does not match"),
        ({"tolerations": [{"key": "a"}, "b"]}, "'b' is not of type 'object'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], because: str) -> None:
    (problem,) = problems(values)
    assert because in problem


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"namespaces": ["a"], "devicePlugin": {"namespace": "gpu-operator"}}},
        {"config": {"nodes": {"optInLabel": "node-restriction.kubernetes.io/slm"}}},
        {"config": {"profiles": {"libraryNamespaces": ["model-library", "b"], "retentionDays": 90}}},
        {"config": {"profiles": {"retentionDays": None}}},
        {"global": {"from": "a parent chart"}},
        {"global": {"imageRegistry": "mirror.example:5000", "imagePullSecrets": [{"name": "mirror"}]}},
        {"metrics": {"dashboards": {"enabled": True, "annotations": {"folder": "SLM"}}}},
        {"tolerations": [{"key": "a", "operator": "Exists"}], "affinity": {"nodeAffinity": {}}},
    ],
    ids=str,
)
def test_values_that_users_set_are_taken(values: dict[str, Any]) -> None:
    assert problems(values) == []


def test_schema_objects_are_closed_or_raw_kubernetes_values() -> None:
    opened = {
        name
        for definition in [SCHEMA, *SCHEMA["$defs"].values()]
        for name, part in definition["properties"].items()
        if part.get("type") == "object" and part.get("additionalProperties") is not False
    }
    raw = {
        "annotations",
        "labels",
        "ruleLabels",
        "resources",
        "nodeSelector",
        "affinity",
        "podAnnotations",
        "podLabels",
        "productLabels",
        "perGpuHour",
        "hard",
    }
    assert opened == raw
    shared = {"Global"}  # a parent chart has values of its own there
    parts = {"": SCHEMA, **SCHEMA["$defs"]}
    assert {name for name, part in parts.items() if part["additionalProperties"] is not False} == shared
