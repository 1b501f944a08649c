"""What is not ours is used as it is or left alone; what was ours is collected, found broken, or given up."""

from dataclasses import replace
from datetime import datetime

import pytest
from slm_operator.api import names
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import Evict, PatchConfig, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.views import FleetPlan, FleetView
from slm_operator.watch.records import Cause

from tests import builders as build

from .playing import play

CONFIG = build.SETTINGS.device_plugin.config_label
KEY = config_key(build.MPS_4)


def with_daemon(view: FleetView, started: str | None = None) -> FleetView:
    return replace(view, daemons=(*view.daemons, build.daemon("mps-control-daemon", "gpu-1", started=started)))


def plan(view: FleetView, seconds: float = 0) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def test_externally_partitioned_node_is_only_marked() -> None:
    theirs = build.node(slice_class=build.MPS_2, labels={CONFIG: "theirs"})
    made = plan(
        build.fleet_view(
            build.demand(), nodes=(theirs,), config_map=build.config_map(theirs=plugin_config(build.MPS_2))
        )
    )
    (patch,) = (action for action in made.plan.actions if isinstance(action, PatchNode))
    assert set(patch.labels) == {names.CLASS_LABEL, names.SERVES_LABEL}
    assert patch.taints is None
    assert not patch.annotations


def test_a_node_of_another_external_class_is_not_touched() -> None:
    theirs = build.node(slice_class=build.MPS_4, labels={CONFIG: "theirs"})
    made = plan(
        build.fleet_view(
            build.demand(), nodes=(theirs,), config_map=build.config_map(theirs=plugin_config(build.MPS_4))
        )
    )
    assert not made.plan.actions
    assert "another party" in (made.assignments[build.demand().deployment].pending_because or "")


UNSHARED_CONFIG = "version: v1"
CONFIGURED = (
    ("the default says it", None, {"default": plugin_config(build.MPS_2)}, "", True, True),
    ("the plugin's own default says it", None, {"pool": plugin_config(build.MPS_2)}, "pool", True, True),
    ("the only key says it", None, {"lone": plugin_config(build.MPS_2)}, "", True, True),
    ("nothing to compare with: no config-manager", None, {"default": UNSHARED_CONFIG}, "", False, True),
    ("given back late: the default says unshared", None, {"default": UNSHARED_CONFIG}, "", True, False),
    ("given back late: the former key says unshared", "theirs", {"theirs": UNSHARED_CONFIG}, "", True, False),
    ("the key is not there", "theirs", {"default": UNSHARED_CONFIG}, "", True, False),
)


@pytest.mark.parametrize(
    ("requested_config", "texts", "default_key", "config_manager", "used"),
    [row[1:] for row in CONFIGURED],
    ids=[row[0] for row in CONFIGURED],
)
def test_slices_without_a_configuration_on_the_node_are_unused(
    requested_config: str | None, texts: dict[str, str], default_key: str, *, config_manager: bool, used: bool
) -> None:
    found = build.node(slice_class=build.MPS_2, labels={CONFIG: requested_config} if requested_config else {})
    plugin = [
        replace(one, default_key=default_key, takes_lone_key=True)
        for one in build.plugin_pods("gpu-1", config_manager=config_manager)
    ]
    config = replace(build.config_map(), data=texts)
    made = plan(build.fleet_view(build.demand(), nodes=(found,), daemons=tuple(plugin), config_map=config))
    assert any(isinstance(action, PatchNode) for action in made.plan.actions) is used
    assert (
        "restart its device plugin" in (made.assignments[build.demand().deployment].pending_because or "")
    ) is not used


LONE = (
    ("falls back on the only key", {"theirs": UNSHARED_CONFIG}, "", True, False),
    ("has a default beside it", {"theirs": UNSHARED_CONFIG, "default": UNSHARED_CONFIG}, "", True, True),
    ("is given its default", {"theirs": UNSHARED_CONFIG}, "theirs", True, True),
    ("does not fall back on it", {"theirs": UNSHARED_CONFIG}, "", False, True),
)


@pytest.mark.parametrize(
    ("texts", "default_key", "falls_back", "begins"), [row[1:] for row in LONE], ids=[row[0] for row in LONE]
)
def test_no_key_is_added_beside_a_lone_fallback_key(
    texts: dict[str, str], default_key: str, *, falls_back: bool, begins: bool
) -> None:
    found = [replace(one, default_key=default_key, takes_lone_key=falls_back) for one in build.plugin_pods("gpu-1")]
    config = replace(build.config_map(), data=texts)
    made = plan(build.fleet_view(build.demand(), nodes=(build.node(),), daemons=tuple(found), config_map=config))
    assert any(isinstance(action, PatchConfig) for action in made.plan.actions) is begins
    assert (made.assignments[build.demand().deployment].reason == "NotSwitchable") is not begins


def test_a_label_that_somebody_set_after_us_stays_theirs() -> None:
    view = with_daemon(build.fleet_view(build.demand(), nodes=(build.partitioned_node(requested="theirs"),)))
    patches = [action for action in plan(view).plan.actions if isinstance(action, PatchNode)]
    assert patches
    assert not any(CONFIG in patch.labels for patch in patches)


