"""Every reason of a condition or an event: one word for machines, its meaning, and what a person can do.

Each reason is spelt once, here, and docs/how-to/troubleshooting.md is generated from this file. A message speaks of one object; a
meaning holds for all objects, so it must never hold a name or a figure.

Reasons that are not the operator's own pass through by their own names: failures of measuring (`slm_core.failure`) and
the kubelet's words (`KUBELET_WORDS`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Group(StrEnum):
    """What a reason asks of its reader. The value is the heading in the documentation."""

    WAITING = "Waiting: it continues by itself"
    STOPPED = "Stopped: it needs action"
    SLO = "The SLO (`SLOMet`): it does not affect Ready"
    GOOD = "Good news"
    NODE_EVENT = "Events of nodes"


class Reason(StrEnum):
    """A row each: the word, its group, what it means, and what to do (while it waits: if it lasts)."""

    def __new__(cls, word: str, group: Group, meaning: str, remedy: str = "") -> Self:
        """The word is the value; the rest is for the documentation."""
        reason = str.__new__(cls, word)
        reason._value_ = word
        reason.group, reason.meaning, reason.remedy = group, meaning, remedy
        return reason

    group: Group
    meaning: str
    remedy: str

    WAITING = (
        "Waiting",
        Group.WAITING,
        "the condition cannot be judged before an earlier one holds",
        "see the first condition that is False",
    )
    SERVED_AS_BEFORE = (
        "ServedAsBefore",
        Group.GOOD,
        "this spec cannot be followed yet (its profile is being measured, say), and what was advised before is served, and scaled, until it can",
    )
    PAUSED = (
        "Paused",
        Group.WAITING,
        "`spec.paused` is set: nothing is measured, no node is changed and no replica is replaced for this deployment; it is still scaled. Or a node is held by its annotation `slm-operator.io/paused`",
        "set `spec.paused: false`; `kubectl annotate node NODE slm-operator.io/paused-`",
    )
    PROFILE_REQUESTED = (
        "ProfileRequested",
        Group.WAITING,
        "the `SLMProfile` is being created",
        "read the operator's log",
    )
    QUEUED = (
        "Queued",
        Group.WAITING,
        "as many profiles hold or seek a GPU as `config.profiling.concurrent` allows. A free place goes to the namespace that holds fewest, then to the profile that has waited longest since its last try; a profile whose pod finds no GPU within two minutes goes back to the end of the queue. `config.tenancy.maxProfilesPerNamespace` bounds those of one namespace",
        "raise it, or wait",
    )
    UNUSED = (
        "Unused",
        Group.WAITING,
        "the profile was made for deployments that are gone, and nothing of it is measured: no GPU time is spent on it",
        "delete it, or make a deployment that needs it",
    )
    EXTENDING = (
        "Extending",
        Group.GOOD,
        "a deployment asks what the measurements do not answer yet (another load, another SLO): the points that lack are measured when a GPU is free. Everything goes on with what was measured meanwhile",
        "`kubectl get slmp NAME -o yaml` shows `status.extension`; it stays within `spec.profiling.maxGpuMinutes` of the deployment that asks",
    )
    WAITING_FOR_GPU = (
        "WaitingForGPU",
        Group.WAITING,
        "no whole GPU is free for measuring; the message says since when, names who holds each, and which nodes would do. It waits as long as it takes: deadlines count from the moment that a node takes the pod",
        "free one, or opt another node in; a profile that waits may be given other nodes, tolerations or a budget (`kubectl edit slmp NAME`)",
    )
    GPU_HELD_BY_REPLICAS = (
        "GPUHeldByReplicas",
        Group.WAITING,
        "every GPU that would do for measuring is held by replicas that serve: profile and replicas want the same GPUs at once, and neither gives way by itself. The message names the replicas; they go on, and are scaled, meanwhile",
        "scale them down for the measurement and up again afterwards (`kubectl scale slmd NAME --replicas=0`), opt in another node (`kubectl label node NODE slm-operator.io/managed=true`), or import a measurement (`kubectl slm profile import`)",
    )
    AWAITING_RETRY = (
        "AwaitingRetry",
        Group.WAITING,
        "a try to measure was ended by the cluster (pre-empted, evicted, node lost, refused by the kubelet, an image or a Secret missing), and the next one comes after a pause of a minute (10 seconds where a kubelet refused the pod), doubled each time, an hour at most. `status.tries` counts them; all of them together cost `spec.search.maxGpuMinutes` at most",
        "do what the message says, then `kubectl annotate --overwrite slmp NAME slm-operator.io/retry=VALUE` has it tried at once (each value asks once); so has a change of its spec",
    )
    NO_POD = (
        "NoPod",
        Group.WAITING,
        "Kubernetes makes no pod for the profile's Job, and goes on trying",
        "`kubectl describe job NAME`: a quota, an admission policy, or a PriorityClass that does not exist. Where a quota bears no more whole GPUs than replicas hold (`kubectl describe quota`): have it raised, or as `GPUHeldByReplicas`",
    )
    STARTING = (
        "Starting",
        Group.WAITING,
        "pods are being created, or engines are loading their model",
        "read the pod's log: a large model takes minutes",
    )
    PROFILING = (
        "Profiling",
        Group.WAITING,
        "measuring; `kubectl get slmp` shows the point",
        "it ends at `spec.profiling.maxGpuMinutes`",
    )
    MEASURING = (
        "Measuring",
        Group.WAITING,
        "measuring; `kubectl get slmp` shows the point",
        "it ends at `spec.profiling.maxGpuMinutes`",
    )
    PLANNING = "Planning", Group.WAITING, "nodes are being chosen", "read the operator's log"
    NODE_CHANGING = (
        "NodeChanging",
        Group.WAITING,
        "a node is drained, switched or settling; the message says which step",
        "see the node's events and the plugin's pods",
    )
    FOREIGN_PODS = (
        "ForeignPods",
        Group.WAITING,
        "pods of others hold the GPUs that are needed; they are never evicted",
        "`kubectl get pods -A --field-selector spec.nodeName=NODE` names them to who may see them (status does with `config.tenancy.namesOfOthers`): ask their owners, or opt another node in",
    )
    DRIVER_UPGRADE = (
        "DriverUpgrade",
        Group.WAITING,
        "the GPU Operator upgrades the driver of a node (`nvidia.com/gpu-driver-upgrade-state`): no change of it begins, and the time of one under way does not count",
        "see the GPU Operator's log and `kubectl get node NODE --show-labels`; a state `upgrade-failed` waits for an administrator",
    )
    ROLLBACK = "Rollback", Group.WAITING, "a node did not show its slices in time and goes back", "as `NotSwitchable`"
    INVALID_SPEC = (
        "InvalidSpec",
        Group.STOPPED,
        "spec cannot be read (made by a newer CRD, by hand in the store, or nested too deeply)",
        "correct the field that the message names",
    )
    INVALID_POD_TEMPLATE = (
        "InvalidPodTemplate",
        Group.STOPPED,
        "`spec.podTemplate` sets a field that the operator owns, or, for engines under MPS, another user than 2000 or a `/dev/shm` of its own",
        "remove it; the message names what replaces it",
    )
    PROFILE_NOT_FOUND = (
        "ProfileNotFound",
        Group.STOPPED,
        "no profile has the name in `spec.profiling.profileRef`",
        "import it, or remove the field",
    )
    PROFILE_MISSING = (
        "ProfileMissing",
        Group.STOPPED,
        "no profile fits, and the policy is `Never`",
        "`kubectl slm profile import`, or `policy: IfMissing`",
    )
    INVALID_PROFILE = "InvalidProfile", Group.STOPPED, "the profile cannot be read", "export it again with this version"
    INVALID_MEASUREMENTS = (
        "InvalidMeasurements",
        Group.STOPPED,
        "the points contradict themselves",
        "measure again: delete the profile",
    )
    UNTRUSTED_MEASUREMENTS = (
        "UntrustedMeasurements",
        Group.STOPPED,
        "what was measured is in doubt, or all but B=1: there is nothing to choose among; the message says why",
        "do what the message says, then measure again: delete the profile",
    )
    NO_ENERGY_MEASURED = (
        "NoEnergyMeasured",
        Group.STOPPED,
        "`spec.advisor.objective` is `EnergyPerToken`, and of what meets the SLO nothing has measured watts at this load: an energy is never estimated",
        "measure where NVML tells the board's power, at the load that `spec.workload` names (delete the profile), or choose another objective",
    )
    KV_UNKNOWN = (
        "KvUnknown",
        Group.STOPPED,
        "a pack in a pod needs the KV bytes of each engine, and what was imported has no memory ledger to tell them: engines that start beside each other would mis-size their pools",
        "have it measured here (remove `spec.profiling.profileRef`, or delete the imported profile), or set `spec.sharing.partitioning: NodeSlices`",
    )
    OTHER_PRODUCT = (
        "OtherProduct",
        Group.STOPPED,
        "the profile was measured on another GPU product than `spec.accelerator.products` names",
        "name the one that was measured, or have the other measured: the message has both",
    )
    UNREADABLE_RESULT = (
        "UnreadableResult",
        Group.STOPPED,
        "the profile pod printed a result that cannot be read",
        "use one version for operator and runtime",
    )
    PROFILE_FAILED = (
        "ProfileFailed",
        Group.STOPPED,
        "a try to measure ended without a result, through its spec or the model: no memory, no time, or no word. It is not repeated by itself",
        "correct what the message names (`spec.podTemplate`, `spec.search.maxGpuMinutes`): it is then tried again; or `kubectl annotate --overwrite slmp NAME slm-operator.io/retry=VALUE`, with another value each time",
    )
    BUDGET_SPENT = (
        "BudgetSpent",
        Group.STOPPED,
        "tries that the cluster ended have cost the GPU time that the profile may cost",
        "raise `spec.search.maxGpuMinutes` of the profile (`config.tenancy.maxGpuMinutesPerProfile` bounds it), or delete the profile",
    )
    SLO_INFEASIBLE = (
        "SLOInfeasible",
        Group.STOPPED,
        "no configuration meets the SLO; the message has the closest one",
        "relax `spec.slo`, or set `onInfeasible: BestEffort`",
    )
    NO_NODE = "NoNode", Group.STOPPED, "no node opted in", "`kubectl label node NODE slm-operator.io/managed=true`"
    NO_CAPACITY = (
        "NoCapacity",
        Group.STOPPED,
        "opted-in nodes do not fit; the message says why for each",
        "add nodes, or lower `spec.replicas`",
    )
    REPLACED_IN_PLACE = (
        "ReplacedInPlace",
        Group.WAITING,
        "a pack in a pod is to be replaced and no whole GPU is free for a second one: it ends before its successor starts. This is said before it ends; where it is the only pack, nothing answers until the successor has loaded its model",
        "free a GPU or add a node: a successor is then opened first",
    )
    AWAITING_PODS = (
        "AwaitingPods",
        Group.STOPPED,
        "a further node is partitioned only for replicas that exist as pods, and there are none beyond those that have a slice",
        "see the events of the Deployment's ReplicaSet: a quota or an admission policy refuses pods",
    )
    TENANCY_LIMIT = (
        "TenancyLimit",
        Group.STOPPED,
        "the namespace has all the nodes that `config.tenancy.maxNodesPerNamespace` allows it",
        "use fewer replicas, or ask the administrator",
    )
    DRAINING = (
        "Draining",
        Group.STOPPED,
        "replicas do not leave a node that must be repartitioned; other nodes go on meanwhile, and after a day the node keeps its present configuration",
        "see which PodDisruptionBudgets are over these pods",
    )
    NOT_SWITCHABLE = (
        "NotSwitchable",
        Group.STOPPED,
        "a node's device plugin cannot be configured by label, or a key of ours would harm those of other nodes",
        "install config-manager, or give the plugin a default; see [install.md](install.md)",
    )
    MPS_SIGNAL_LOST = (
        "MpsSignalLost",
        Group.STOPPED,
        "NVIDIA's MPS daemon does not hold the configuration that a node's label chooses: config-manager 0.18.2 to 0.20.0 starts with the default one, and its signal does not find the daemon. Nodes are not partitioned for MPS there, and where replicas serve by it already, the daemon may lose its limits whenever it starts again. Under `Auto` another mode is served, and the advice says so",
        "what the message says: the chart with the signal's target corrected, or the device plugin 0.18.1; then `kubectl annotate node NODE slm-operator.io/change-failed-` where a change was rolled back. `spec.sharing.mode: TimeSlicing` needs neither. See [gpu-sharing.md](../concepts/gpu-sharing.md), 24",
    )
    SLICES_DEGRADED = (
        "SlicesDegraded",
        Group.STOPPED,
        "a serving node lost devices or its MPS daemon",
        "see the plugin's pods on that node",
    )
    UNHEALTHY_GPU = (
        "UnhealthyGPU",
        Group.STOPPED,
        "NVIDIA's device plugin calls a GPU of a node unhealthy and offers less of it; the rest of the node is used, and the condition may hold",
        "the message names the node and how many: read its device plugin's log (Xid). Until the plugin starts again it stays so, also where the GPU has recovered",
    )
    ADMISSION_FAILED = (
        "AdmissionFailed",
        Group.STOPPED,
        "the kubelet refused a replica (its own word: `UnexpectedAdmissionError`)",
        "read the message; the replica is replaced",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        Group.STOPPED,
        "the scheduler finds no node for a replica: CPU, memory, taints",
        "read its sentence; `spec.podTemplate` sets CPU and memory",
    )
    REFUSED = (
        "Refused",
        Group.STOPPED,
        "a quota, webhook or Pod Security refused an object, or its name is taken",
        "read the message: it is the API server's own",
    )
    REPLICAS_NOT_WRITTEN = (
        "ReplicasNotWritten",
        Group.STOPPED,
        "an event: nobody sets `spec.replicas`, and the API server refuses the operator's own number. Replicas are served as advised; `/scale` may answer an error",
        "give the operator the right to `patch` `slmdeployments` (upgrade the chart), or set `spec.replicas`",
    )
    GATEWAY_NOT_ALLOWED = (
        "GatewayNotAllowed",
        Group.STOPPED,
        "`spec.routing` names a Gateway of another namespace that the administrator does not list, takes all its hosts, or one that is not for this namespace",
        "list it in `config.routing.gateways`, or give `hostnames` that the message allows",
    )
    GATEWAY_API_MISSING = (
        "GatewayApiMissing",
        Group.STOPPED,
        "`spec.routing` needs kinds that this cluster does not serve; replicas answer by the Service meanwhile",
        "install the CRDs of the Gateway API and of its inference extension ([routing.md](routing.md)), or remove `spec.routing`; the operator tries again by itself",
    )
    STALLED = "Stalled", Group.STOPPED, "the Deployment made no progress in time", "read the replicas' logs"
    OPERATOR_BUG = (
        "OperatorBug",
        Group.STOPPED,
        "internal error of the operator while it reconciled this object; running pods are unaffected",
        "report it with the message and the log",
    )
    ENGINE_ENDED = (
        "EngineEnded",
        Group.STOPPED,
        "an engine ended and loads again; the message has its exit, `OOMKilled` for instance",
        "what the message says; memory in `spec.podTemplate`",
    )
    MET = "Met", Group.SLO, "the SLO is met"
    FINE = "Fine", Group.SLO, "the SLO is met"
    NO_TRAFFIC = "NoTraffic", Group.SLO, "too few requests to say anything"
    LOAD_TOO_THIN = (
        "LoadTooThin",
        Group.SLO,
        "less load than the advice is for; latencies are fine, packs earn nothing",
        "name the load in `spec.workload`, or fewer replicas",
    )
    WORKLOAD_CHANGED = (
        "WorkloadChanged",
        Group.SLO,
        "prompts or outputs have other lengths than were measured",
        "correct `spec.workload`; `policy: OnDrift` measures again",
    )
    AS_FAST = (
        "AsFast",
        Group.GOOD,
        "the engine image that serves is no slower than the one that it replaced, each by its own profile",
    )
    SLOWER_ENGINE = (
        "SlowerEngine",
        Group.SLO,
        "the engine image that serves makes fewer tokens per second than the one that it replaced, by more than the noise of both profiles",
        "`kubectl slm profile diff FORMER NOW` says where; `spec.engine.image` as it was serves from the former profile again",
    )
    SLO_MISSED = (
        "SloMissed",
        Group.SLO,
        "the limit is missed in use",
        "more replicas, or a stricter look at `spec.workload`",
    )
    REPROFILE_ADVISED = (
        "ReprofileAdvised",
        Group.SLO,
        "the profile does not describe this machine any more",
        "delete the profile, or `policy: OnDrift`",
    )
    METRICS_UNREADABLE = (
        "MetricsUnreadable",
        Group.SLO,
        "no replica's metrics can be read",
        "let the operator's namespace reach port 8000",
    )
    READY = "Ready", Group.GOOD, "all requested resources are available"
    IMPORTED = "Imported", Group.GOOD, "the measurements were made elsewhere"
    MEASURED = "Measured", Group.GOOD, "the search ended by itself"
    MEASURED_IN_PART = (
        "MeasuredInPart",
        Group.GOOD,
        "the search ended early, and its message says why; what was found is used",
    )
    ADVISED = "Advised", Group.GOOD, "the advisor answered"
    AVAILABLE = "Available", Group.GOOD, "all requested replicas answer"
    SCALED_TO_ZERO = "ScaledToZero", Group.GOOD, "`spec.replicas` is 0"
    CHANGING = "Changing", Group.NODE_EVENT, "the node is being repartitioned or given back; the event says which"
    ALLOCATED = "Allocated", Group.NODE_EVENT, "the node shows its slices"
    ROLLED_BACK = "RolledBack", Group.NODE_EVENT, "the node went back to its former configuration; the event says why"
    RELEASED = "Released", Group.NODE_EVENT, "the node was given back"


KUBELET_WORDS = {
    "ErrImagePull": (
        "an image cannot be pulled; the message names its container, the image, and where both are set",
        "the image, and in this namespace a Secret for its registry that the pod names",
    ),
    "ImagePullBackOff": (
        "an image cannot be pulled; the message names its container, the image, and where both are set",
        "the image, and in this namespace a Secret for its registry that the pod names",
    ),
    "CrashLoopBackOff": (
        "a container ends again and again: the engine's, or a pack's router",
        "the command in the message shows its log (`kubectl logs POD --previous`; of a router `kubectl logs POD -c router --previous`)",
    ),
    "CreateContainerError": (
        "the container cannot be made, because the node's NVIDIA driver is too old for the image, for instance",
        "what the message says: a newer driver, or an image for an older CUDA",
    ),
    "CreateContainerConfigError": (
        "a Secret or ConfigMap is missing",
        "`spec.model.credentialsSecretRef`, `spec.engine.apiKeySecretRef`, `spec.engine.env`",
    ),
}
"""Reasons of the kubelet that become ours as they are: what each means, and what to do."""
