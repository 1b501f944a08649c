"""`kubectl slm profile list|prune`: what is shown, and that only what the operator made and nobody uses is deleted."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from slm_operator.cli.commands import profile_list
from slm_operator.cli.inputs.profiles import known_profiles, prunable, rested_on
from slm_operator.cli.main import main
from unit.cli.api_server import GROUP, failure
from unit.cli.cluster_objects import MANIFEST, PROFILE, PROFILE_NAME, TEAM, kept_profile

if TYPE_CHECKING:
    from unit.cli.api_server import ApiServer

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JANUARY = "2026-01-01T00:00:00Z"
IMPORTED = {"spec": PROFILE["spec"] | {"measurements": PROFILE["status"]["measurements"]}}


def deployment(name: str, namespace: str = "team", **spec_and_status: Any) -> dict[str, Any]:
    return MANIFEST | {"metadata": {"name": name, "namespace": namespace}} | spec_and_status


USES: list[tuple[str, dict[str, Any]]] = [
    ("measures", {"status": {"profile": {"name": "p"}}}),
    ("serves", {"status": {"profile": {"name": "new"}, "advice": {"profileRef": {"name": "p"}}}}),
    ("pinned", {"spec": {"profiling": {"profileRef": {"name": "p"}}}}),
]


@pytest.mark.parametrize("more", [c[1] for c in USES], ids=[c[0] for c in USES])
def test_deployment_that_names_a_profile_uses_it(more: dict[str, Any]) -> None:
    (found,) = known_profiles([kept_profile("p", unusedSince=JANUARY)], [deployment("chat", **more)])
    assert found.used_by == ("chat",)
    assert prunable([found], 0, NOW) == ()


# what status.profile says, and the profile that is meant
RESTED_ON: list[tuple[Any, tuple[str, str] | None]] = [
    ({"name": "p"}, ("team", "p")),
    ({"name": "p", "namespace": "lib"}, ("lib", "p")),
    *((odd, None) for odd in (None, 7, "x", ["p"], {}, {"name": 7}, {"name": ""})),
]


@pytest.mark.parametrize(("used", "profile"), RESTED_ON, ids=[repr(c[0]) for c in RESTED_ON])
def test_a_deployment_rests_on_the_profile_in_its_status(used: Any, profile: tuple[str, str] | None) -> None:
    assert rested_on(deployment("chat", status={"profile": used}), "team") == profile


def test_a_deployment_of_another_namespace_uses_its_own() -> None:
    more = {"status": {"profile": {"name": "p"}}}
    (found,) = known_profiles([kept_profile("p")], [deployment("chat", "other", **more)])
    assert found.used_by == ()


# name, a profile, whether it may go after 30 days without a use
PRUNABLE: list[tuple[str, dict[str, Any], bool]] = [
    ("unused", kept_profile("p", unusedSince=JANUARY), True),
    ("unused and failed", kept_profile("p", unusedSince=JANUARY, phase="Failed", measurements=None), True),
    ("unused lately", kept_profile("p", unusedSince="2026-02-20T00:00:00Z"), False),
    ("used", kept_profile("p"), False),
    ("nothing said", kept_profile("p", unusedSince="soon"), False),
    ("no zone", kept_profile("p", unusedSince="2026-01-01T00:00:00"), False),
    ("by hand", kept_profile("p", labels={}, unusedSince=JANUARY), False),
    ("by Helm", kept_profile("p", labels={"app.kubernetes.io/managed-by": "Helm"}, unusedSince=JANUARY), False),
    ("imported", kept_profile("p", unusedSince=JANUARY) | IMPORTED, False),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "goes"), [c[1:] for c in PRUNABLE], ids=[c[0] for c in PRUNABLE])
def test_only_what_the_operator_made_and_nobody_uses_goes(raw: dict[str, Any], *, goes: bool) -> None:
    found = known_profiles([raw], [])
    assert prunable(found, 30, NOW) == (found if goes else ())


def test_a_profile_from_a_backup_is_unused_since_it_was_restored() -> None:
    raw = kept_profile("p", unusedSince=JANUARY)
    raw["metadata"]["creationTimestamp"] = "2026-02-20T00:00:00Z"
    found = known_profiles([raw], [])
    assert prunable(found, 10, NOW) == ()
    assert prunable(found, 9, NOW) == found


def test_profile_being_deleted_is_not_deleted_again() -> None:
    raw = kept_profile("p", unusedSince=JANUARY)
    raw["metadata"]["deletionTimestamp"] = JANUARY
    assert prunable(known_profiles([raw], []), 0, NOW) == ()


@pytest.mark.parametrize("document", ["x", [], {"points": {}}, {"gpu": 7, "cost": []}])
def test_a_document_of_another_version_is_listed_all_the_same(document: Any) -> None:
    (found,) = known_profiles([kept_profile("p", measurements=document)], [])
    assert (found.name, found.points) == ("p", 0)


ODD: list[Any] = [7, "x", [1], {"a": 1}, True]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("field", ["phase", "gpuSeconds", "product", "unusedSince", "measurements"])
def test_a_status_of_another_form_is_listed_all_the_same(
    server: ApiServer, field: str, odd: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [kept_profile("p", **{field: odd})]}
    assert main(["profile", "list"]) == 0
    assert "\np " in capsys.readouterr().out


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_document_with_odd_points_or_cost_is_listed(odd: Any) -> None:
    raw = kept_profile("p", gpuSeconds=None, measurements={"points": odd, "cost": {"gpuSeconds": odd}})
    raw["metadata"]["labels"] = odd
    (found,) = known_profiles([raw], [])
    assert (found.points, found.is_operators) == (1 if isinstance(odd, list) else 0, False)
    assert found.gpu_seconds in {None, 7}


@pytest.fixture
def kept(server: ApiServer) -> ApiServer:
    """Two profiles that may go, and three that may not."""
    old = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    made = [
        kept_profile("old", unusedSince=old, gpuSeconds=7200),
        kept_profile("older", unusedSince=JANUARY, gpuSeconds=60),
        kept_profile("by-hand", labels={}, unusedSince=old),
        kept_profile("imported", unusedSince=old) | IMPORTED,
        PROFILE,
    ]
    server.answers[f"{TEAM}/slmprofiles"] = {"items": made}
    return server


def test_list_says_who_uses_a_profile_and_what_it_cost(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "list"]) == 0
    lines = {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert lines[PROFILE_NAME].endswith("Complete opt 240")
    assert "2026-01-01" in lines["older"]
    assert lines["old"].endswith("7,200")
    assert "NAMESPACE" not in lines["PROFILE"]


LONG = f"{'x' * 40}-0b7f21aa-1f3c"


def test_a_piped_list_has_a_line_a_profile(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    long = kept_profile(LONG, product="NVIDIA-H100-80GB-HBM3", unusedSince=JANUARY, gpuSeconds=20_000)
    server.answers[f"{TEAM}/slmprofiles"] = {"items": [long, kept_profile("p")]}
    assert main(["profile", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["p", "hf://facebook/opt-1.3b"],
        [LONG, "hf://facebook/opt-1.3b"],
    ]


def test_a_long_name_leaves_room_for_the_model_in_a_terminal() -> None:
    out = Console(width=120, file=io.StringIO(), highlight=False)
    out.print(profile_list.table(known_profiles([kept_profile(LONG)], [])))
    assert "hf://facebook/opt-1.3b" in out.file.getvalue()  # type: ignore[attr-defined]


def test_list_of_all_namespaces_names_them(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    kept.answers[f"{GROUP}/slmprofiles"] = kept.answers[f"{TEAM}/slmprofiles"]
    assert main(["profile", "list", "-A"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("team ")


def test_list_for_scripts_has_null_for_what_is_not_known(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "list", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = {one["name"]: one for one in answer["profiles"]}
    assert answer["schema"] == "slm-operator.io/profiles/v1"
    assert (found[PROFILE_NAME]["usedBy"], found[PROFILE_NAME]["unusedSince"]) == (["opt"], None)
    assert (found["older"]["unusedSince"], found["older"]["isOperators"]) == (JANUARY, True)
    assert found["imported"]["isOperators"] is False


def test_list_of_nothing_says_where_profiles_come_from(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {f"{GROUP}/namespaces/empty/{kind}": {"items": []} for kind in ("slmdeployments", "slmprofiles")}
    assert main(["profile", "list", "-n", "empty"]) == 0
    assert capsys.readouterr().out.startswith("no SLMProfile in namespace empty: ")


def test_prune_without_yes_deletes_nothing(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "prune"]) == 0
    reported = " ".join(capsys.readouterr().out.split())
    assert "2 of 5 profiles would go: made by the operator, and unused for 30 days or more" in reported
    assert "Measuring took 7,260 GPU seconds. Nothing was deleted" in reported
    assert kept.deleted == []


def test_prune_deletes_what_it_looked_at_and_no_other(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "prune", "--yes"]) == 0
    assert capsys.readouterr().out == "SLMProfile team/older deleted\nSLMProfile team/old deleted\n"
    assert [asked for asked in kept.asked if asked.startswith("DELETE")] == [
        f"DELETE {TEAM}/slmprofiles/older",
        f"DELETE {TEAM}/slmprofiles/old",
    ]
    assert [body["preconditions"] for body in kept.deleted] == [
        {"uid": "uid-older", "resourceVersion": "7"},
        {"uid": "uid-old", "resourceVersion": "7"},
    ]


def test_prune_keeps_what_came_into_use_meanwhile(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    kept.answers[f"DELETE {TEAM}/slmprofiles/older"] = failure(409, "the ResourceVersion in the precondition")
    kept.answers[f"DELETE {TEAM}/slmprofiles/old"] = failure(404, 'slmprofiles "old" not found')
    assert main(["profile", "prune", "--yes"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("SLMProfile team/older was kept: it was changed while it was looked at")
    assert second == "SLMProfile team/old was gone already"


def test_prune_without_the_right_says_what_is_gone_already(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    kept.answers[f"DELETE {TEAM}/slmprofiles/old"] = failure(403, 'User "u" cannot delete resource "slmprofiles"')
    assert main(["profile", "prune", "--yes"]) == 2
    out, err = capsys.readouterr()
    assert out == "SLMProfile team/older deleted\n"
    assert "no rights: User" in err


def test_prune_for_scripts_without_the_right_says_what_is_gone(
    kept: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.answers[f"DELETE {TEAM}/slmprofiles/old"] = failure(403, 'User "u" cannot delete resource "slmprofiles"')
    assert main(["profile", "prune", "--yes", "-o", "json"]) == 2
    out, err = capsys.readouterr()
    found = [(one["name"], one["outcome"]) for one in json.loads(out)["profiles"]]
    assert found == [("older", "deleted"), ("old", "was not deleted")]
    assert "no rights: User" in err


def test_prune_where_there_is_no_profile_says_so(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[f"{TEAM}/slmprofiles"] = {"items": []}
    assert main(["profile", "prune"]) == 0
    assert capsys.readouterr().out == "nothing to prune: there is no SLMProfile here\n"


def test_prune_for_scripts_says_what_became_of_each(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "prune", "--unused-for", "40", "--yes", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["outcome"]) for one in answer["profiles"]] == [("older", "deleted")]
    assert answer["unusedForDays"] == 40


def test_prune_of_nothing_names_where_to_look(kept: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "prune", "--unused-for", "9999", "--yes"]) == 0
    assert capsys.readouterr().out.startswith("none of 5 profiles was made by the operator and is unused for 9999 days")


def test_export_leaves_the_operators_mark_behind(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[f"{TEAM}/slmprofiles/p"] = kept_profile("p")
    assert main(["profile", "export", "p"]) == 0
    assert "managed-by" not in capsys.readouterr().out
