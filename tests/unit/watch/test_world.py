from typing import Any

import pytest
from slm_operator.settings import Settings
from slm_operator.watch.cache import Cache, Change, is_newer
from slm_operator.watch.pods import pod
from slm_operator.watch.records import Key, Owner, PodRecord
from slm_operator.watch.watch_list import CONTROLLER, GPU, OURS, Caches, watched_kinds
from slm_operator.watch.world import World
from yarl import URL

from tests.builders import Raw, page, raw_meta, raw_pod

PODS = URL("https://server/api/v1/pods?limit=500")
NEXT = URL("https://server/api/v1/pods?limit=500&continue=next")


class Watching:
    """A world, and the changes it reported."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.changes: list[Change[Any]] = []
        self.caches = Caches()
        settings = settings or Settings()
        self.world = World(watched_kinds(self.caches, settings), self.changes.append, settings.namespaces)

    def reported(self) -> list[tuple[str, str, bool]]:
        seen = [(change.kind, change.key.name, change.new is not None) for change in self.changes]
        self.changes.clear()
        return seen

    def take(self, url: URL, page: Raw) -> None:
        self.world.begin_page(url)
        for raw in page["items"]:
            self.world.take_item(url, raw)
        self.world.end_page(url, page)

    def list_all(self, *, but: str = "") -> None:
        for path, scope in self.world._scopes.items():
            if scope.kind != but:
                self.take(URL(f"https://server{path}"), page(scope.kind))


def test_synced_only_when_every_kind_is_listed_to_its_last_page() -> None:
    watching = Watching()
    watching.list_all(but="Pod")
    assert not watching.world.synced.is_set()
    watching.take(PODS, page("Pod", raw_pod("a"), more=True))
    assert not watching.world.synced.is_set()
    watching.take(NEXT, page("Pod", raw_pod("b")))
    assert watching.world.synced.is_set()
    assert set(watching.caches.pods.keys()) == {Key("team", "a"), Key("team", "b")}


def test_a_kind_is_watched_from_its_first_page_on() -> None:
    watching = Watching()
    assert not watching.world.begun.is_set()
    watching.list_all(but="Pod")
    assert (watching.world.begun.is_set(), watching.world.unwatched) == (True, ("Pod",))
    watching.world.begin_page(PODS)
    assert watching.world.unwatched == ()


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        (PODS, True),
        (URL("https://server/apis/apps/v1"), False),
        (URL("https://server/api/v1/namespaces"), False),
    ],
    ids=["pods", "discovery", "a kind that is not watched"],
)
def test_only_what_is_watched_is_taken(url: URL, *, taken: bool) -> None:
    assert Watching().world.takes(url) is taken


def test_kopf_sees_of_an_event_only_how_far_the_watch_has_come() -> None:
    watching = Watching()
    shown = watching.world.take_event(PODS, {"type": "ADDED", "object": raw_pod("a", version=7)})
    assert shown == {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}
    assert watching.reported() == [("Pod", "a", True)]


@pytest.mark.parametrize("kind", ["BOOKMARK", "ERROR"])
def test_watch_bookmarks_and_errors_pass_unchanged(kind: str) -> None:
    event = {"type": kind, "object": {"kind": "Status", "code": 410}}
    assert Watching().world.take_event(PODS, event) is event


def test_object_that_vanished_unwatched_is_dropped_by_next_list() -> None:
    watching = Watching()
    watching.take(PODS, page("Pod", raw_pod("a"), raw_pod("b")))
    watching.reported()
    watching.take(PODS, page("Pod", raw_pod("b"), version=200))
    assert watching.reported() == [("Pod", "a", False)]


def test_a_list_of_one_namespace_drops_nothing_of_another() -> None:
    watching = Watching(Settings(namespaces=("team", "other")))
    other = raw_pod("b") | {"metadata": raw_meta("b", namespace="other")}
    watching.take(URL("https://s/api/v1/namespaces/team/pods"), page("Pod", raw_pod("a")))
    watching.take(URL("https://s/api/v1/namespaces/other/pods"), page("Pod", other))
    watching.reported()
    watching.take(URL("https://s/api/v1/namespaces/team/pods"), page("Pod", version=200))
    assert watching.reported() == [("Pod", "a", False)]
    assert Key("other", "b") in watching.caches.pods


def test_nodes_are_not_watched_when_only_namespaces_are_served() -> None:
    kinds = watched_kinds(Caches(), Settings(namespaces=("team",)))
    assert {"Node", "ConfigMap"}.isdisjoint(one.kind for one in kinds)


def test_event_older_than_a_list_brings_nothing_back() -> None:
    watching = Watching()
    watching.take(PODS, page("Pod", version=200))
    watching.world.see("Pod", "MODIFIED", raw_pod("ghost", version=150))
    assert watching.reported() == []
    watching.world.see("Pod", "ADDED", raw_pod("born", version=201))
    assert watching.reported() == [("Pod", "born", True)]


def test_late_and_repeated_events_change_nothing() -> None:
    watching = Watching()
    for version in (5, 5, 4):
        watching.world.see("Pod", "MODIFIED", raw_pod("a", version=version))
    assert watching.reported() == [("Pod", "a", True)]


def test_a_namesake_survives_the_deletion_of_its_predecessor() -> None:
    watching = Watching()
    watching.world.see("Pod", "ADDED", raw_pod("a", version=9))
    watching.world.see("Pod", "DELETED", raw_pod("a", version=8))
    assert Key("team", "a") in watching.caches.pods
    watching.world.see("Pod", "DELETED", raw_pod("a", version=10))
    assert Key("team", "a") not in watching.caches.pods


def test_a_pod_that_stops_concerning_us_is_forgotten() -> None:
    watching = Watching()
    watching.world.see("Pod", "ADDED", raw_pod("a", version=1, gpus=0, labels={"slm-operator.io/deployment": "d"}))
    watching.world.see("Pod", "MODIFIED", raw_pod("a", version=2, gpus=0))
    assert watching.reported() == [("Pod", "a", True), ("Pod", "a", False)]


def test_a_change_of_nothing_that_is_recorded_is_no_news() -> None:
    watching = Watching()
    watching.world.see("Pod", "ADDED", raw_pod("a", version=1))
    watching.world.see("Pod", "MODIFIED", raw_pod("a", version=2, status={"podIP": "10.0.0.1"}))
    assert [change.news for change in watching.changes] == [True, False]


@pytest.mark.parametrize(
    ("containers", "part"),
    [
        (("nvidia-device-plugin-sidecar", "nvidia-device-plugin-ctr"), "device-plugin"),
        (("config-manager", "nvidia-device-plugin"), "device-plugin"),
        (("mps-control-daemon-ctr",), "mps-control-daemon"),
    ],
    ids=["the plugin's own chart", "the GPU Operator", "MPS daemon"],
)
def test_daemon_pods_are_found_by_namespace_and_container(containers: tuple[str, ...], part: str) -> None:
    watching = Watching()
    raw = raw_pod("plugin", gpus=0)
    raw["spec"]["containers"] = [
        {
            "name": name,
            "env": [
                {"name": "DEFAULT_CONFIG", "value": "pool"},
                {"name": "FALLBACK_STRATEGIES", "value": "named,single"},
                {"name": "NODE_NAME", "valueFrom": {}},
            ],
        }
        for name in containers
    ]
    watching.world.see("Pod", "ADDED", raw)
    assert len(watching.caches.daemons) == 0
    raw["metadata"] |= {"namespace": "nvidia-device-plugin"}
    watching.world.see("Pod", "ADDED", raw)
    (daemon,) = watching.caches.daemons
    assert (daemon.meta.key.namespace, daemon.part, daemon.containers) == ("nvidia-device-plugin", part, containers)
    assert (daemon.default_key, daemon.takes_lone_key) == ("pool", True)
    assert len(watching.caches.pods) == 0


def test_indexes_follow_every_change() -> None:
    caches = Caches()
    label = "slm-operator.io/deployment"
    made_by = (Owner("ReplicaSet", "x-1", "u"),)
    record = pod(raw_pod("a", version=1, labels={label: "x"}, owners=made_by))
    assert record is not None
    caches.pods.put(record)
    moved = pod(raw_pod("a", version=2, labels={label: "y"}, owners=made_by))
    assert moved is not None
    caches.pods.put(moved)
    assert caches.pods.by(OURS, ("team", "x")) == ()
    assert caches.pods.by(OURS, ("team", "y")) == (moved,)
    assert caches.pods.by(GPU, True) == (moved,)
    caches.pods.drop(Key("team", "a"))
    assert caches.pods.by(GPU, True) == ()
    assert caches.pods._indexes == {OURS: {}, CONTROLLER: {}, GPU: {}}


def test_an_update_touches_only_its_own_index_entries() -> None:
    looked_at = 0

    def counting(record: PodRecord) -> tuple[str]:
        nonlocal looked_at
        looked_at += 1
        return (record.phase,)

    cache: Cache[PodRecord] = Cache("Pod", {"phase": counting})
    records = [pod(raw_pod(f"p{n}")) for n in range(1000)]
    for record in records:
        assert record is not None
        cache.put(record)
    looked_at = 0
    changed = pod(raw_pod("p500", version=2))
    assert changed is not None
    cache.put(changed)
    assert looked_at == 2


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [("10", "9", True), ("9", "9", False), ("9", "10", False), ("a", "a", False), ("b", "a", True), ("a", "b", True)],
)
def test_resource_versions_compare_as_numbers_or_by_difference(version: str, than: str, *, newer: bool) -> None:
    assert is_newer(version, than) is newer


def test_an_unreadable_object_stops_no_list_and_no_watch(caplog: pytest.LogCaptureFixture) -> None:
    watching, known = Watching(), raw_pod("odd", version=1)
    watching.take(PODS, page("Pod", known))
    odd = raw_pod("odd", version=2)
    odd["spec"]["containers"] = "three"
    watching.take(PODS, page("Pod", odd, raw_pod("b")))
    watching.world.see("Pod", "MODIFIED", odd)
    watching.world.see("Pod", "ADDED", raw_pod("c", version=101))
    assert set(watching.caches.pods.keys()) == {Key("team", name) for name in ("odd", "b", "c")}
    assert watching.caches.pods.get(Key("team", "odd")) == pod(known)
    assert [record.message for record in caplog.records] == ["object not read"] * len(caplog.records) != []
