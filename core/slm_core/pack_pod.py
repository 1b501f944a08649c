"""A pod that serves a whole pack: what the one who writes its manifest and those who run inside it agree on.

Three parties meet here: the operator (manifest, router's configuration, reader of what the pod says), the supervisor
(`python -m slm_runtime serve`) and the router (HAProxy, a native sidecar). No number or name of these is said twice.

    container  port                who listens                    who asks
    router     8000 `http`         router, every address          clients, the Service; GET /health: probes of the router
    engine     8001                supervisor, every address      /healthz, /readyz: probes; /metrics: monitoring; /status
    router     8002                router, every address          its own /metrics; no Service has it
    engine     8003                supervisor's agent, loopback   router: may engine-N have requests?
    engine     8101, 8102, ...     engines, loopback              router

The command of the engines' container, all of it, where R engines are advised (the runtime's zipapp is where the profile's
Job has it, and the words after `--` are those that the Job gets):

    python3 slm_runtime.pyz serve  --model PATH --served-model-name NAME --device gpu
        --gpu-product PRODUCT --gpu-memory-bytes BYTES      as the advice has them; NVML is compared before any start
        --engines-per-gpu R --sharing-mode mps --batch-size B --kv-cache-bytes BYTES --max-num-batched-tokens TOKENS
        --gpu-memory-fraction F --max-in-flight N [--leave-out FLAG]... --startup-timeout-seconds SECONDS
        + the words of `SUPERVISOR_WORDS` below             ports, files and grace of a pod
        -- COMMAND... -- ARGUMENT...

Ports, grace and files have these values by default too, but for the two files and the agent port, which a pack without a pod
does not have. Volumes: one emptyDir at /tmp (HOME and TMPDIR: the caches of all engines, and the state file, which must
outlive the container), one in memory at /dev/shm (MPS has its pipes' memory there, and every engine its own), the
runtime's, and the model's. Nothing of it needs a right or a token.

**Ready**: the supervisor's /readyz (the router asks it, and an engine serves) and the router's /health (an engine is in).
**Alive**: /healthz alone; the router needs no liveness probe, for what it does not answer the supervisor sees.

**Its end.** preStop of the engines' container, a sleep, while the router goes on; SIGTERM to the supervisor, which takes
each engine out of the router before it lets it drain; once that container has ended the kubelet sends the router, a native
sidecar, its image's STOPSIGNAL. NB: HAProxy ends in order by SIGUSR1, which the official image has for it. An image that has
SIGTERM cuts off what clients have not read yet of answers that are otherwise whole: at most what lies in its buffers.
A preStop hook cannot help there (it runs when the pod's end begins, not when the sidecar's turn comes), and
`lifecycle.stopSignal` is behind a feature gate of Kubernetes 1.33: where an image without SIGUSR1 must be used, set it there.

**What it says of failures** is a `Termination`, in the file that Kubernetes copies into the container's status.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from slm_core.codec import parse, to_json
from slm_core.failure import Failure  # noqa: TC001 - the codec reads the hints
from slm_core.measurements import MOST_TEXT, camel

if TYPE_CHECKING:
    from typing import Final

# Ports. NB: engines listen on loopback, so that no request gets past the router.
HTTP_PORT: Final = 8000
STATUS_PORT: Final = 8001
ROUTER_METRICS_PORT: Final = 8002
AGENT_PORT: Final = 8003
FIRST_ENGINE_PORT: Final = 8101

# Paths of the supervisor's status port.
LIVE_PATH, READY_PATH, METRICS_PATH, STATUS_PATH = "/healthz", "/readyz", "/metrics", "/status"

# The end of a pod, in seconds.
PRE_STOP_SECONDS: Final = 10
"""Endpoints forget a terminating pod a moment after its end has begun: it goes on serving until they have."""
HANDOVER_SECONDS: Final = 10
"""The longest that the supervisor waits for the router to have taken an engine out, and for what it had sent to arrive."""
DRAIN_SECONDS: Final = 140
"""What engines have for what they have begun: at least the 120 s that a replica has."""
KILL_SECONDS: Final = 30
"""For engines that have to be killed after all (8 s and 8 s), and for the MPS daemon's end (10 s)."""
SUPERVISOR_GRACE_SECONDS: Final = HANDOVER_SECONDS + DRAIN_SECONDS + KILL_SECONDS
"""180: from SIGTERM to the supervisor until everything of it has ended."""
ROUTER_END_SECONDS: Final = 25
"""How long the router keeps answers that clients have not yet read, once the engines have ended."""
POD_GRACE_SECONDS: Final = PRE_STOP_SECONDS + SUPERVISOR_GRACE_SECONDS + ROUTER_END_SECONDS
"""215, the pod's terminationGracePeriodSeconds: one after the other, and all of it is one sum for the kubelet."""