def test_replicas_older_than_the_mps_daemon_are_replaced() -> None:
    early, late = (
        build.replica(name, started=started)
        for name, started in (("early", "2026-01-01T00:00:00Z"), ("late", "2026-01-01T00:02:00Z"))
    )
    view = with_daemon(
        build.fleet_view(build.demand(), nodes=(build.partitioned_node(),), pods=(early, late)),
        started="2026-01-01T00:01:00Z",
    )
    made = plan(view)
    assert [action.pod.name for action in made.plan.actions if isinstance(action, Evict)] == ["early"]
    assert made.assignments[build.demand().deployment].reason == "SlicesDegraded"


def test_a_deployment_that_is_measured_anew_keeps_its_node() -> None:
    config = build.config_map(**{config_key(build.MPS_2): plugin_config(build.MPS_2)})
    view = with_daemon(
        build.fleet_view(nodes=(build.partitioned_node(),), pods=(build.replica("a"),), config_map=config)
    )
    assert not plan(replace(view, undecided=frozenset({build.demand().deployment}))).plan.actions
    assert plan(view).plan.actions


def test_co_tenants_are_not_promised_the_same_slot_twice() -> None:
    pods = (build.replica("a", of="second"), build.replica("b", of="second"))
    demands = (
        build.demand("first", shared_tenancy=True, replicas=1),
        build.demand("second", shared_tenancy=True, replicas=2),
    )
    made = plan(with_daemon(build.fleet_view(*demands, nodes=(build.partitioned_node(serves="any"),), pods=pods)))
    assert made.assignments[demands[0].deployment].reason == "NoCapacity"
    assert made.assignments[demands[1].deployment].reason == "Ready"


def with_key(**stamps: datetime) -> FleetView:
    """A fleet whose ConfigMap has a key that nothing needs, added and unused since these moments."""
    prefixes = {"added": names.KEY_ADDED_ANNOTATION_PREFIX, "unused": names.KEY_UNUSED_ANNOTATION_PREFIX}
    annotations = {f"{prefixes[what]}{KEY}": at.isoformat() for what, at in stamps.items()}
    config = build.config_map(**{KEY: "version: v1"})
    config = replace(config, meta=replace(config.meta, annotations=annotations))
    return build.fleet_view(nodes=(), config_map=config, keys_in_use=frozenset())


def patches(view: FleetView, after_seconds: float = 0) -> list[PatchConfig]:
    return [action for action in plan(view, after_seconds).plan.actions if isinstance(action, PatchConfig)]


UNUSED_FOR_THE_FIRST_TIME = {
    "added long ago": {"added": build.later(-86_400)},
    "added before the clock was set back": {"added": build.later(86_400)},
    "unused before the clock was set back": {"added": build.NOW, "unused": build.later(86_400)},
}


@pytest.mark.parametrize("case", UNUSED_FOR_THE_FIRST_TIME)
def test_key_stays_ten_minutes_after_its_last_node(case: str) -> None:
    view = with_key(**UNUSED_FOR_THE_FIRST_TIME[case])
    (left,) = patches(view)
    assert (left.add, left.remove) == ({}, ())
    after = play(view, left)
    assert not patches(after, 599)
    assert [patch.remove for patch in patches(after, 601)] == [(KEY,)]


def test_key_removed_leaves_no_stamp_of_ours() -> None:
    view = with_key(added=build.NOW, unused=build.NOW)
    (removal,) = patches(view, 601)
    config = play(view, removal).config_map
    assert config is not None
    assert not config.meta.annotations


@pytest.mark.parametrize("in_use", [frozenset({KEY}), None], ids=["named", "not known"])
def test_key_is_not_collected_unless_nobody_names_it(in_use: frozenset[str] | None) -> None:
    view = replace(with_key(added=build.NOW, unused=build.NOW), keys_in_use=in_use)
    assert not [patch for patch in patches(view, 601) if patch.remove]


def test_key_that_a_node_names_again_begins_anew_when_it_goes() -> None:
    view = replace(with_key(added=build.NOW, unused=build.NOW), keys_in_use=frozenset({KEY}))
    (again,) = patches(view, 601)
    after = replace(play(view, again), keys_in_use=frozenset())
    assert not [patch for patch in patches(after, 602) if patch.remove]


@pytest.mark.parametrize("part", ["device-plugin", "mps-control-daemon"])
def test_key_stays_while_the_stack_of_a_node_waits_to_restart(part: str) -> None:
    """Its config-manager looks for the key that it read last, and without it ends at each start."""
    view = with_key(added=build.NOW, unused=build.NOW)
    waiting = build.daemon(part, "gpu-1", waiting=Cause("CrashLoopBackOff"))
    held = replace(view, nodes=(build.node("gpu-1"),), daemons=(waiting,))
    assert not patches(held, 86_400)
    assert patches(replace(held, daemons=(replace(waiting, waiting=None),)), 86_400)


def test_a_key_that_somebody_edited_is_not_used() -> None:
    key = config_key(build.MPS_2)
    made = plan(
        build.fleet_view(build.demand(), nodes=(build.node(),), config_map=build.config_map(**{key: "version: v1"}))
    )
    assert not made.plan.actions
    assert made.assignments[build.demand().deployment].reason == "NotSwitchable"
