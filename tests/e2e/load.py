"""Steady load from inside the cluster, through the Service, and an account of every request.

    with steady_load(stage, namespace, "chat") as load:
        change something
    load.account.failed == 0

Exists because "no request was lost" is a claim about each single one. A closed loop of clients; each request is a
stream with a connection of its own, so that every one of them is placed anew by the Service. It must never retry.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.testbed.stage import LIGHT_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

POD = "load"
CLIENT = """
import asyncio, collections, json, sys, threading, time
import aiohttp
URL, MODEL, CLIENTS, TOKENS, KEPT = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "kept"
HEADERS = {"Authorization": f"Bearer {sys.argv[6]}"} if sys.argv[6:] else {}
GOING = "cannot schedule new futures after shutdown"  # what vLLM 0.32 answers with 500 once it was asked to end
account = collections.Counter()
examples, timeline, stopping = [], collections.Counter(), threading.Event()
# Who is sent to a pod in the instant in which it goes hears nothing at all: the kernel would try for two minutes.
PATIENCE = aiohttp.ClientTimeout(total=300, sock_connect=30)

async def ask(session):
    body = {"model": MODEL, "prompt": "x" * 32, "max_tokens": TOKENS, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True}}
    tokens, done = 0, False
    try:
        async with session.post(URL, json=body, headers=HEADERS) as answer:
            if answer.status != 200:
                said = f"{answer.status} {(await answer.text())[:200]}"
                return ("refused" if answer.status == 503 or GOING in said else "failed"), said
            async for line in answer.content:
                done = done or line.startswith(b"data: [DONE]")
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    # A busy engine puts several tokens into a chunk: where it tells the usage, that is the count.
                    tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens + 1)
                    timeline[int(time.time() - began)] += 1
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        return "refused", repr(error)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        return ("truncated" if tokens else "failed"), f"{tokens} of {TOKENS}: {error!r}"
    return ("ok", "") if done and tokens == TOKENS else ("truncated", f"{tokens} of {TOKENS}, end seen: {done}")

async def client():
    connector = aiohttp.TCPConnector(force_close=not KEPT, limit=1)
    async with aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session:
        while not stopping.is_set():
            outcome, why = await ask(session)
            account[outcome] += 1
            if outcome == "ok" and account["ok"] == CLIENTS:
                print("steady", flush=True)
            if outcome != "ok":
                if len(examples) < 200 or outcome != "refused":  # an outage refuses hundreds
                    examples.append(f"{time.time() - began:.1f} s: {outcome}: {why}")
                await asyncio.sleep(0.2)

async def served():
    "Until somebody is answered: kube-proxy hears of replicas a moment after everybody else."
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        while (await ask(session))[0] != "ok":
            await asyncio.sleep(0.2)

async def main():
    await served()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))

began = time.time()
threading.Thread(target=lambda: (sys.stdin.read(), stopping.set()), daemon=True).start()
asyncio.run(main())
print(json.dumps({"counts": account, "examples": examples, "chunks_by_second": timeline}))
"""


FIRST = """
import json, sys, time, urllib.request
began, body = time.monotonic(), json.dumps({"model": sys.argv[2], "prompt": "x", "max_tokens": 4}).encode()
while True:
    try:
        with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body), timeout=10) as answer:
            json.load(answer)["choices"]
        break
    except OSError:
        time.sleep(0.1)
print(time.monotonic() - began)
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the requests."""

    ok: int
    refused: int
    """No replica was there to connect to, or it said at once that it would not (503, or that it is being shut down)."""
    failed: int
    """Any other answer than 200, or a connection that broke before the first token."""
    truncated: int
    """Fewer tokens than were asked for, or no end mark."""
    examples: list[str]
    chunks_by_second: dict[int, int]
    """Chunks of streams that arrived in each second: a token each, or a few where the engine was busy."""


@dataclass(slots=True)
class Load:
    """A load under way; `account` is there when it has ended."""

    _account: list[Account] = field(default_factory=list)

    @property
    def account(self) -> Account:
        """The account of a load that has ended."""
        return self._account[0]


def place_client(stage: Stage) -> None:
    """The pod from which load is made, in a namespace of its own: the replicas' may be watched for being empty."""
    stage.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": POD}})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": POD},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": POD, "image": LIGHT_IMAGE, "command": ["sleep", "infinity"]}],
        },
    }
    stage.cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", POD, "--timeout=120s")
    stage.apply(pod)
    stage.cluster.kubectl("wait", f"pod/{POD}", "--namespace", POD, "--for=condition=Ready", "--timeout=240s")


def container_id(stage: Stage, pod: str, namespace: str) -> str:
    """The id of a pod's first container at the node's containerd."""
    status = stage.get("pod", pod, namespace)["status"]["containerStatuses"][0]
    return str(status["containerID"]).partition("://")[2]


def first_answer(stage: Stage, namespace: str, name: str, *, model: str = "", timeout_s: int = 300) -> float:
    """Seconds until a client that asks a Service at once, and again while it is refused, has its answer."""
    url = f"http://{name}.{namespace}/v1/completions"
    asked = ("exec", "--namespace", POD, POD, "--", "python3", "-c", FIRST, url, model or name)
    return float(stage.cluster.kubectl(*asked, timeout_s=timeout_s))


@contextlib.contextmanager
def steady_load(
    stage: Stage, namespace: str, name: str, *, clients: int = 8, tokens: int = 64, kept: bool = False, key: str = ""
) -> Iterator[Load]:
    """Load on a deployment's Service, from before the block until after it. `kept`: connections are kept alive. `key`: what engines ask for."""
    load = Load()
    url = f"http://{name}.{namespace}/v1/completions"
    client = [url, name, str(clients), str(tokens), "kept" if kept else "new", *([key] if key else [])]
    # By way of the node's containerd and not of `kubectl exec`, so that it goes on without an API server.
    inside = ("ctr", "--namespace", "k8s.io", "tasks", "exec", "--exec-id", f"load-{secrets.token_hex(4)}")
    command = [
        *("docker", "exec", "--interactive", stage.cluster.node, *inside, container_id(stage, POD, POD)),
        *("python3", "-c", CLIENT, *client),
    ]
    with subprocess.Popen(
        command,
        env=stage.cluster.engine.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            steady = running.stdout.readline().strip()  # every client has been answered
            assert steady == "steady", running.stderr.read() if running.stderr else ""
            yield load
            said, problems = running.communicate("", timeout=300)
            assert said, problems
            load._account.append(_read(json.loads(said.splitlines()[-1])))
        finally:
            running.kill()


def _read(said: dict[str, Any]) -> Account:
    counts = {outcome: int(said["counts"].get(outcome, 0)) for outcome in ("ok", "refused", "failed", "truncated")}
    chunks = {int(second): count for second, count in said["chunks_by_second"].items()}
    return Account(**counts, examples=said["examples"], chunks_by_second=chunks)
