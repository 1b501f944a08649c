"""`kubectl slm upgrade`, and what other commands make of the defaults that a deployment keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api import names
from slm_operator.cli.main import main
from slm_operator.defaults import Defaults, Kept
from slm_operator.watch import custom_resources
from unit.cli.api_server import failure
from unit.cli.cluster_objects import DOCUMENT, MANIFEST, PROFILE, TEAM

from tests import builders as build

if TYPE_CHECKING:
    from unit.cli.api_server import ApiServer

SLMD = f"{TEAM}/slmdeployments/opt"
SETTINGS = "/api/v1/namespaces/slm-system/configmaps/slm-operator"
NEWER = {"data": {"config.yaml": "defaults: {engineImage: 'mirror.example/vllm:2', runtimeClassName: nvidia}\n"}}
FIRST = Defaults(engine_image="mirror.example/vllm:1")


def kept(values: Defaults = FIRST, **head: Any) -> dict[str, Any]:
    """The deployment as its operator has looked at it."""
    raw = MANIFEST | {"metadata": {"name": "opt", "namespace": "team", "resourceVersion": "42"} | head}
    of = custom_resources.deployment(raw).made_of
    return raw | {"status": {"defaults": Kept(values=values, made_of=of).given()}}


def test_an_upgrade_asks_by_a_value_that_nobody_gave(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {SLMD: kept(), SETTINGS: NEWER}
    assert main(["upgrade", "opt"]) == 0
    (patch,) = server.patched
    assert patch["metadata"]["resourceVersion"] == "42"
    assert set(patch) == {"metadata"}
    assert patch["metadata"]["annotations"].keys() == {names.UPGRADE_ANNOTATION}
    assert "others are now: engineImage, runtimeClassName" in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_other(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {SLMD: kept(), SETTINGS: NEWER}
    assert main(["upgrade", "opt", "--dry-run"]) == 0
    assert server.patched == []
    assert "would take the operator's defaults of now; others are now: engineImage" in capsys.readouterr().out


def test_who_has_the_defaults_of_now_is_left_alone(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {SLMD: kept(Defaults())}
    assert main(["upgrade", "opt"]) == 0
    assert server.patched == []
    assert "nothing to do" in capsys.readouterr().out


def test_who_may_not_see_the_settings_may_ask(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {
        SLMD: kept(Defaults()),
        SETTINGS: failure(403, 'configmaps is forbidden: User "u" cannot get resource "configmaps"'),
    }
    assert main(["upgrade", "opt"]) == 0
    assert len(server.patched) == 1
    assert "which of them differ is not known" in capsys.readouterr().out


def test_a_deployment_that_nobody_has_looked_at_is_refused(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upgrade", "opt"]) == 2
    assert "has no status.defaults: its operator has not looked at it yet" in capsys.readouterr().err
    assert server.patched == []


def test_one_that_is_changed_meanwhile_is_refused(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {SLMD: kept(), SETTINGS: NEWER, f"PATCH {SLMD}": failure(409, "the object has been modified")}
    assert main(["upgrade", "opt"]) == 2
    assert "was changed while it was looked at: try again" in capsys.readouterr().err


def measured_in(image: str) -> dict[str, Any]:
    spec = PROFILE["spec"] | {"engine": PROFILE["spec"]["engine"] | {"image": image}}
    return PROFILE | {"spec": spec}


@pytest.mark.parametrize(
    ("there", "image"),
    [(kept(), "mirror.example/vllm:1"), (failure(404, "slmdeployments not found"), "mirror.example/vllm:2")],
    ids=["of the one that is there", "of now, where there is none"],
)
def test_a_plan_is_made_with_the_defaults_that_it_would_have(
    server: ApiServer, manifest: str, capsys: pytest.CaptureFixture[str], there: Any, image: str
) -> None:
    server.answers |= {SLMD: there, SETTINGS: NEWER}
    for measured, said in ((image, "Serve 2 engines per GPU"), ("mirror.example/vllm:3", "It would be measured first")):
        server.answers[f"{TEAM}/slmprofiles"] = {"items": [measured_in(measured)]}
        assert main(["plan", "-f", manifest]) == 0
        assert said in capsys.readouterr().out


def test_check_names_who_has_older_defaults(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {"/apis/slm-operator.io/v1alpha1/slmdeployments": {"items": [kept()]}, SETTINGS: NEWER}
    main(["check"])
    said = " ".join(capsys.readouterr().out.split())
    assert "team/opt keep former defaults of the operator (engineImage, runtimeClassName)" in said
    assert "kubectl slm upgrade opt -n team" in said


def test_measurements_that_name_no_image_stay_found() -> None:
    """By an image that never changes, whatever engines have by default on another day."""
    unnamed = build.raw_profile(build.deployment("opt"), DOCUMENT)
    del unnamed["spec"]["engine"]["image"]
    unnamed["spec"]["measurements"]["engine"].pop("image", None)
    for default in ("mirror.example/vllm:1", "mirror.example/vllm:2"):
        record = custom_resources.profile(unnamed, default)
        assert record.spec is not None
        assert record.spec.engine.image == "vllm/vllm-openai:v0.32.0"
    unmeasured = unnamed | {"spec": {name: part for name, part in unnamed["spec"].items() if name != "measurements"}}
    record = custom_resources.profile(unmeasured, "mirror.example/vllm:2")
    assert record.spec is not None
    assert record.spec.engine.image == "mirror.example/vllm:2"
