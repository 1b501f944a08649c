"""`kubectl slm history` and `rollback`: what ran, from which profile, and what brings it back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.codec import to_json
from slm_operator.cli.inputs.revisions import Revision, revisions, way_back
from slm_operator.cli.main import main
from slm_operator.manifests.replicas import replicas
from slm_operator.planning.deployment.advising import Unadvisable, advise_deployment, serving_of
from unit.cli.api_server import failure
from unit.cli.cluster_objects import DOCUMENT, MANIFEST, PROFILE, PROFILE_NAME, SPEC, TEAM

from tests import builders as build

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument
    from unit.cli.api_server import ApiServer

READ = build.deployment_spec(SPEC)
FORMER = "opt-1-3b-former"
SINGLE = replace(DOCUMENT, points=tuple(point for point in DOCUMENT.points if point.replicas == 1))
"""What was measured first: no pack was."""


def replica_set(number: int, profile: str, document: MeasurementDocument, **pods: int) -> dict[str, Any]:
    """As the Deployment controller makes it of what the operator applies."""
    advice = advise_deployment(READ, document)
    assert not isinstance(advice, Unadvisable)
    record = build.deployment("opt", SPEC)
    manifest = replicas(
        record,
        READ,
        serving := serving_of(READ.engine, advice, document),
        build.replica_fleet(serving, 2, profile),
    )
    annotations = manifest["metadata"]["annotations"] | {"deployment.kubernetes.io/revision": str(number)}
    return {
        "metadata": {
            "name": f"opt-{number}",
            "annotations": annotations,
            "creationTimestamp": f"2026-01-0{number}T10:00:00Z",
        },
        "spec": {"template": manifest["spec"]["template"]},
        "status": pods,
    }


FIRST = replica_set(1, FORMER, SINGLE)
SECOND = replica_set(2, PROFILE_NAME, DOCUMENT, replicas=2, readyReplicas=1)
SETS = "/apis/apps/v1/namespaces/team/replicasets"
SLMD = f"{TEAM}/slmdeployments/opt"


@pytest.fixture
def rolled(server: ApiServer) -> ApiServer:
    """A deployment whose second profile found a pack."""
    former = PROFILE | {"metadata": {"name": FORMER}, "status": {"measurements": to_json(SINGLE)}}
    server.answers |= {SETS: {"items": [FIRST, SECOND]}, f"{TEAM}/slmprofiles/{FORMER}": former}
    server.answers[SLMD] = MANIFEST | {"metadata": {"name": "opt", "namespace": "team", "resourceVersion": "42"}}
    return server


def test_revisions_are_read_from_what_ran() -> None:
    second, first = revisions([FIRST, SECOND, {"metadata": {"name": "not ours"}}])
    assert (second.number, second.engines_per_gpu, second.sharing_mode, second.ready) == (2, 2, "MPS", 1)
    assert (first.number, first.engines_per_gpu, first.sharing_mode, first.replicas) == (1, 1, "Exclusive", 0)
    assert first.profile == FORMER
    assert first.batch_size != second.batch_size or first.kv_bytes != second.kv_bytes
    assert first.advice != second.advice


def test_history_is_newest_first(rolled: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "opt"]) == 0
    _, second, first = capsys.readouterr().out.splitlines()
    assert second.split()[:5] == ["2", "2026-01-02", "10:00:00", "2", "MPS"]
    assert second.split()[-1] == "now"
    assert first.split()[:4] == ["1", "2026-01-01", "10:00:00", "1"]
    assert first.split()[-1] == "yes"


def test_history_as_json(rolled: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "opt", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    second, first = answer["revisions"]
    assert (second["current"], first["current"], first["canBeHadAgain"]) == (True, False, True)
    assert first["profile"] == FORMER
    assert "--max-num-seqs" in first["args"]


def test_history_of_what_has_run_nothing(rolled: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    rolled.answers[SETS] = {"items": []}
    assert main(["history", "opt"]) == 0
    assert "opt has run nothing yet" in capsys.readouterr().out


def test_rollback_pins_the_former_profile_at_the_read_version(
    rolled: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "opt"]) == 0
    assert rolled.patched == [
        {"metadata": {"resourceVersion": "42"}, "spec": {"profiling": {"profileRef": {"name": FORMER}}}},
    ]
    assert f"was set to {FORMER}: the advice of revision 1" in capsys.readouterr().out


def test_rollback_brings_back_the_former_arguments() -> None:
    """The patch's effect, by the operator's own way from spec and profile to arguments."""
    record = build.deployment("opt", SPEC | {"profiling": {"profileRef": {"name": FORMER}}})
    pinned = build.spec_of(record)
    advice = advise_deployment(pinned, SINGLE)
    assert not isinstance(advice, Unadvisable)
    again = replicas(
        record,
        pinned,
        serving := serving_of(pinned.engine, advice, SINGLE),
        build.replica_fleet(serving, 2, FORMER),
    )
    assert again["spec"]["template"] == FIRST["spec"]["template"]


def test_a_dry_run_writes_nothing(rolled: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "opt", "--to-revision", "1", "--dry-run"]) == 0
    assert rolled.patched == []
    assert f"would be set to {FORMER}" in capsys.readouterr().out


REFUSALS: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("to what runs", {}, ["--to-revision", "2"], "revision 2 is what runs now: choose one of 1"),
    ("to what never was", {}, ["--to-revision", "7"], "there is no revision 7: choose one of 1"),
    ("nothing former", {SETS: {"items": [SECOND]}}, [], "opt has no former revision"),
    ("profile gone", {f"{TEAM}/slmprofiles/{FORMER}": failure(404, "not found")}, [], "holds no measurements any more"),
    ("changed meanwhile", {f"PATCH {SLMD}": failure(409, "the object has been modified")}, [], "was changed while it was looked at: try again"),
    ("no right", {f"PATCH {SLMD}": failure(403, 'User "u" cannot patch resource "slmdeployments"')}, [], "no rights"),
    ("no right to look", {SETS: failure(403, 'User "u" cannot list resource "replicasets"')}, [], "no rights"),
    ("another spec", {SLMD: MANIFEST | {"spec": SPEC | {"slo": {"itl": {"maxMs": 5.5}}}}}, [], "because spec has changed since: it ran with --max-num-seqs"),
    ("another image", {SLMD: MANIFEST | {"spec": SPEC | {"engine": {"image": "mine:2"}}}}, [], "(now mine:2); put the former spec back, with that image in spec.engine.image"),
    ("unreadable spec", {SLMD: MANIFEST | {"spec": {}}}, [], "cannot be read by this version"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "arguments", "sentence"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_rollback_refuses(
    rolled: ApiServer, changed: dict[str, Any], arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled.answers |= changed
    assert main(["rollback", "opt", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert rolled.patched == [] or f"PATCH {SLMD}" in changed


def revision(**changed: Any) -> Revision:
    (found,) = revisions([FIRST])
    return replace(found, **changed)


WAYS: list[tuple[str, Revision, Revision, str]] = [
    ("the same advice", revision(), revision(number=2), "ran with the same advice as now"),
    ("no profile named", revision(profile=""), revision(args=()), "does not say which profile"),
    ("a flag that the operator no longer sets", revision(args=(*revision().args, "--old")), revision(args=()), "--old (now absent)"),
    ("another model", revision(args=("org/other", *revision().args[1:])), revision(args=()), "org/other (now facebook/opt-1.3b)"),
    ("a flag that it sets since", revision(args=revision().args[:-2]), revision(args=()), "no --shutdown-timeout"),
    ("another order", revision(args=(*revision().args[:-4], *revision().args[-2:], *revision().args[-4:-2])), revision(args=()), "the same arguments in another order"),
]  # fmt: skip


@pytest.mark.parametrize(("to", "now", "sentence"), [c[1:] for c in WAYS], ids=[c[0] for c in WAYS])
def test_rollback_is_refused_with_its_reason(to: Revision, now: Revision, sentence: str) -> None:
    assert sentence in way_back(READ, "opt", now, to, SINGLE).refused


def test_rollback_to_a_former_revision_is_found() -> None:
    way = way_back(READ, "opt", revision(args=()), revision(), SINGLE)
    assert (way.profile, way.refused) == (FORMER, "")
