"""The label by which nodes are lent may be one that no kubelet can set: then nothing of ours goes by another."""

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.planning.actions import Apply, Plan
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import Assignment, ProfileView
from slm_operator.reconcile.indexes import is_our_node
from slm_operator.settings import Nodes, Settings
from slm_operator.watch.records import NodeRecord

from tests import builders as build

RESTRICTED = "node-restriction.kubernetes.io/slm"
SETTINGS = Settings(nodes=Nodes(opt_in_label=RESTRICTED))
FORGED = build.node(
    "forged", slice_class=build.MPS_2, labels={names.CLASS_LABEL: "mps-2", names.SERVES_LABEL: "team.chat"}
)
"""A node whose kubelet gave itself every label that it may."""


def lent(record: NodeRecord) -> NodeRecord:
    return replace(record, meta=replace(record.meta, labels={**record.meta.labels, RESTRICTED: "true"}))


def template(plan: Plan, kind: str) -> dict[str, Any]:
    (made,) = (one.manifest for one in plan.actions if isinstance(one, Apply) and one.manifest["kind"] == kind)
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("mode", ["Exclusive", "MPS", "TimeSlicing"])
@pytest.mark.parametrize("tenancy", ["Dedicated", "Shared"])
def test_every_replica_selects_the_opt_in_label(mode: str, tenancy: str) -> None:
    record = build.deployment(spec={"sharing": {"mode": mode, "tenancy": tenancy}})
    known = build.deployment_view(record, build.profile(record, build.imported()))
    asked = demand_of(record, known.profile, known.advice)
    assert asked is not None
    given = Assignment(slice_class=asked.slice_class, asked=asked, nodes=("gpu-1",), slots=asked.replicas)
    view = replace(known, assignment=given)
    selected = [
        template(plan_deployment(view, one, build.NOW), "Deployment")["nodeSelector"]
        for one in (SETTINGS, build.SETTINGS)
    ]
    assert [one.get(RESTRICTED) for one in selected] == ["true", None]
    assert [one.get(names.OPT_IN_LABEL) for one in selected] == [None, "true"]


def test_a_profile_selects_the_label_once_a_node_has_it() -> None:
    profile = build.profile(build.deployment())
    anywhere = template(plan_profile(ProfileView(profile=profile), SETTINGS, build.NOW), "Job")
    assert RESTRICTED not in anywhere["nodeSelector"]
    view = ProfileView(profile=profile, nodes=(lent(build.node()),))
    made = template(plan_profile(view, SETTINGS, build.NOW), "Job")
    assert made["nodeSelector"][RESTRICTED] == "true"
    assert names.OPT_IN_LABEL not in made["nodeSelector"]


def test_node_that_labelled_itself_is_not_used_but_given_back() -> None:
    made = plan_fleet(build.fleet_view(build.demand(), nodes=(FORGED,)), SETTINGS, build.NOW)
    answer = made.assignments[build.demand().deployment]
    assert answer.nodes == answer.changing == ()
    assert f"did not opt in: label it {RESTRICTED}=true" in (answer.pending_because or "")


def test_a_node_that_was_lent_is_partitioned() -> None:
    answer = plan_fleet(build.fleet_view(build.demand(), nodes=(lent(build.node()),)), SETTINGS, build.NOW).assignments[
        build.demand().deployment
    ]
    assert answer.changing == ("gpu-1",)


def test_opt_in_label_is_named_where_no_node_has_it() -> None:
    answer = plan_fleet(build.fleet_view(build.demand(), nodes=()), SETTINGS, build.NOW).assignments[
        build.demand().deployment
    ]
    assert f"label GPU nodes {RESTRICTED}=true" in (answer.pending_because or "")


def test_a_lent_node_is_seen_before_it_bears_a_mark() -> None:
    bare = build.node(meta=build.meta("gpu-1", "", labels={RESTRICTED: "true"}))
    assert is_our_node(bare, SETTINGS)
    assert not is_our_node(bare, build.SETTINGS)
