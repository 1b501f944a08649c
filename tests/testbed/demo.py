"""`make demo`: from one kubectl apply to an answer, on this machine, every step shown.

What runs is real: a kind node, the chart, the operator, vLLM on CPU, the kubelet's device-plugin API. NVIDIA's stack is
played by a stand-in, because there is no GPU. The cluster stays for a look around; `make cluster-down` removes it.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.testbed.engine_cpu import environment
from tests.testbed.kind import KindCluster, up
from tests.testbed.stage import Stage
from tests.testbed.tiny_model import tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NAMESPACE = "demo"
NAME = "opt-tiny"
EXAMPLE = ROOT / "examples/demo/slmdeployment.yaml"
PATIENCE_SECONDS = 900
LOOK_SECONDS = 1.0
ASK = """
import json, urllib.request
body = json.dumps({"model": "%s", "prompt": "Once upon a time", "max_tokens": 16, "temperature": 0}).encode()
request = urllib.request.Request("%s/completions", body, {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=60))
print(json.dumps([answer["choices"][0]["text"], answer["usage"]["completion_tokens"]]))
"""

console = Console(highlight=False)
STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of the story, with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - STARTED:6.0f} s[/dim]  {text}")


@contextmanager
def step(title: str) -> Iterator[None]:
    """A step by name: if it fails, it says so."""
    console.rule(f"[bold]{title}", align="left")
    try:
        yield
    except Exception as error:
        console.print(f"\n[red bold]{title}: failed[/red bold]\n{error}")
        console.print(
            "Component logs are in the folder that `make cluster-down` prints; `make cluster-down` cleans up."
        )
        raise SystemExit(1) from error


def main() -> None:
    """The whole story."""
    with step("1. What must be there: the engine, the model, the cluster"):
        say(f"vLLM on CPU: {environment().name}, model: {tiny_model().name}")
        cluster = up()
        stage = Stage(cluster, say)
        say(f"a kind node: {cluster.node}")
        stage.build_images()
    with step("2. A GPU node: NVIDIA's device plugin, played by a stand-in"):
        stage.install_gpu()
        say(f"allocatable: {allocatable(stage)}")
    with step("3. helm install slm-operator, and a node that opts in"):
        stage.install_operator("config.nodes.projectionSeconds=15")
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout_s=300)
        cluster.kubectl("create", "namespace", NAMESPACE)
        stage.provide_model(NAMESPACE)
        stage.opt_in()
    with step(f"4. kubectl apply -f {EXAMPLE.relative_to(ROOT)}"):
        cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", str(EXAMPLE))
        found = follow(stage)
    with step("5. The decision, with its evidence"):
        show(found["status"])
    with step("6. The answer, through the Service"):
        text, tokens = ask(cluster, found["status"]["url"])
        say(f"'Once upon a time' was continued by {tokens} tokens: {escape(repr(text))}")
        say("(the model is tiny and its weights are random: what matters is that it answered)")
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


def show(status: dict[str, Any]) -> None:
    """The advice as status has it."""
    advice = status["advice"]
    for sentence in advice["sentences"]:
        say(sentence)
    table = Table("batch", "per GPU", "mode", "verdict", "why", box=None)
    for candidate in advice["candidates"]:
        table.add_row(
            str(candidate["configuration"]["batchSize"]),
            str(candidate["configuration"]["enginesPerGpu"]),
            candidate["configuration"]["sharingMode"],
            candidate["verdict"],
            candidate["message"],
        )
    console.print(table)


def ask(cluster: KindCluster, url: str) -> tuple[str, int]:
    """Ask the model from inside the cluster: its text and how many tokens that is."""
    script = ASK % (NAME, url)
    target = ("exec", "--namespace", NAMESPACE, f"deployment/{NAME}", "--container", "engine")
    text, tokens = json.loads(cluster.kubectl(*target, "--", "python3", "-c", script))
    return str(text), int(tokens)


def go_on(cluster: KindCluster) -> None:
    """What to try next."""
    console.rule("[bold]How to go on", align="left")
    console.print(
        f"""  export KUBECONFIG={cluster.kubeconfig}
  kubectl get slmd,slmp,pods,nodes -n {NAMESPACE} -o wide
  kubectl explain slmd.spec
  kubectl get slmd {NAME} -n {NAMESPACE} -o yaml
  .venv/bin/kubectl-slm explain {NAME} -n {NAMESPACE}
  kubectl delete slmd {NAME} -n {NAMESPACE}       the GPU is given back as it was
  make cluster-down                          removes all of it"""
    )


if __name__ == "__main__":
    main()
