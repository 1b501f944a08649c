"""Manifests, and whether an API server takes them: asked of `kubectl slm plan` and of a real one, with equal answers.

A case is a change to a minimal manifest. What is expected is what the API is meant to say, not what it happens to say.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tests.unit.api import admission

TAKEN = None
DEPLOYMENT, PROFILE = "SLMDeployment", "SLMProfile"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    change: dict[str, Any]
    """Merged into the minimal manifest: objects by field, anything else replaces. A null is a null."""
    refused: str | None = TAKEN
    """Where the path of a finding begins, as the API server writes it. None: it is taken."""
    says: str = ""
    """A piece of what plan says."""
    without: tuple[str, ...] = ()
    """Fields of the minimal manifest that are left out, as paths."""
    kind: str = DEPLOYMENT

    def manifest(self) -> dict[str, Any]:
        minimal = {
            "apiVersion": "slm-operator.io/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": "chat"},
            "spec": {"model": {"uri": "hf://facebook/opt-125m"}},
        }
        for path in self.without:
            *parents, last = path.split(".")
            place: Any = minimal
            for name in parents:
                place = place[name]
            del place[last]
        return merged(minimal, self.change)


def merged(value: Any, change: Any) -> Any:
    """A copy of a manifest with a change in it."""
    if not isinstance(value, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    return value | {name: merged(value.get(name), inner) for name, inner in change.items()}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def metadata(**fields: Any) -> dict[str, Any]:
    return {"metadata": fields}


def model(**fields: Any) -> dict[str, Any]:
    return spec(model=fields)


def engine(**fields: Any) -> dict[str, Any]:
    return spec(engine=fields)


def args(*arguments: Any) -> dict[str, Any]:
    return engine(args=list(arguments))


def variable(**fields: Any) -> dict[str, Any]:
    return engine(env=[{"name": "A", **fields}])


def accelerator(**fields: Any) -> dict[str, Any]:
    return spec(accelerator=fields)


def routing(**fields: Any) -> dict[str, Any]:
    return spec(routing={"gatewayRef": {"name": "edge"}, "endpointPickerRef": {"name": "picker"}, **fields})


OWNED = "spec.engine"
"""A rule of all arguments may stand on args, on one of them, or on the engine."""

FLAGS = (
    Case("-tp 2", args("-tp", "2"), OWNED),
    Case("-tp=2", args("-tp=2"), OWNED),
    Case("a prefix of an owned flag", args("--max-num-seq", "7"), OWNED),
    Case("a prefix of an owned flag with its value", args("--gpu-memory-util=0.3"), OWNED),
    Case("engines in data parallel", args("--data-parallel-size", "2"), OWNED),
    Case("a file of flags", args("--config", "/etc/vllm.yaml"), OWNED),
    Case("an owned flag with underscores", args("--max_num_seqs", "4"), OWNED),
    Case("an owned flag after others", args("--seed", "1", "--tensor-parallel-size=2"), OWNED),
    Case("the model as a flag", args("--model=facebook/opt-125m"), OWNED),
    Case("a flag that an owned one is like", args("--max-num-scheduled-tokens", "512")),
    Case("a flag that begins as an owned one", args("--model-impl", "vllm")),
    Case("a flag without a value", args("--enforce-eager")),
    Case("a short flag that nobody owns", args("-O3")),
    Case("a flag with JSON", args("--hf-overrides", "{}")),
    Case("an empty argument", args("")),
    Case("no arguments", args()),
    Case("a short flag with its value", args("-n2"), OWNED, "args must not hold"),
    Case("an owned flag with a key", args("--dtype.key", "7"), OWNED, "args must not hold"),
    Case("a flag and its value in one item", args("--seed 7"), OWNED, "write two items"),
    Case("flags that only tune the engine", args("-dc", "{}", "--seed", "-1", "--hf-overrides.max_num_seqs", "7", "")),
    Case(
        "a value that looks like a flag", args("--hf-overrides", '{"max-num-seqs": 7}', "--chat-template", "a --port b")
    ),
)

NAMES = (
    Case("a revision in the address", model(uri="hf://meta-llama/Llama-3.2-1B:main"), "spec.model.uri", "spec.model.revision"),
    Case("a claim that cannot be", model(uri="pvc://My_Claim/opt"), "spec.model.uri"),
    Case("a dataset on a claim that cannot be", spec(workload={"dataset": "pvc://My_Claim/a.json"}), "spec.workload.dataset"),
    Case("a claim", model(uri="pvc://models/opt-125m")),
    Case("a tag of an image, which is no revision", model(uri="oci://registry.example.com:5000/opt:v1")),
    Case("a blank in the address", model(uri="hf://org/na me"), "spec.model.uri"),
    Case("a name that no Service can have: a digit first", metadata(name="4b-chat"), "", "name it model-4b-chat"),
    Case("a name with a dot", metadata(name="chat.v1")),
    Case("a name longer than a Service's", metadata(name="a" * 64)),
    Case("a name in capitals", metadata(name="Chat"), "metadata.name", "lower-case letters"),
    Case("a name with an underscore", metadata(name="my_chat"), "metadata.name"),
    Case("a name that ends with a dash", metadata(name="chat-"), "metadata.name"),
    Case("a name in other letters", metadata(name="chät"), "metadata.name"),
    Case("a name beyond every bound", metadata(name="a" * 254), "metadata.name"),
    Case("an empty name", metadata(name=""), "metadata.name", "missing"),
    Case("no name", {}, "metadata.name", "missing", without=("metadata.name",)),
    Case("no metadata", {}, "metadata.name", "missing", without=("metadata",)),
    Case("a name that is a number", metadata(name=7), "metadata.name", "give text"),
    Case("a name to be made", metadata(generateName="chat-"), without=("metadata.name",)),
    Case("a name to be made of capitals", metadata(generateName="Chat-"), "metadata.name", without=("metadata.name",)),
    Case("a misspelt field of metadata", metadata(lables={"a": "b"}), "metadata.lables", "did you mean labels"),
    Case("a label with a blank in its key", metadata(labels={"a b": "c"}), "metadata.labels", "a key"),
    Case("a label with a blank in its value", metadata(labels={"a": "b c"}), "metadata.labels", "the value of a label"),
    Case("a label whose value is too long", metadata(labels={"a": "b" * 64}), "metadata.labels"),
    Case("a label of a domain", metadata(labels={"example.com/team": "a_B.c", "empty": ""})),
    Case("a label of a domain in capitals", metadata(labels={"Example.com/team": "a"}), "metadata.labels"),
    Case("a label that is a number", metadata(labels={"a": 1}), "metadata.labels.a", "give text"),
    Case("a label that is null", metadata(labels={"a": None})),
    Case("an annotation of a domain in capitals", metadata(annotations={"Example.com/note": "水\n"})),
    Case("annotations as large as they may be", metadata(annotations={"a": "x" * 262143})),
    Case("annotations that are too large", metadata(annotations={"a": "x" * 262144}), "metadata.annotations"),
    Case("an owner without a uid", metadata(ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": "a"}]), "metadata.ownerReferences"),
    Case("a time of creation that is null", metadata(creationTimestamp=None)),
)  # fmt: skip

SPELLING = (
    Case("a misspelt part", spec(sloo={}), "spec.sloo", "did you mean slo?"),
    Case("a misspelt field", engine(maxModelLength=4096), "spec.engine.maxModelLength", "did you mean maxModelLen?"),
    Case("a field in snake case", engine(max_model_len=4096), "spec.engine.max_model_len", "did you mean maxModelLen?"),
    Case("a field in other capitals", engine(DType="auto"), "spec.engine.DType", "did you mean dtype?"),
    Case("a misspelt required field", {"spec": {"modell": {"uri": "hf://a/b"}}}, "spec.modell", "did you mean model?", without=("spec.model",)),
    Case("a field in the wrong part", spec(maxModelLen=4096), "spec.maxModelLen", "did you mean spec.engine.maxModelLen?"),
    Case("a field that is like no other", spec(zzz=1), "spec.zzz", "spec has the fields model, engine"),
    Case("a misspelt field in a list", engine(env=[{"name": "A"}, {"name": "B", "valu": "1"}]), "spec.engine.env[1].valu", "did you mean value?"),
    Case("a field inside of a number", spec(replicas={"min": 1}), "spec.replicas.min"),
    Case("a misspelt field of the object", {"sepc": {}}, "sepc", "did you mean spec?"),
    Case("a misspelt field of status", {"status": {"fase": "Ready"}}, "status.fase", "did you mean phase?"),
    Case("a misspelt toleration", accelerator(tolerations=[{"key": "a", "operater": "Exists"}]), "spec.accelerator.tolerations[0]"),
    Case("a misspelt source of a value", variable(valueFrom={"secretKeyRf": {"name": "s", "key": "k"}}), "spec.engine.env[0]"),
    Case("two misspelt fields", spec(enginee={}, workloadd={}), "spec.enginee"),
)  # fmt: skip

TYPES = (
    Case("a number in quotes", spec(replicas="2"), "spec.replicas", '"2": give a whole number'),
    Case("a half replica", spec(replicas=1.5), "spec.replicas", "1.5: give a whole number"),
    Case("a whole number with a point", spec(replicas=2.0)),
    Case("true for a number", spec(replicas=True), "spec.replicas", "true: give a whole number"),
    Case("a whole number for a measure", spec(profiling={"maxGpuMinutes": 5})),
    Case("true for a measure", spec(profiling={"maxGpuMinutes": True}), "spec.profiling.maxGpuMinutes", "give a number"),
    Case("a number beyond 64 bits", spec(replicas=10**20), "spec.replicas"),
    Case("a number for text", model(revision=8), "spec.model.revision", "8: give text"),
    Case("a number among arguments", args("--seed", 7), "spec.engine.args[1]", "7: give text"),
    Case("a list in a list", args(["--seed"]), "spec.engine.args[0]", "a list: give text"),
    Case("text for a list", engine(args="--seed"), "spec.engine.args", "give a list"),
    Case("an object for a list", engine(env={}), "spec.engine.env", "an object: give a list"),
    Case("text for an object", spec(engine="vllm"), "spec.engine", "give an object"),
    Case("a list for an object", spec(workload=[]), "spec.workload", "a list: give an object"),
    Case("text for the spec", {"spec": "model"}, "spec", "give an object"),
    Case("a number in a map of text", accelerator(nodeSelector={"a": 1}), "spec.accelerator.nodeSelector.a", "give text"),
    Case("text for a toleration", accelerator(tolerations=["all"]), "spec.accelerator.tolerations[0]", "give an object"),
    Case("a list for a pod template", spec(podTemplate=[]), "spec.podTemplate", "give an object"),
    Case("a status of the wrong type", {"status": {"phase": 5}}),
)  # fmt: skip

NULLS = (
    Case("no model", {}, "spec.model", "missing", without=("spec.model",)),
    Case("no address", {}, "spec.model.uri", "missing", without=("spec.model.uri",)),
    Case("no spec", {}, "spec", "missing", without=("spec",)),
    Case("a null spec", {"spec": None}, "spec", "missing"),
    Case("a null model", spec(model=None), "spec.model", "missing"),
    Case("a null address", model(uri=None), "spec.model.uri", "missing"),
    Case("a null part has its defaults", spec(slo=None, workload=None)),
    Case("a null field has its default", spec(profiling={"maxGpuMinutes": None})),
    Case("a null list", engine(args=None)),
    Case("a null in a list", args(None), "spec.engine.args[0]", "null: give text"),
    Case("a null object in a list", engine(env=[None]), "spec.engine.env[0]", "null: give an object"),
    Case("a null in a map", accelerator(nodeSelector={"a": None})),
    Case("a null that rules would see", variable(value=None, valueFrom={"fieldRef": {"fieldPath": "metadata.name"}})),
    Case("a null status", {"status": None}),
    Case("nulls inside of a pod template", spec(podTemplate={"spec": {"volumes": None, "x": [None]}})),
)

BOUNDS = (
    Case("no replicas", spec(replicas=0)),
    Case("as many replicas as may be", spec(replicas=10_000)),
    Case("one replica too many", spec(replicas=10_001), "spec.replicas", "10001: give at most 10000"),
    Case("fewer replicas than none", spec(replicas=-1), "spec.replicas", "-1: give at least 0"),
    Case("a minute of nothing", spec(profiling={"maxGpuMinutes": 0}), "spec.profiling.maxGpuMinutes", "0: give more than 0"),
    Case("a very short minute", spec(profiling={"maxGpuMinutes": 0.001})),
    Case("perfect batching", spec(advisor={"minEfficiency": 1}), "spec.advisor.minEfficiency", "give less than 1"),
    Case("nearly perfect batching", spec(advisor={"minEfficiency": 0.999})),
    Case("a longest address", model(uri="/" + "a" * 1023)),
    Case("an address that is too long", model(uri="hf://" + "a" * 1020), "spec.model.uri", "1025 characters: give at most 1024"),
    Case("a longest name in other letters", model(name="水" * 128)),
    Case("a name of letters beyond 16 bits", model(name="😀" * 128)),
    Case("half of a character", model(name="\ud83d")),
    Case("a name in other letters that is too long", model(name="水" * 129), "spec.model.name", "129 characters"),
    Case("as many arguments as may be", args(*["--x"] * 64)),
    Case("one argument too many", args(*["--x"] * 65), "spec.engine.args", "65 items: give at most 64"),
    Case("ten thousand arguments", args(*["--x"] * 10_000), "spec.engine.args"),
    Case("as many labels as may be", accelerator(nodeSelector={f"k{i}": "" for i in range(32)})),
    Case("one label too many", accelerator(nodeSelector={f"k{i}": "" for i in range(33)}), "spec.accelerator.nodeSelector", "33 entries"),
    Case("a shortest sequence", engine(maxModelLen=16)),
    Case("a sequence that is too short", engine(maxModelLen=15), "spec.engine.maxModelLen", "give at least 16"),
    Case("a port of 0", routing(endpointPickerRef={"name": "p", "port": 0}), "spec.routing.endpointPickerRef.port"),
    Case("the last port", routing(endpointPickerRef={"name": "p", "port": 65535})),
)  # fmt: skip

WORDS = (
    Case("a word of an enum in small letters", engine(dtype="BFloat16"), "spec.engine.dtype", "did you mean bfloat16?"),
    Case("a word that no enum has", spec(advisor={"objective": "Latency"}), "spec.advisor.objective", "give one of Throughput, FreeMemory"),
    Case("an empty word of an enum", spec(profiling={"policy": ""}), "spec.profiling.policy"),
    Case("an empty address", model(uri=""), "spec.model.uri", "a model is hf://org/name"),
    Case("an address without a scheme", model(uri="facebook/opt-125m"), "spec.model.uri", "a model is hf://org/name"),
    Case("an address of another scheme", model(uri="ftp://host/model"), "spec.model.uri"),
    Case("a path with a blank that is not ASCII's", model(uri="/models/a\u00a0b")),
    Case("an address that ends with a newline", model(uri="/models/opt\n"), "spec.model.uri"),
    Case("an image with a blank", engine(image="vllm latest"), "spec.engine.image", "without blanks"),
    Case("an empty image", engine(image=""), "spec.engine.image"),
    Case("an image in other letters", engine(image="vllm:ä"), "spec.engine.image"),
    Case("an image with a letter that looks like K", engine(image="\u212a"), "spec.engine.image"),
    Case("an image that turns the direction of reading", engine(image="vllm\u202e"), "spec.engine.image"),
    Case("an empty name of a variable", engine(env=[{"name": ""}]), "spec.engine.env[0].name", "the name of a variable is ASCII"),
    Case("a variable of the device plugin's", engine(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]), "spec.engine.env[0]"),
    Case("a variable that chooses a GPU", engine(env=[{"name": "CUDA_VISIBLE_DEVICES", "value": "0"}]), "spec.engine.env[0]"),
    Case("a key of the engine's, in a variable", engine(env=[{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])),
    Case("an owned flag in the command", engine(command=["vllm", "serve", "--max-num-seqs", "7"]), "spec.engine.command", "docs/reference/api.md lists them"),
    Case("two variables of one name", engine(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "spec.engine.env[1]", "the same name as item 0"),
    Case("a value and a source of it", variable(value="1", valueFrom={"fieldRef": {"fieldPath": "metadata.name"}}), "spec.engine.env[0]", "not both"),
    Case("a relative path of a dataset", spec(workload={"dataset": "chats.json"}), "spec.workload.dataset"),
    Case("a node by a label of ours", accelerator(nodeSelector={"slm-operator.io/serves": "a"}), "spec.accelerator", "select by a label of yours"),
    Case("every host", routing(hostnames=["*"]), "spec.routing.hostnames[0]", "leave hostnames out"),
    Case("a host of many", routing(hostnames=["*.example.com", "chat.example.com"])),
    Case("a host twice", routing(hostnames=["a.example.com", "b.example.com", "a.example.com"]), "spec.routing.hostnames[2]", "the same as item 0"),
    Case("a Gateway in a namespace that cannot be", routing(gatewayRef={"name": "g", "namespace": "a.b"}), "spec.routing.gatewayRef.namespace"),
    Case("routing without a Gateway", spec(routing={"endpointPickerRef": {"name": "p"}}), "spec.routing.gatewayRef", "missing"),
    Case("a deep pod template", spec(podTemplate={"a": {"b": {"c": [[[[{"d": None}]]]]}}})),
)  # fmt: skip

RENAMED = (
    Case("a limit for each metric", spec(slo={"itl": {"maxMs": 20, "statistic": "P99"}, "ttft": {"maxMs": 500.5}})),
    Case("a limit in two forms", spec(slo={"itl": {"maxMs": 20, "maxFactor": 4}}), "spec.slo", "not both"),
    Case("a limit of nothing", spec(slo={"itl": {"maxMs": 0}}), "spec.slo.itl.maxMs", "give more than 0"),
    Case("a load in two forms", spec(workload={"concurrencyPerGpu": 4, "requestsPerSecondPerGpu": 2}), "spec.workload", "not both"),
    Case("an engine that shares with itself", spec(sharing={"mode": "Exclusive", "enginesPerGpu": 2}), "spec.sharing", "one engine"),
    Case("a mode of old", spec(sharing={"mode": "None"}), "spec.sharing.mode", '"None" is called Exclusive now'),
    Case("a mode that nobody has", spec(sharing={"mode": "MIG"}), "spec.sharing.mode", "give one of Auto, MPS"),
    Case("neighbours of old", spec(sharing={"tenancy": "Any"}), "spec.sharing.tenancy", '"Any" is called Shared now'),
    Case("a Secret by reference", model(credentialsSecretRef={"name": "hf-token"})),
    Case("a Secret that cannot be", model(credentialsSecretRef={"name": "My Secret"}), "spec.model.credentialsSecretRef.name"),
    Case("a profile by reference", spec(profiling={"profileRef": {"name": "measured"}})),
    Case("a product", accelerator(products=["NVIDIA-L4"])),
    Case("two products", accelerator(products=["NVIDIA-L4", "NVIDIA-A10"]), "spec.accelerator.products", "2 items: give at most 1"),
)  # fmt: skip

PROFILES = (
    Case("a profile of a model", {}, kind=PROFILE),
    Case("a profile of too short a search", spec(search={"maxGpuMinutes": 0}), "spec.search.maxGpuMinutes", kind=PROFILE),
    Case("a misspelt field of a search", spec(search={"maxGpuMinute": 5}), "spec.search.maxGpuMinute", "did you mean", kind=PROFILE),
    Case("a profile with a deployment's field", spec(replicas=2), "spec.replicas", kind=PROFILE),
    Case("a profile with an owned flag", args("--max-num-seqs=4"), OWNED, kind=PROFILE),
    Case("a profile that is named as no Service is", metadata(name="4b.chat"), kind=PROFILE),
    Case("measurements that are text", spec(measurements="fast"), "spec.measurements", kind=PROFILE),
)  # fmt: skip

OF_FIELDS = tuple(
    Case(one.name, {"spec": one.spec}, one.refused and "spec", one.refused or "") for one in admission.CASES
)
"""What the API's own types say too (tests/unit/api/test_admission.py), in the same words."""

