"""The real engine in a Deployment that is not ours: how it is started, changed, loaded, measured and asked about."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from slm_runtime.ledger import read_config
from slm_runtime.prompts import text_tokens

from tests.testbed.gotools import binary
from tests.testbed.stage import ROOT
from tests.testbed.tiny_model import tiny_model

from .load import POD, place_client
from .serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.testbed.stage import Stage

NAMESPACE = "foreign"
NAME = "chat"
FOLDER = Path(__file__).parent
MANIFESTS = {kind: FOLDER / f"foreign-{kind}.yaml" for kind in ("deployment", "kserve", "kubeai")}
ITL_FACTOR = 1.5
INPUT_TOKENS, OUTPUT_TOKENS = 32, 48
QUESTION = ("--itl-factor", str(ITL_FACTOR))
LOAD = ("--input-tokens", str(INPUT_TOKENS), "--output-tokens", str(OUTPUT_TOKENS))
WRITE = "import base64, sys; open(sys.argv[1], 'wb').write(base64.b64decode(sys.stdin.read()))"
BAD = 2
"""The batch that it is started with."""
ROUNDS = 3
"""NB: odd, for the median of one is a round's. The speed of a machine can drift by a fifth within minutes."""
CLIENT, RUNTIME = "/tmp/closed_loop.py", "/tmp/slm_runtime.pyz"


@contextlib.contextmanager
def place(stage: Stage, folder: Path) -> Iterator[None]:
    """A namespace with the model, and the client of its load. What is written on the way goes into the folder."""
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    place_client(stage)
    bring_client(stage, folder)
    yield
    stage.cluster.kubectl("delete", "namespace", POD, NAMESPACE, timeout_s=300)


def manifest(batch_size: int) -> dict[str, Any]:
    """The Deployment with this batch, and else as it is."""
    found: dict[str, Any] = yaml.safe_load(MANIFESTS["deployment"].read_text())
    (container,) = found["spec"]["template"]["spec"]["containers"]
    container["args"] = [
        f"--max-num-seqs={batch_size}" if one.startswith("--max-num-seqs=") else one for one in container["args"]
    ]
    found["metadata"]["namespace"] = NAMESPACE
    return found


def slm(stage: Stage, *words: str) -> str:
    """What `kubectl slm` says; fails with its own words."""
    command = [str(Path(sys.executable).with_name("kubectl-slm")), *words, "--namespace", NAMESPACE]
    env = os.environ | {"KUBECONFIG": str(stage.cluster.kubeconfig)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kubectl(stage: Stage, *words: str, timeout_s: float = 300) -> str:
    return stage.cluster.kubectl(*words, "--namespace", NAMESPACE, timeout_s=timeout_s)


def wait_until_rolled_out(stage: Stage) -> None:
    kubectl(stage, "rollout", "status", f"deploy/{NAME}", "--timeout=400s", timeout_s=430)


def scale(stage: Stage, replicas: int) -> None:
    """As its owner does it; gives back control when they are there, or gone."""
    kubectl(stage, "scale", f"deploy/{NAME}", f"--replicas={replicas}")
    if replicas:
        wait_until_rolled_out(stage)
    else:
        kubectl(stage, "wait", "--for=delete", "pods", "--selector", f"app={NAME}", "--timeout=120s")


def measure(stage: Stage) -> int:
    """The profile that the CLI writes for the Deployment, measured by the operator: the batch that its status advises."""
    written = slm(stage, "advise", "--for", f"deploy/{NAME}", *QUESTION, *LOAD, "--output", "slmprofile")
    stage.cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=written)
    wait_until_ended(stage)
    until(lambda: "advice" in ended(stage), timeout_s=60)
    return int(ended(stage)["advice"]["configuration"]["batchSize"])


def wait_until_ended(stage: Stage) -> None:
    """NB: by one watch. Who asks twice a second takes a third of a core, and small batches are measured a third too slow."""
    words = (
        "get",
        "slmp",
        profile_name(stage),
        "--namespace",
        NAMESPACE,
        "--watch",
        r'--output=jsonpath={.status.phase}{"\n"}',
    )
    command = [binary("kubectl"), f"--kubeconfig={stage.cluster.kubeconfig}", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        try:
            assert any(phase.strip() in ("Complete", "Failed") for phase in watch.stdout), "the watch ended"
        finally:
            watch.terminate()


def ended(stage: Stage) -> dict[str, Any]:
    """The profile's status, unless it has failed."""
    status: dict[str, Any] = measured(stage).get("status") or {}
    assert status.get("phase") != "Failed", status
    assert "noAdviceBecause" not in status, status["noAdviceBecause"]
    return status


def profile_name(stage: Stage) -> str:
    return kubectl(stage, "get", "slmp", "--output=jsonpath={.items[*].metadata.name}")


def measured(stage: Stage) -> dict[str, Any]:
    return stage.get("slmp", profile_name(stage), NAMESPACE)


def bring_client(stage: Stage, folder: Path) -> None:
    """The profiler's own load generator, into the pod that `load.place_client` has placed."""
    runtime = folder / "slm_runtime.pyz"
    subprocess.run([sys.executable, str(ROOT / "hack/zipapp.py"), str(runtime)], check=True)
    for file, target in ((runtime, RUNTIME), (FOLDER / "closed_loop.py", CLIENT)):
        content = base64.b64encode(file.read_bytes()).decode()
        words = ("exec", "--stdin", "--namespace", POD, POD, "--", "python3", "-c", WRITE, target)
        stage.cluster.kubectl(*words, stdin=content)


def loaded(stage: Stage, clients: Sequence[int]) -> list[dict[str, Any]]:
    """The engine that runs now, under closed loops of so many clients, one after the other: a window of each."""
    address = kubectl(stage, "get", "pods", "--selector", f"app={NAME}", "--output=jsonpath={.items[*].status.podIP}")
    assert address, "no engine runs"
    ids = text_tokens(read_config(str(tiny_model())))
    said = stage.cluster.kubectl(
        *("exec", "--namespace", POD, POD, "--", "env", f"PYTHONPATH={RUNTIME}", "python3", CLIENT),
        *(f"http://{address}:8000", NAME, str(INPUT_TOKENS), str(OUTPUT_TOKENS), str(ids[0]), str(ids[-1])),
        *map(str, clients),
        timeout_s=900,
    )
    return [json.loads(line) for line in said.splitlines()]
