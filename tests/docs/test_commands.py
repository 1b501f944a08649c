"""Every command in a ```console block names what exists: make targets, files, kinds, flags, chart values.

Those in RUN are run by the tests that are named there; blocks that need hardware say so (```console gpu).
"""

import argparse
import itertools
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
from slm_operator.api.crd import KINDS
from slm_operator.cli.arguments import parser
from slm_runtime import cli as runtime

from hack.chart_values import values_schema
from tests.docs.pages import PAGES, ROOT, Block, blocks

RUN = {
    "make env": "every other target",
    "make test": ".ci/run",
    "make check": ".github/workflows/ci.yaml, and the stage of its name in `make test`",
    "make record": "tests/unit/test_records.py; each record names the run that made it",
    "make generate": "tests/unit/api/test_generated.py asks the same of what is kept",
    "make demo": "the demo itself; its path is tests/e2e/test_first_answer.py",
    "helm install": "tests/testbed/stage.py, for every test of tests/e2e",
    "make release": "tests/release/test_release.py (`make record shipping`)",
    "helm pull": "tests/release/test_release.py, by oras and by helm install",
    "helm verify": "tests/release/test_release.py",
    "cosign verify": "tests/release/test_release.py",
    "sha256sum": "tests/release/test_release.py",
    "oras": "tests/release/test_air_gap.py",
    "for name in": "tests/release/test_air_gap.py",
    "sed": "tests/release/test_air_gap.py",
    "pip": "tests/release/test_air_gap.py",
    "helm registry login": "tests/release/test_air_gap.py",
    "kubectl create": "tests/release/test_air_gap.py",
    "gpg": "tests/release/test_release.py",
    "helm upgrade": "tests/chart/life.py, for tests/chart/test_life.py and tests/e2e/test_chart_life.py",
    "helm show crds": "tests/chart/life.py, for tests/chart/test_life.py and tests/e2e/test_chart_life.py",
    "helm uninstall": "tests/e2e/test_chart_life.py",
    "kubectl annotate slmp": "tests/control_plane/test_profile_waits.py",
    "kubectl label node": "tests/testbed/stage.py",
    "kubectl label namespace": "tests/chart/test_plain_manifests.py",
    "kubectl apply -k": "tests/chart/test_plain_manifests.py",
    "kubectl apply -f": "tests/chart/test_chart.py, tests/e2e",
    "kubectl get": "tests/control_plane/test_operator_api.py",
    "kubectl explain": "tests/control_plane/test_operator_api.py",
    "kubectl delete": "tests/e2e",
    "kubectl scale": "tests/control_plane/test_scale.py, tests/e2e/test_autoscaling.py",
    "kubectl patch": "tests/control_plane/test_scale.py",
    "kubectl slm": "tests/unit/cli, tests/release/test_walkthrough.py",
    "kubectl wait": "tests/release/test_walkthrough.py",
    "kubectl port-forward": "tests/release/test_walkthrough.py",
    "curl --": "tests/release/test_walkthrough.py",
    "kill": "tests/release/test_walkthrough.py",
    "while kubectl get nodes": "tests/release/test_walkthrough.py",
    "uv tool install": "tests/release/test_walkthrough.py",
    "git": "git",
    ".venv/bin/pytest": "by whoever develops",
    ".venv/bin/pre-commit install": "by hand: it writes into .git",
    "make help": "by hand",
    ".venv/bin/python -m benchmarks.mutation": "`make record mutation`, which is the same",
    "python -m slm_runtime profile": "tests/unit/runtime/test_profile.py",
    "python -m slm_runtime serve": "tests/unit/runtime/serve/test_serve.py",
    "curl localhost:8001/": "tests/unit/runtime/serve/test_serve.py",
}
"""Where each kind of command is run."""

CONSOLE = [block for page in PAGES for block in blocks(page) if block.language.startswith("console")]
COMMANDS = [(block, line) for block in CONSOLE for line in block.lines if block.language == "console"]
KUBECTL_KINDS = {"node", "namespace", "pods", "nodes", "crd", "jobs", "slmd", "slmp"} | {k.plural for k in KINDS}


def test_blocks_are_runnable_or_say_what_they_need() -> None:
    assert {block.language for block in CONSOLE} <= {"console", "console gpu"}
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_a_command_names_what_exists(block: Block, line: str) -> None:
    normal = line.replace(".venv/bin/kubectl-slm", "kubectl slm").replace("--server-side ", "")
    assert any(normal.startswith(start) for start in RUN), f"{block.page}: say in RUN where `{line}` is run"
    words = shlex.split(normal)
    match words[:2]:
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case ["kubectl", "slm"]:
            reads_as_slm(words[2:])
        case ["kubectl", "get" | "explain" | "delete"]:
            kinds = {kind.partition(".")[0] for kind in words[2].split(",")}
            assert kinds <= KUBECTL_KINDS
        case ["helm", _]:
            values_exist(words)
        case ["python", "-m"]:
            runtime._parser().parse_args(words[3 : words.index("--")])
    for word in words:
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", word) and not re.match(
            r"(slm-operator\.io|profiles|REGISTRY|RELEASES|MIRROR|nvdp|deploy|isvc|slmd|service)/", word
        ):
            assert (ROOT / word.partition("=")[0]).exists(), word


def reads_as_slm(words: list[str]) -> None:
    try:
        parser().parse_args(words)
    except (SystemExit, argparse.ArgumentError) as error:
        raise AssertionError(f"kubectl slm {shlex.join(words)}") from error


def values_exist(words: list[str]) -> None:
    """Each --set path is a value of the chart."""
    schema = jsonschema.Draft7Validator(json.loads(values_schema()))
    sets = [word for before, word in itertools.pairwise(words) if before == "--set"]
    for assignment in sets:
        path, _, value = assignment.partition("=")
        nested: object = value.strip("{}").split(",") if value.startswith("{") else value
        for name in reversed(path.split(".")):
            nested = {name.removesuffix("[0]"): [nested] if name.endswith("[0]") else nested}
        unknown = [error.message for error in schema.iter_errors(nested) if error.validator == "additionalProperties"]
        assert unknown == []


def test_run_names_tests_that_exist() -> None:
    for where in RUN.values():
        for path in re.findall(r"tests/[\w/.]+|\.ci/run", where):
            assert Path(ROOT / path).exists(), path