# Who may have requests: the router's questions to the supervisor, by HAProxy's agent check.
AGENT_INTERVAL_MS: Final = 500
AGENT_TIMEOUT_SECONDS: Final = 5
"""After so long without an answer the router ends the connection and keeps what it knew."""
ROUTER_SILENT_SECONDS: Final = 5
"""A router that has asked nothing for so long is away: ten of its questions to every engine."""

# Files of the engines' container.
SCRATCH_FOLDER: Final = "/tmp"  # noqa: S108 - an emptyDir of the pod's own
STATE_FILE: Final = f"{SCRATCH_FOLDER}/slm-pack-state.json"
"""NB: on a volume of the pod. What a container has of its own is gone with the container, as is what an OOM would tell."""
TERMINATION_FILE: Final = "/dev/termination-log"
"""Kubernetes' default; it copies at most `MOST_TERMINATION_BYTES` of it."""
MOST_TERMINATION_BYTES: Final = 4096

# The router's container.
ROUTER_FOLDER, ROUTER_FILE = "/etc/slm-router", "haproxy.cfg"
ROUTER_COMMAND: Final = ("haproxy", "-db", "-f", f"{ROUTER_FOLDER}/{ROUTER_FILE}")
"""NB: not the image's entry point, which starts a second process that keeps the first, and is in the official image only."""

BATCH_SIZE_FLAG: Final = "--batch-size"
"""Of the supervisor: the most sequences that each of its engines runs at once."""

READY_METRIC: Final = "slm_pack_engine_ready"
"""On the page of all engines, of each: 1 while it serves, else 0."""
METRICS_BYTES_PER_ENGINE: Final = 1 << 20
"""The longest page of one engine that is taken over into the page of all; a reader of that page takes R of these."""

SUPERVISOR_WORDS: Final = (
    *("--host", "127.0.0.1", "--port", str(FIRST_ENGINE_PORT)),
    *("--status-port", str(STATUS_PORT), "--agent-port", str(AGENT_PORT)),
    *("--grace-seconds", str(SUPERVISOR_GRACE_SECONDS)),
    *("--state-file", STATE_FILE, "--termination-message-file", TERMINATION_FILE),
)


def engine_name(index: int) -> str:
    """An engine's name in the router's metrics and in what the supervisor is asked: `engine-0` and so on."""
    return f"engine-{index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """Why the supervisor is no more: the container's termination message, as JSON with names as here, in lower camel case.

    It stands there before it is true where it has to: an OOM ends the whole container on cgroup v2, and nothing is left
    that could write. So a pack that serves always says who would be to blame (`HostMemoryExhausted`); it counts where
    Kubernetes says OOMKilled, and any other end that the supervisor sees writes the message anew. After an end in order
    (exit status 0) the file is empty.
    """

    reason: Failure
    message: str
    """For people. Nothing reads it back."""
    remedy: str
    engine: int | None = None
    """Whose failure it is, by index. None: everybody's."""
    served: int = 0
    """How many engines served when it was written."""
    resident_bytes: int | None = None
    """Of that engine, where memory is the reason."""
    limit_bytes: int | None = None
    """Of the container, where memory is the reason."""

    def text(self) -> str:
        """JSON in at most `MOST_TERMINATION_BYTES`: what is longer loses the ends of its words."""
        most = MOST_TEXT
        while len(text := json.dumps(to_json(self._shortened(most)))) > MOST_TERMINATION_BYTES:
            most //= 2
        return text

    def _shortened(self, most: int) -> Termination:
        return replace(self, message=self.message[:most], remedy=self.remedy[:most])


def read_termination(text: str | None) -> Termination | None:
    """What a container's termination message says; None where it is none of ours: whoever made the image may write there."""
    try:
        said = json.loads(text or "")
        known = {camel(one.name) for one in fields(Termination)}  # NB: a newer supervisor may say more
        return parse(Termination, {name: value for name, value in said.items() if name in known}, "")
    except (ValueError, AttributeError, RecursionError):
        return None
