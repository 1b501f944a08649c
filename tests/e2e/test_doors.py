"""Every door of docs/how-to/close-doors.md, tried open, closed, and tried again; and that all goes on behind closed ones.

A recorded run, for it needs a node that enforces policies, which takes minutes to build: `make record doors`.
"""

from __future__ import annotations

import base64
import json
import secrets
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.codec import parse_document

from tests.testbed.component import wait_until

from .changes import keep, outcome
from .doors import (
    ATTEMPTS,
    INSIDE,
    KEY_SECRET,
    METRICS_HOST,
    NAME,
    NAMED,
    NAMESPACE,
    OUTSIDE,
    Bed,
    attempts,
    bed,
    certify,
    close,
    put_certificate,
    put_key,
)
from .light import applied, light, wait_until_ready
from .load import steady_load
from .serving import TOKEN_MS, assert_nothing_lost, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(3600), pytest.mark.record]
FLOOD_SECONDS = 75
"""Longer than an answer about a token holds."""
FLOOD = """
import collections, json, ssl, sys, time, urllib.error, urllib.request
context, counted, end = ssl._create_unverified_context(), collections.Counter(), time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer false-{sum(counted.values())}"})
    try:
        counted[urllib.request.urlopen(request, timeout=20, context=context).status] += 1
    except urllib.error.HTTPError as error:
        counted[error.code] += 1
print(json.dumps(counted))
"""
KINDS = "slmd,slmp,pods,deployments,replicasets,jobs,services,pdb,configmaps,events,networkpolicies,resourcequotas"


