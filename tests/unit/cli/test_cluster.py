"""Commands that look at a cluster: what they say, and how they refuse."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.cli.main import main
from unit.cli.api_server import GROUP, failure, kubeconfig_for
from unit.cli.cluster_objects import MANIFEST, PROFILE, PROFILE_NAME, TEAM, deployed

if TYPE_CHECKING:
    from pathlib import Path

    from unit.cli.api_server import ApiServer


def test_explain_prints_the_sentences_of_status(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "opt"]) == 0
    reported = capsys.readouterr().out
    advice = server.answers[f"{TEAM}/slmdeployments/opt"]["status"]["advice"]
    assert reported.startswith("opt is Ready: all is well\n")
    for sentence in advice["sentences"]:
        assert sentence in reported
    assert "more were considered: `kubectl slm report`" in reported


@pytest.mark.parametrize("name", ["", ".", ".."])
@pytest.mark.parametrize("command", [["profile", "export"], ["explain"], ["history"], ["report"]], ids=" ".join)
def test_a_name_that_is_another_path_is_refused(
    server: ApiServer, command: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, name]) == 2
    assert f"{name!r} is no name of an SLM" in capsys.readouterr().err
    assert server.asked == []


def test_a_library_profile_that_is_gone_names_its_namespace(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = deployed()
    server.answers[f"{TEAM}/slmdeployments/opt"] = raw | {
        "status": raw["status"] | {"profile": {"name": "gone", "namespace": "lib"}}
    }
    assert main(["report", "opt"]) == 2
    assert '"gone" not found in namespace lib: ' in capsys.readouterr().err


def test_explain_of_a_status_of_a_newer_version_is_refused(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = deployed()
    server.answers[f"{TEAM}/slmdeployments/opt"] = raw | {"status": raw["status"] | {"phase": "Hibernating"}}
    assert main(["explain", "opt"]) == 2
    assert (
        "the status of SLMDeployment opt cannot be read by this version: `kubectl slm check`" in capsys.readouterr().err
    )


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
    reported = capsys.readouterr().out
    assert "opt " in reported
    assert "+13%" in reported
    assert "point 6/6" in reported


def test_watch_of_an_empty_namespace(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {f"{GROUP}/namespaces/empty/{kind}": {"items": []} for kind in ("slmdeployments", "slmprofiles")}
    assert main(["watch", "-n", "empty"]) == 0
    assert capsys.readouterr().out == "no SLMDeployment and no SLMProfile in namespace empty\n"


def test_report_of_a_deployment_uses_its_own_profile_and_slo(server: ApiServer, tmp_path: Path) -> None:
    assert main(["report", "opt", "-o", str(tmp_path / "r.html")]) == 0
    assert "Serve 2 engines per GPU (MPS)" in (tmp_path / "r.html").read_text()


LIVE = "import sys; from slm_operator.cli.main import main; sys.exit(main())"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "field", "first", "later"),
    [("watch", "phase", "Ready", "Starting"), ("top", "readyReplicas", "2/2", "1/2")],
)
def test_a_live_view_follows_what_happens_until_interrupted(
    server: ApiServer, command: str, field: str, first: str, later: str
) -> None:
    server.answers["/api/v1/namespaces/team/pods"] = {"items": []}
    ours, theirs = pty.openpty()
    watching = subprocess.Popen([sys.executable, "-c", LIVE, command], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    read_until(ours, first)
    changed = deployed()
    changed["status"][field] = later if field == "phase" else 1
    server.answers[f"{TEAM}/slmdeployments"] = {"items": [changed]}
    read_until(ours, later)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=120) == 130
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


ASKING = [
    ["explain", "opt"], ["watch", "--once"], ["top", "--once"], ["history", "opt"], ["rollback", "opt"], ["check"],
    ["support", "-o", "/dev/null"], ["profile", "export", "p"], ["profile", "list"], ["profile", "prune"], ["profile", "diff", "a", "b"],
    ["report", "opt", "-o", "/dev/null"],
]  # fmt: skip
"""Every command that asks a cluster."""


@pytest.mark.parametrize("arguments", ASKING, ids=[" ".join(words[:2]) for words in ASKING])
def test_command_without_any_right_prints_one_sentence(
    server: ApiServer, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = 'everything is forbidden: User "u" cannot do anything'
    server.answer = lambda *_: failure(403, message)  # type: ignore[method-assign]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert f"no rights: {message}: ask whoever runs the cluster for this right" in err


@pytest.mark.parametrize("arguments", ASKING, ids=[" ".join(words[:2]) for words in ASKING])
def test_command_without_a_cluster_prints_one_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig_for("http://127.0.0.1:9")))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "the cluster at http://127.0.0.1:9 does not answer" in err


KUBECONFIGS: list[tuple[str, str | None, str]] = [
    ("none", None, "no kubeconfig at"),
    ("empty", "", "is not a kubeconfig"),
    ("not YAML", "a: [", "is not a kubeconfig"),
    ("a list", "[1]", "is not a kubeconfig"),
    ("without a context", "apiVersion: v1\nkind: Config\n", "fix it, or give --context"),
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
