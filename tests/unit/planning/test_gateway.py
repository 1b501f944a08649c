"""Load-aware routing: made when asked for, removed when not, and its refusal reported where it is no refusal to serve."""

from typing import Any

import pytest
from slm_operator.planning.actions import Apply, Delete
from slm_operator.planning.deployment.gateway import gateway_actions, routed_finding, routing_status
from slm_operator.planning.views import DeploymentView, Refusal
from slm_operator.settings import AllowedGateway, Routing, Settings

from tests import builders as build

ASKED = {"routing": {"gatewayRef": {"name": "inference"}, "endpointPickerRef": {"name": "chat-epp"}}}
MADE = {"routing": {"inferencePool": "chat", "httpRoute": "chat"}}


def view(spec: dict[str, Any], status: dict[str, Any] | None = None, refusal: Refusal | None = None) -> DeploymentView:
    return build.deployment_view(build.deployment(spec=spec, status=status or {}), None, refusal=refusal)


def planned(of: DeploymentView, settings: Settings = build.SETTINGS) -> tuple[list[str], dict[str, str] | None]:
    """Actions in short, and what status keeps."""
    assert of.deployment.spec is not None
    actions = gateway_actions(of, of.deployment.spec, settings)
    short = [
        f"{type(one).__name__} {one.manifest['kind'] if isinstance(one, Apply) else one.kind}"
        for one in actions
        if isinstance(one, Apply | Delete)
    ]
    return short, routing_status(of.deployment, actions, settings)


STEPS: dict[str, tuple[DeploymentView, list[str], dict[str, str] | None]] = {
    "not requested": (view({}), [], None),
    "asked for": (view(ASKED), ["Apply InferencePool", "Apply HTTPRoute"], MADE["routing"]),
    "requested before": (view({}, MADE), ["Delete HTTPRoute", "Delete InferencePool"], None),
}


@pytest.mark.parametrize("case", STEPS)
def test_routing_objects_are_made_removed_and_remembered(case: str) -> None:
    of, actions, kept = STEPS[case]
    assert planned(of) == (actions, kept)


def test_route_that_stays_for_now_is_remembered() -> None:
    assert routing_status(view({}, MADE).deployment, (), build.SETTINGS) == MADE["routing"]


SAID: dict[str, tuple[Refusal | None, bool, str, str]] = {
    "taken": (None, True, "Ready", "Gateway inference"),
    "no CRDs": (
        Refusal(kind="InferencePool", because="Apply InferencePool team/chat: 404 page not found", unserved=True),
        False,
        "GatewayApiMissing",
        "install the CRDs",
    ),
    "no rights": (Refusal(kind="HTTPRoute", because="cannot get"), False, "Refused", "rbac.gatewayApi"),
    "another object is refused": (Refusal(kind="Service", because="taken"), True, "Ready", "Gateway inference"),
}


@pytest.mark.parametrize("case", SAID)
def test_the_condition_names_what_is_in_the_way(case: str) -> None:
    refusal, holds, reason, words = SAID[case]
    of = view(ASKED, refusal=refusal)
    assert of.deployment.spec is not None
    found = routed_finding(of, of.deployment.spec, build.SETTINGS)
    assert found is not None
    assert (found.holds, found.reason) == (holds, reason)
    assert words in found.message


def test_routing_that_was_not_asked_for_has_no_condition() -> None:
    of = view({}, refusal=Refusal(kind="InferencePool", because="late"))
    assert of.deployment.spec is not None
    assert routed_finding(of, of.deployment.spec, build.SETTINGS) is None


def of_another(*hosts: str) -> dict[str, Any]:
    routing = ASKED["routing"] | {"gatewayRef": {"name": "public", "namespace": "infra"}, "hostnames": list(hosts)}
    return {"routing": routing}


LISTED = Settings(
    routing=Routing(gateways=(AllowedGateway(gateway="infra/public", host_suffix=".{namespace}.example"),))
)
REFUSED: dict[str, tuple[Settings, dict[str, Any], str]] = {
    "a gateway that is not listed": (build.SETTINGS, of_another("a.team.example"), "config.routing.gateways"),
    "every host of it": (LISTED, of_another(), "give spec.routing.hostnames"),
    "a host of another namespace": (
        LISTED,
        of_another("a.team.example", "b.other.example"),
        "b.other.example does not",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_gateway_of_another_namespace_is_used_only_as_allowed(case: str) -> None:
    settings, spec, words = REFUSED[case]
    assert planned(view(spec), settings) == ([], None)
    assert planned(view(spec, MADE), settings) == (["Delete HTTPRoute", "Delete InferencePool"], None)
    of = view(spec)
    assert of.deployment.spec is not None
    found = routed_finding(of, of.deployment.spec, settings)
    assert found is not None
    assert (found.reason, found.stalls) == ("GatewayNotAllowed", True)
    assert words in found.message


def test_listed_gateway_serves_hosts_of_the_namespace() -> None:
    assert planned(view(of_another("a.team.example")), LISTED)[0] == ["Apply InferencePool", "Apply HTTPRoute"]
