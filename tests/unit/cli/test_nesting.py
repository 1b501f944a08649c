"""Objects and files nested as deeply as the API server takes them: no command ends in a traceback."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.cli.main import REFUSED, main
from unit.cli.cluster_objects import MANIFEST, PROFILE, PROFILE_NAME, SPEC, ready_cluster

from tests.nesting import API_SERVER_LEVELS, DEEP, deep_json, nested

if TYPE_CHECKING:
    from pathlib import Path

    from unit.cli.api_server import ApiServer

pytestmark = pytest.mark.slow
COMMANDS: dict[str, list[str]] = {
    "explain": ["explain", "opt"],
    "watch": ["watch", "--once"],
    "top": ["top", "--once"],
    "history": ["history", "opt"],
    "rollback": ["rollback", "opt"],
    "export": ["profile", "export", PROFILE_NAME],
    "report": ["report", "opt", "--force", "--output", "report.html"],
    "check": ["check"],
    "support": ["support", "--force", "-o", "support.tgz"],
}


def marked(raw: Any, place: str) -> Any:
    """Every object with something nested deeply, in its metadata or in its spec."""
    raw = copy.deepcopy(raw)
    for one in raw.get("items", [raw]):
        one["metadata"] = one.get("metadata") or {}
        if place == "managedFields":
            one["metadata"]["managedFields"] = [{"manager": "me", "fieldsV1": {"f:spec": DEEP}}]
        elif one.get("kind") in {MANIFEST["kind"], PROFILE["kind"]}:
            one["spec"] = one["spec"] | {"podTemplate": {"spec": {"x": DEEP}}}
    return raw


def reported(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(arguments)
    shown = capsys.readouterr()
    lines = sorted(line for line in (shown.out + shown.err).splitlines() if "KiB" not in line)
    return code, "\n".join(lines)  # in order, because what is read at once comes in any


@pytest.fixture
def here(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """The API server, in a folder that commands may write into."""
    monkeypatch.chdir(tmp_path)
    server.answers["/api/v1/namespaces/team/pods"] = {"items": []}
    return server


@pytest.mark.parametrize("command", COMMANDS)
def test_deep_fields_that_nobody_reads_change_no_answer(
    command: str, here: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = reported(COMMANDS[command], capsys)
    for path, answer in list(here.answers.items()):
        here.answers[path] = deep_json(marked(answer, "managedFields"), API_SERVER_LEVELS)
    assert reported(COMMANDS[command], capsys) == plain


@pytest.mark.parametrize("levels", [150, 900, 5000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_deep_pod_template_ends_no_command(
    command: str, levels: int, here: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, answer in ready_cluster().items():
        here.answers[path] = deep_json(marked(answer, "podTemplate"), levels)
    code, said = reported(COMMANDS[command], capsys)
    assert code in {0, 1, REFUSED}
    assert said
    assert "opt" in said or command in {"check", "support"}


@pytest.mark.parametrize("levels", [100, 900, 1500])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_deep_manifest_is_refused_with_a_sentence(
    levels: int, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"slmd.{form}"
    spec = json.dumps(MANIFEST | {"spec": SPEC | {"podTemplate": {"x": DEEP}}})
    file.write_text(spec.replace(json.dumps(DEEP), nested(levels)))
    code, said = reported(["plan", "-f", str(file)], capsys)
    assert (code, said.count("\n")) == (REFUSED, 0)
    assert "nested" in said or "recursion" in said
