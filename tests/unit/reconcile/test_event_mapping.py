"""Which passes a change wakes."""

from dataclasses import replace
from typing import Any

import pytest
from slm_core.codec import to_json
from slm_operator.reconcile.event_mapping import affected_keys
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.settings import Profiles, Settings
from slm_operator.watch.cache import Change
from slm_operator.watch.watch_list import watched_kinds
from slm_operator.watch.world import World

from tests.builders import Raw, imported, raw_meta, raw_pod

SPEC = {"model": {"uri": "/m"}}
D, P = "deployment team/d", "profile team/p"


class Watching:
    """A world with deployment d (naming profile p) and e (another model), profile p and an opted-in node."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.keys = ProfileKeys(self.settings.defaults)
        self.caches = caches_for_planning(self.keys, self.settings)
        self.woken: list[str] = []
        self.world = World(watched_kinds(self.caches, self.settings), self.changed)
        self.see("SLMDeployment", "d", spec=SPEC | {"profiling": {"profileRef": {"name": "p"}}})
        self.see("SLMDeployment", "e", spec={"model": {"uri": "/other"}})
        self.see("SLMProfile", "p", spec=SPEC)
        self.see("SLMProfile", "q", spec={"model": {"uri": "/other"}})
        self.world.see(
            "Node", "ADDED", {"metadata": raw_meta("n1", namespace="", labels={"slm-operator.io/managed": "true"})}
        )

    def changed(self, change: Change[Any]) -> None:
        if change.news:
            self.woken += [str(work) for work in affected_keys(change, self.caches, self.keys, self.settings)]

    def see(self, kind: str, name: str, *, version: int = 1, labels: dict[str, str] | None = None, **raw: Any) -> None:
        head = raw_meta(name, version=version, labels=labels or {}, generation=raw.pop("generation", 1))
        self.world.see(kind, "MODIFIED", {"metadata": head, **raw})

    def wakes(self, kind: str, raw: Raw) -> set[str]:
        self.woken.clear()
        self.world.see(kind, "MODIFIED", raw)
        return set(self.woken)


OWNED = {"slm-operator.io/deployment": "d"}
MEASURED = {"slm-operator.io/profile": "p"}


@pytest.mark.parametrize(
    ("kind", "raw", "woken"),
    [
        pytest.param("Pod", raw_pod("x"), {"fleet"}, id="a foreign pod takes a GPU"),
        pytest.param("Pod", raw_pod("x", labels=OWNED), {"fleet", D}, id="a replica"),
        pytest.param("Pod", raw_pod("x", gpus=0, labels=OWNED), {D}, id="a pod of ours without a GPU"),
        pytest.param("Pod", raw_pod("x", labels=MEASURED), {"fleet", P}, id="the profile's pod"),
        pytest.param(
            "Job", {"metadata": raw_meta("j", labels=MEASURED)}, {P, "profile team/q"}, id="the profile's Job"
        ),
        pytest.param("Service", {"metadata": raw_meta("s", labels=OWNED)}, {D}, id="a Service"),
        pytest.param("Deployment", {"metadata": raw_meta("w", labels=OWNED)}, {D}, id="a Deployment"),
        pytest.param("Node", {"metadata": raw_meta("n2", namespace="")}, set(), id="a node that is not ours"),
        pytest.param(
            "Node", {"metadata": raw_meta("n1", namespace="", version=2)}, {"fleet"}, id="a node that was ours"
        ),
        pytest.param("ConfigMap", {"metadata": raw_meta("c")}, {"fleet"}, id="the plugin's configuration"),
        pytest.param(
            "SLMProfile", {"metadata": raw_meta("p", version=2, generation=2), "spec": SPEC}, {P, D}, id="a profile"
        ),
        pytest.param(
            "SLMDeployment",
            {"metadata": raw_meta("e", version=2, generation=2), "spec": {"model": {"uri": "/new"}}},
            {"fleet", "deployment team/e", "profile team/q"},
            id="a deployment's spec",
        ),
        pytest.param(
            "SLMDeployment",
            {
                "metadata": raw_meta("e", version=2, generation=1),
                "spec": {"model": {"uri": "/other"}},
                "status": {"a": 1},
            },
            {"deployment team/e"},
            id="a deployment's status concerns nobody else",
        ),
    ],
)
def test_a_change_wakes_whom_it_concerns(kind: str, raw: Raw, woken: set[str]) -> None:
    assert Watching().wakes(kind, raw) == woken


def test_a_new_sharer_asks_its_profile_and_no_other_sharer() -> None:
    watching = Watching()
    watching.woken.clear()
    watching.see("SLMDeployment", "f", spec={"model": {"uri": "/other"}})
    assert set(watching.woken) == {"deployment team/f", "profile team/q", "fleet"}


def test_a_librarys_profile_wakes_deployments_of_every_namespace() -> None:
    watching = Watching(Settings(profiles=Profiles(library_namespaces=("library",))))
    other = {"spec": {"model": {"uri": "/other"}}}
    assert watching.wakes("SLMProfile", {"metadata": raw_meta("x", namespace="library"), **other}) == {
        "profile library/x",
        "deployment team/e",
    }
    changed = {"metadata": raw_meta("e", version=2, generation=2), "spec": other["spec"] | {"paused": True}}
    assert "profile library/x" in watching.wakes("SLMDeployment", changed)


def test_profiles_of_one_key_hear_of_the_one_that_was_measured() -> None:
    watching = Watching()
    document = to_json(imported())
    measured = {
        "metadata": raw_meta("r", version=2),
        "spec": {"model": {"uri": "/other"}},
        "status": {"measurements": document},
    }
    assert watching.wakes("SLMProfile", measured) == {"profile team/r", "profile team/q", "deployment team/e"}


def test_a_measured_library_wakes_the_profiles_it_replaces() -> None:
    watching = Watching(Settings(profiles=Profiles(library_namespaces=("library",))))
    found = {"spec": {"model": {"uri": "/other"}}, "status": {"measurements": to_json(imported())}}
    woken = watching.wakes("SLMProfile", {"metadata": raw_meta("x", namespace="library"), **found})
    assert woken == {"profile library/x", "profile team/q", "deployment team/e"}


def test_an_edited_profile_wakes_whom_its_label_says_it_is_for() -> None:
    watching = Watching()
    (record,) = [one for one in watching.caches.deployments if one.meta.key.name == "e"]
    labels = {"slm-operator.io/profile": str(watching.keys.of(record))}
    template = {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"memory": "64Gi"}}}]}}
    edited = {"spec": {"model": {"uri": "/other"}, "podTemplate": template}}
    woken = watching.wakes("SLMProfile", {"metadata": raw_meta("x", labels=labels), **edited})
    assert woken == {"profile team/x", "deployment team/e"}


def test_a_profile_measured_anew_wakes_others_of_its_key() -> None:
    watching = Watching()
    for version, year in ((1, 2025), (2, 2026)):
        document = to_json(replace(imported(), measured_at=f"{year}-01-01T00:00:00Z"))
        raw = {"spec": {"model": {"uri": "/other"}}, "status": {"measurements": document}}
        woken = watching.wakes("SLMProfile", {"metadata": raw_meta("r", version=version), **raw})
        assert "profile team/q" in woken


def test_a_pod_that_only_becomes_ready_does_not_wake_the_fleet() -> None:
    watching = Watching()
    watching.wakes("Pod", raw_pod("x", labels=OWNED))
    ready = [{"type": "Ready", "status": "True"}]
    assert watching.wakes("Pod", raw_pod("x", version=2, labels=OWNED, status={"conditions": ready})) == {D}


def test_restarted_replica_wakes_the_fleet() -> None:
    watching = Watching()
    watching.wakes("Pod", raw_pod("x", labels=OWNED))
    engine = [{"name": "engine", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]
    assert watching.wakes("Pod", raw_pod("x", version=2, labels=OWNED, status={"containerStatuses": engine})) == {
        D,
        "fleet",
    }


def test_names_longer_than_a_label_are_found_by_their_label() -> None:
    watching = Watching()
    name = "d" * 100
    watching.see("SLMDeployment", name, spec=SPEC)
    (record,) = [one for one in watching.caches.deployments if one.meta.key.name == name]
    label = next(iter(watching.caches.deployments._index_of["label"](record)))[1]  # type: ignore[index]
    assert len(label) <= 63
    woken = watching.wakes("Service", {"metadata": raw_meta("s", labels={"slm-operator.io/deployment": label})})
    assert woken == {f"deployment team/{name}"}