CASES = (*OF_FIELDS, *FLAGS, *NAMES, *SPELLING, *TYPES, *NULLS, *BOUNDS, *WORDS, *RENAMED, *PROFILES)


def nested(levels: int) -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(levels):
        deep = {"a": deep}
    return deep


def of_pod(mode: str = "Auto", **pod: Any) -> dict[str, Any]:
    return spec(sharing={"mode": mode}, podTemplate={"spec": pod})


BEYOND = (
    Case("a pod template that is nested too deeply", spec(podTemplate=nested(80)), says="nested deeper than 64 levels"),
    Case(
        "a pod template as no pod is",
        spec(podTemplate={"metadata": 5}),
        says="spec.podTemplate.metadata is not an object",
    ),
    Case(
        "a pod template with a directive",
        of_pod(volumes=[{"name": "a", "$patch": "delete"}]),
        says="patch is a directive of patches",
    ),
    Case("a pod template with a volume twice", of_pod(volumes=[{"name": "a"}, {"name": "a"}]), says="has name a twice"),
    Case("another user under MPS", of_pod("MPS", securityContext={"runAsUser": 1}), says="would run as user 1"),
    Case(
        "a shared memory of one's own under MPS",
        of_pod("MPS", containers=[{"name": "engine", "volumeMounts": [{"name": "a", "mountPath": "/dev/shm"}]}]),
        says="which hides that of the MPS daemon",
    ),
)
"""Taken by the API server, which cannot look into raw objects. The operator refuses them, and so does plan."""

SCALARS: dict[str, Any] = {
    "2024-01-01": "2024-01-01",
    "2024-01-01T10:00:00Z": "2024-01-01T10:00:00Z",
    "1:30": "1:30",
    "1e3": 1000,
    "1.5e+3": 1500,
    ".5": 0.5,
    "5.": 5,
    "+5": 5,
    "-0x1f": -31,
    "1e-7": 1e-07,
    "0o17": 15,
    "017": 15,
    "09": 9,
    "0b11": 3,
    "1_000": 1000,
    "2.0": 2,
    "yes": True,
    "Off": False,
    "n": False,
    "tRue": "tRue",
    "~": None,
    "": None,
    '"5"': "5",
    "!!str 5": "5",
    "v1.0": "v1.0",
}
"""Scalars of YAML, and the JSON that kubectl sends for them."""
