"""One life of the private engine, reported as JSON. test_testbed runs it in namespaces of its own.

There neither another engine on this machine nor its clusters can be seen or hurt. `hold` is a user of
the engine with a container; the other words are the signal that ends such a user.
"""

import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.testbed.docker_engine import docker_engine
from tests.testbed.docker_host import (
    CGROUPS,
    STRAY_FOLDERS,
    Baseline,
    interfaces,
    mounts_under,
    running_under,
    saved_rules,
)
from tests.testbed.gotools import cache_dir


def state_of_the_machine() -> dict[str, object]:
    """All that a cluster or an engine could leave behind."""
    rules = [line for command in ("iptables", "ip6tables") for line in saved_rules(command)]
    return {
        "processes": sorted(process.pid for process in running_under(cache_dir() / "docker")),
        "mounts": mounts_under(cache_dir()),
        "interfaces": interfaces(),
        # A built-in chain that accepts is what a table has that nobody wrote to.
        "rules": [line for line in rules if not line.startswith("*") and not line.endswith(" ACCEPT")],
        "control groups": sorted(str(path) for path in CGROUPS.glob("*/slm-*")),
        "clusters": sorted(path.name for path in (cache_dir() / "kind").glob("*")),
        "engine folders": sorted(path.name for path in (cache_dir() / "docker").glob("run*")),
        "stray folders": [str(path) for path in STRAY_FOLDERS if path.exists()],
        "kernel settings": Baseline.record().sysctls,
    }


def hold() -> None:
    with docker_engine() as engine:
        archive = cache_dir() / "etcd.tar"  # a static program that stays is an image
        with tarfile.open(archive, "w") as tar:
            tar.add(Path(sys.argv[2]), arcname="etcd")
        engine.docker("import", "--change", 'CMD ["/etcd"]', str(archive), "etcd")
        engine.docker("network", "create", "bridged")
        engine.docker("run", "--detach", "--privileged", "--network=bridged", "--publish=2379", "etcd")
        print("running", flush=True)
        sys.stdin.read()


def live(ended_by: signal.Signals) -> dict[str, object]:
    # A new namespace inherits it; an engine outside may have switched it on.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    before = state_of_the_machine()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kind.isolated_engine", "hold", sys.argv[2]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout is not None
        started = user.stdout.readline()
        during = state_of_the_machine()
        user.send_signal(ended_by)
        user.wait(timeout=300)
    after = state_of_the_machine()
    with docker_engine() as engine:
        containers = engine.docker("ps", "--all", "--quiet")
    return {
        "started": started,
        "before": before,
        "during": during,
        "after": after,
        "containers of the next": containers,
        "after the next": state_of_the_machine(),
    }


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold()
    else:
        print(json.dumps(live(signal.Signals[sys.argv[1]])))
