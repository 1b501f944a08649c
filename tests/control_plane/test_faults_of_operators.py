"""What breaks about an operator's own process and its trust: a second one, another version, its clock, its disk, its CRD.

As `test_faults.py`: afterwards all is as it should be, and a fault that was never met fails its test.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.control_plane.fault_bed import Bed, Keeper, pods_of
from tests.control_plane.fault_proxy import kubeconfig_text, make_certificate
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, slm_deployment, slm_profile
from tests.control_plane.operator_process import PROGRAM, OperatorProcess, operator, wait_until
from tests.testbed.control_plane import control_plane as lend_control_plane
from tests.testbed.faketime import faketime_library

pytestmark = [
    pytest.mark.control_plane,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # see test_faults.py
]
RIVAL, VERSIONS, CLOCK = "two operators", "two versions", "clock wrong, and set"
TRUST, FULL_DISK, NO_CRD = "API server's certificate rotated", "disk full under the log", "CRD deleted"
FAULTS = {
    RIVAL: "a second one beside the first",
    VERSIONS: "a next one, which labels otherwise, beside the first; then it alone; then the first again",
    CLOCK: "libfaketime: 50 min ahead, then set to 50 min behind; a right one stands by",
    TRUST: "new key and CA on the API server, restarted; the operator's CA file holds the new one alone",
    FULL_DISK: "stderr is /dev/full, which answers every write with ENOSPC",
    NO_CRD: "kubectl delete crd; the process ends with 1, its Lease given up, and waits for the CRD",
}
"""Every fault and how it is injected: rows of docs/reference/reliability.md."""
VERSION_LABEL = "app.kubernetes.io/version"
NEXT_VERSION = f"""
import slm_operator.assembly
from slm_operator.main import main
from slm_operator.manifests import metadata
labels = metadata.labels
metadata.labels = lambda *of: labels(*of) | {{"{VERSION_LABEL}": "next"}}
main()
"""
"""This version, but for a label on each object that it makes: what an upgrade changes of children while pods stay."""
OFF_SECONDS = 40 * 60


def test_two_operators_never_act_both(bed: Bed, served: str) -> None:
    serving = pods_of(bed, served, "kept")
    with bed.suffers(RIVAL, FAULTS[RIVAL]) as outcome, operator(bed.plane, name="rival") as rival:
        rival.said("standing by")
        bed.apply(served, slm_deployment("made", "measured"))
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
        outcome.met = sum(line["message"] == "standing by" for line in rival.lines)
        assert rival.process.poll() is None
        assert rival.done() == []
        assert pods_of(bed, served, "kept") == serving


def versions_of(bed: Bed, namespace: str) -> set[str | None]:
    return {one["metadata"]["labels"].get(VERSION_LABEL) for one in bed.items(namespace, "deployments,services,pdb")}


def test_operator_upgrade_and_downgrade_restart_no_engine(bed: Bed, served: str) -> None:
    serving, program = pods_of(bed, served, "kept"), (sys.executable, "-c", NEXT_VERSION)
    with (
        bed.suffers(VERSIONS, FAULTS[VERSIONS]) as outcome,
        operator(bed.plane, *bed.keeper.arguments, name="next", program=program) as following,
    ):
        following.said("standing by")
        bed.apply(served, slm_deployment("made", "measured"))
        bed.converged(served, "kept", "deleted", "made")
        assert following.done() == []
        with bed.keeper.paused():
            wait_until(lambda: versions_of(bed, served) == {"next"})
            outcome.met = len(following.done())
        assert following.terminate() == 0
        wait_until(lambda: versions_of(bed, served) == {None})
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
        assert pods_of(bed, served, "kept") == serving


def test_wrong_clock_and_its_correction_cost_no_lease(bed: Bed, served: str, tmp_path: Path) -> None:
    serving, clock = pods_of(bed, served, "kept"), tmp_path / "clock"
    clock.write_text("+50m")
    wrong_clock = {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as a kernel: setting the time does not move it
    }
    with (
        bed.suffers(CLOCK, FAULTS[CLOCK]) as outcome,
        bed.keeper.paused(),
        operator(bed.plane, *bed.keeper.arguments, name="wrong", environment=wrong_clock) as wrong,
    ):
        wrong.said("leading")
        with operator(bed.plane, *bed.keeper.arguments, name="right") as right:
            right.said("standing by")
            bed.apply(served, slm_deployment("made", "measured"))
            bed.converged(served, "kept", "deleted", "made")
            clock.write_text("-50m")
            bed.apply(served, slm_deployment("made", "measured", replicas=2))
            outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
            assert right.done() == []
        off = offsets_of(wrong)
        outcome.met = sum(abs(seconds) > OFF_SECONDS for seconds in off)
        assert (min(off) < -OFF_SECONDS, max(off) > OFF_SECONDS) == (True, True)
        assert wrong.process.poll() is None
        assert pods_of(bed, served, "kept") == serving


def offsets_of(running: OperatorProcess) -> list[float]:
    """Seconds by which each line of its log is off our clock, as of now."""
    stamps = (line["time"] for line in running.lines if "time" in line)
    return [(datetime.fromisoformat(stamp) - datetime.now(UTC)).total_seconds() for stamp in stamps]


def test_the_api_servers_own_certificate_is_rotated(bed: Bed, tmp_path: Path) -> None:
    """On a control plane of its own, which shows this certificate to those alone who ask for `localhost`."""
    certificate, key = make_certificate(tmp_path, "DNS:localhost")
    flags = {"kube-apiserver": [f"--tls-sni-cert-key={certificate},{key}:localhost"]}
    with lend_control_plane(flags=flags) as plane:
        plane.kubectl("create", "namespace", "trusting")
        install(plane)
        add_gpu_nodes(plane, 2, gpus=4)
        kubeconfig = tmp_path / "kubeconfig"
        server = plane.server.replace("127.0.0.1", "localhost")
        kubeconfig.write_text(kubeconfig_text(server, certificate, plane.tokens["admin"]))
        keeper = Keeper(plane, bed.keeper.arguments, kubeconfig)
        own = Bed(plane, bed.proxy, keeper, bed.outcomes)
        with keeper.at_work(), own.suffers(TRUST, FAULTS[TRUST]) as outcome:
            own.apply("trusting", slm_profile("measured"))
            own.apply("trusting", slm_deployment("kept", "measured"))
            own.converged("trusting", "kept")
            serving, first = pods_of(own, "trusting", "kept"), keeper.running
            assert first is not None
            make_certificate(tmp_path, "DNS:localhost")
            plane.components["kube-apiserver"].restart(grace_s=0)
            own.apply("trusting", slm_deployment("made", "measured"))
            outcome.converged_seconds = own.converged("trusting", "kept", "made")
            outcome.met = sum("CERTIFICATE_VERIFY_FAILED" in json.dumps(line) for line in first.lines)
            assert pods_of(own, "trusting", "kept") == serving


def test_a_full_disk_under_its_log_stops_nothing(bed: Bed, served: str) -> None:
    command = [*PROGRAM, "run", f"--kubeconfig={bed.plane.kubeconfig}", "--liveness-port=0", "--metrics-port=0"]
    command += bed.keeper.arguments
    serving = pods_of(bed, served, "kept")
    with (
        bed.suffers(FULL_DISK, FAULTS[FULL_DISK]) as outcome,
        bed.keeper.paused(),
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, stderr=full, env=os.environ | {"POD_NAME": "full"}) as speechless,
    ):
        try:
            bed.apply(served, slm_deployment("made", "measured"))
            outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
            lease = bed.get("default", "lease/slm-operator")
            outcome.met = int(lease["spec"]["holderIdentity"] == "full" and speechless.poll() is None)
            assert pods_of(bed, served, "kept") == serving
        finally:
            speechless.terminate()


def test_zz_deleted_crd_ends_the_operator_in_order(bed: Bed, served: str) -> None:
    """NB: last of all, for Kubernetes deletes every SLMDeployment with its CRD, and what they own goes with them."""
    first = bed.keeper.running
    assert first is not None
    with bed.suffers(NO_CRD, FAULTS[NO_CRD]) as outcome:
        bed.plane.kubectl("delete", "crd", "slmdeployments.slm-operator.io", "--wait=true")
        assert first.process.wait(timeout=120) == 1
        outcome.met = 1
        first.wait_for(lambda line: line["message"] == "stopping" and "slmdeployments" in json.dumps(line))
        lease = bed.get("default", "lease/slm-operator")
        assert lease["spec"].get("holderIdentity", "") == ""
        reported = wait_until(lambda: (line := bed.keeper.running) is not None and line is not first and line)
        reported.said("cannot start")
        install(bed.plane)
        bed.apply(served, slm_deployment("kept", "measured"))
        outcome.converged_seconds = bed.converged(served, "kept")