@pytest.fixture(scope="module")
def opened(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(stage, tmp_path_factory.mktemp("certificates")) as made:
        yield made


@pytest.fixture(scope="module")
def closed(opened: Bed) -> Bed:
    close(opened)
    return opened


def doors_line(bed: Bed) -> str:
    findings = json.loads(bed.slm("check", "-o", "json", "--namespace", NAMESPACE))["findings"]
    (said,) = (one["what"] for one in findings if one["check"] == "Doors")
    return str(said)


def test_by_default_every_door_is_open_but_one(opened: Bed) -> None:
    found = attempts(opened)
    assert found == {name: by_default for name, (_, by_default, _) in ATTEMPTS.items()}
    said = doors_line(opened)
    assert said.startswith("open, each a value of the chart: policy.engines.images")
    assert said.count("; ") == 9
    keep("open", found)


def test_closed_doors_refuse_all_but_whom_they_are_for(closed: Bed) -> None:
    found = attempts(closed)
    assert found == {name: expected for name, (_, _, expected) in ATTEMPTS.items()}
    assert doors_line(closed) == "every one that the chart has is closed"
    keep("closed", found)


def test_monitor_demand_and_top_see_load_behind_doors(closed: Bed) -> None:
    query = f'slm_demand_replicas{{namespace="{NAMESPACE}",name="{NAME}"}}'

    def demand() -> float:
        now = time.time()
        found = closed.prometheus.range(query, now - 10, now, 1)
        return max((value for series in found for _, value in series.samples), default=0.0)

    with steady_load(closed.stage, NAMESPACE, NAME, clients=8, tokens=16, key=closed.key) as load:
        # The light engine takes 30 ms a token, which the limit of 12 does not let: the monitor must see that.
        until(lambda: slo_met(closed)["reason"] == "SloMissed", timeout_s=180)
        until(lambda: demand() > 0, timeout_s=60)
        seen = closed.slm("top", "--once", "--namespace", NAMESPACE)
    assert_nothing_lost(load.account)
    assert NAME in seen
    assert "no metrics" not in seen
    keep("load", outcome(load.account) | {"SLOMet": slo_met(closed)["reason"]})


def slo_met(bed: Bed) -> dict[str, Any]:
    conditions = bed.stage.get("slmd", NAME, NAMESPACE)["status"]["conditions"]
    return next((one for one in conditions if one["type"] == "SLOMet"), {"reason": ""})


def scraped_without_a_gap(bed: Bed, seconds: float) -> int:
    """How often Prometheus has read the operator's figures in the last seconds; every time."""
    now = time.time()
    (series,) = bed.prometheus.range('up{job="operator"}', now - seconds, now, 1)
    assert {value for _, value in series.samples} == {1.0}, series.samples
    return len(series.samples)


def test_false_tokens_keep_no_prometheus_out(closed: Bed) -> None:
    until(lambda: is_up(closed), timeout_s=60)
    namespace, name = INSIDE
    url = f"https://{METRICS_HOST}:9090/metrics"
    flood = ("exec", "--namespace", namespace, name, "--", "python3", "-c", FLOOD, url, str(FLOOD_SECONDS))
    counted = json.loads(closed.kubectl(*flood))
    assert counted["429"] > counted["401"] > 0
    assert "200" not in counted
    keep("flood", counted | {"seconds": FLOOD_SECONDS, "scraped": scraped_without_a_gap(closed, FLOOD_SECONDS)})


def is_up(bed: Bed) -> bool:
    now = time.time()
    found = bed.prometheus.range('up{job="operator"}', now - 2, now, 1)
    return bool(found) and found[0].samples[-1][1] == 1.0


def test_a_renewed_certificate_is_taken_without_a_restart(closed: Bed) -> None:
    before, operator = served_certificate(closed), closed.operator()
    began = time.monotonic()
    certify(closed.folder)
    put_certificate(closed)
    until(lambda: served_certificate(closed) != before, timeout_s=180)
    assert served_certificate(closed) == (closed.folder / "tls.crt").read_text().strip()
    after = closed.operator()
    assert after["metadata"]["uid"] == operator["metadata"]["uid"]
    assert [one["restartCount"] for one in after["status"]["containerStatuses"]] == [0]
    scraped = scraped_without_a_gap(closed, time.monotonic() - began)
    keep("a renewed certificate", {"seconds": round(time.monotonic() - began), "scraped": scraped})


def served_certificate(bed: Bed) -> str:
    namespace, name = INSIDE
    script = f"import ssl; print(ssl.get_server_certificate(('{METRICS_HOST}', 9090)))"
    return bed.kubectl("exec", "--namespace", namespace, name, "--", "python3", "-c", script).strip()


def test_all_containers_have_a_read_only_root(closed: Bed) -> None:
    for pod in (closed.operator(), *closed.pods()):
        assert_read_only(pod)


def assert_read_only(pod: dict[str, Any]) -> None:
    containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
    assert containers
    assert {one["name"] for one in containers if not one["securityContext"]["readOnlyRootFilesystem"]} == set()


def test_the_key_stands_in_nothing_but_its_secret(closed: Bed, tmp_path: Path) -> None:
    keep("the key", assert_key_stands_nowhere(closed, NAME, tmp_path))


def assert_key_stands_nowhere(bed: Bed, name: str, folder: Path) -> dict[str, int]:
    """Objects, logs and what the commands print, searched for the key; how much that was."""
    archive, report = folder / "support.tgz", folder / "report.html"
    bed.slm("support", "--namespace", NAMESPACE, "--output", str(archive))
    bed.slm("report", name, "--namespace", NAMESPACE, "--output", str(report))
    told = {
        "objects": bed.kubectl("get", KINDS, "--all-namespaces", "--show-managed-fields", "--output", "yaml"),
        "check": bed.slm("check", "--namespace", NAMESPACE),
        "explain": bed.slm("explain", name, "--namespace", NAMESPACE),
        "top": bed.slm("top", "--once", "--namespace", NAMESPACE),
        "report": report.read_text(),
    }
    with tarfile.open(archive) as members:
        told |= {one.name: read.read().decode() for one in members if (read := members.extractfile(one))}
    logs = [path for path in bed.stage.cluster.logs.rglob("*") if path.is_file()]
    told |= {str(path): path.read_text(errors="replace") for path in logs}
    assert any(name in path.parent.parent.name for path in logs), "the engines' logs are not among them"
    assert KEY_SECRET in told["objects"]
    written = (bed.key, base64.b64encode(bed.key.encode()).decode().rstrip("="))
    assert {where for where, text in told.items() if any(word in text for word in written)} == set()
    return {"searched": len(told), "characters": sum(map(len, told.values()))}


def test_another_key_in_the_secret_holds_after_a_restart(closed: Bed) -> None:
    measured = closed.stage.get("slmd", NAME, NAMESPACE)["status"]["profile"]
    former, key = closed.key, f"key-{secrets.token_hex(16)}"
    put_key(closed, key)
    assert (closed.complete(NAMED, former), closed.complete(NAMED, key)) == ("200", "401")
    closed.kubectl("rollout", "restart", f"deployment/{NAME}", "--namespace", NAMESPACE)
    closed.kubectl("rollout", "status", f"deployment/{NAME}", "--namespace", NAMESPACE, "--timeout=280s")
    wait_until_ready(closed.stage, NAMESPACE, NAME)
    assert (closed.complete(NAMED, former), closed.complete(NAMED, key)) == ("401", "200")
    assert closed.stage.get("slmd", NAME, NAMESPACE)["status"]["profile"] == measured
    put_key(closed, former)  # for who comes next


@pytest.fixture(scope="module")
def packed(closed: Bed) -> Iterator[str]:
    """A model that is measured behind closed doors, and served as a pack: its name, and what its profile's pod said."""
    closed.kubectl("delete", "slmd", NAME, "--namespace", NAMESPACE)
    closed.kubectl("wait", "--for=delete", "pods", "--all", "--namespace", NAMESPACE, "--timeout=280s")
    engine = {"env": [TOKEN_MS], "apiKeySecretRef": {"name": KEY_SECRET}}
    pack = light("pack", engine=engine, slo={"itl": {"maxFactor": 4}}, sharing={"partitioning": "PackPod"})
    with applied(closed.stage, NAMESPACE, pack):
        wait_until(lambda: bool(profile_pods(closed)), "the profile's pod", 240)
        measuring = profile_pods(closed)[0]
        assert_read_only(measuring)
        assert KEY_SECRET not in json.dumps(measuring), "a model is measured without the key"
        wait_until_ready(closed.stage, NAMESPACE, "pack", 600)
        yield "pack"


def profile_pods(bed: Bed) -> list[dict[str, Any]]:
    return bed.pods(NAMESPACE, "slm-operator.io/profile")


def test_a_pack_is_measured_and_served_behind_closed_doors(closed: Bed, packed: str) -> None:
    status = closed.stage.get("slmd", packed, NAMESPACE)["status"]
    profile = closed.stage.get("slmp", status["profile"]["name"], NAMESPACE)["status"]
    document = parse_document(profile["measurements"])
    assert any(point.replicas == 2 for point in document.points)
    assert status["sharing"]["partitioning"] == "PackPod"
    found = {
        "without a key": closed.complete(NAMED, "", packed),
        "with a wrong one": closed.complete(NAMED, "wrong", packed),
        "with the key": closed.complete(NAMED, closed.key, packed),
        "with the key, from a namespace that is not named": closed.complete(OUTSIDE, closed.key, packed),
    }
    assert list(found.values()) == ["401", "401", "200", "unreachable"]
    for pod in closed.pods():
        assert_read_only(pod)
    with steady_load(closed.stage, NAMESPACE, packed, clients=4, tokens=16, key=closed.key) as load:
        closed.slm("top", "--once", "--namespace", NAMESPACE)
    assert_nothing_lost(load.account)
    keep("a pack", found | outcome(load.account) | {"points": len(document.points)})


def test_the_key_of_a_pack_stands_in_nothing_either(closed: Bed, packed: str, tmp_path: Path) -> None:
    keep("the key of a pack", assert_key_stands_nowhere(closed, packed, tmp_path))
