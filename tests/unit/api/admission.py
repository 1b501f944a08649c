"""What admission takes and refuses: one table, asked of the API's own types and of a real API server.

Each case is a part of an SLMDeployment's spec, and words of the message that it is refused with; None: it is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DIGEST = "sha256:" + "0a" * 32
HUB, CLAIM, BUCKET, IMAGE = (
    "a model of the Hugging Face hub",
    "a model on a volume",
    "a model in a bucket",
    "in an image",
)
ANY = "a model is hf://org/name, pvc://claim/path, s3://bucket/path, oci://registry/image, or an absolute path"
NO_HUB_NAME = "no name on the Hugging Face hub"
REVISION = "a revision goes into spec.model.revision"
CHANGING = "give the toleration the key of the taint that is meant"
ONE_SOURCE = "give exactly one of secretKeyRef"


@dataclass(frozen=True, slots=True)
class Case:
    """`crosses`: several fields decide, so that only the schema's rules refuse it, and not the type."""

    name: str
    spec: dict[str, Any]
    refused: str | None = None
    crosses: bool = False


def _model(uri: str, refused: str | None = None, revision: str | None = None) -> Case:
    given = {"uri": uri} | ({} if revision is None else {"revision": revision})
    at = "" if revision is None else f" at {revision}"
    return Case(f"model {uri!r}{at}", {"model": given}, refused, crosses=revision is not None)


def _dataset(path: str, refused: str | None = None) -> Case:
    return Case(f"dataset {path!r}", {"workload": {"dataset": path}}, refused)


def _image(image: str, refused: str | None = None) -> Case:
    return Case(f"image {image!r}", {"engine": {"image": image}}, refused)


def _toleration(name: str, toleration: dict[str, Any], refused: str | None = None, *, crosses: bool = False) -> Case:
    return Case(f"toleration {name}", {"accelerator": {"tolerations": [toleration]}}, refused, crosses)


def _env(name: str, source: dict[str, Any], refused: str | None = None, *, crosses: bool = False) -> Case:
    return Case(f"env {name}", {"engine": {"env": [{"name": "A", "valueFrom": source}]}}, refused, crosses)


_MODELS = (
    _model("hf://facebook/opt-125m"),
    _model("hf://gpt2"),
    _model("hf://meta-llama/Llama-3.2-1B", revision="refs/pr/1"),
    _model("hf://o_rg/a.b_c-d"),
    _model("hf://meta-llama/Llama-3.2-1B:main", REVISION),
    _model("hf://org/name@5f0b02c75b57c5855da9ae460ce51323ea669d8a", REVISION),
    _model("hf://org/na me", HUB),
    _model("hf://org/name/tree/main", HUB),
    _model("hf://org/name?revision=main", HUB),
    _model("hf://org/name/", HUB),
    _model("hf://", HUB),
    _model("hf:///opt", HUB),
    _model("hf://-org/name", HUB),
    _model(f"hf://org/{'n' * 96}"),
    _model(f"hf://org/{'n' * 97}", HUB),
    _model("hf://org/a--b", NO_HUB_NAME),
    _model("hf://org/a..b", NO_HUB_NAME),
    _model("hf://org/name.git", NO_HUB_NAME),
    _model("hf://org/name.gitlab"),
    _model("pvc://models/opt"),
    _model("pvc://models"),
    _model("pvc://models.v1/a folder/opt:main"),
    _model("pvc://Models/opt", CLAIM),
    _model("pvc://my_models/opt", CLAIM),
    _model("pvc://", CLAIM),
    _model("pvc:///opt", CLAIM),
    _model("s3://bucket/opt"),
    _model("s3://my.bucket-1"),
    _model("s3://Bucket/opt", BUCKET),
    _model("s3://my_bucket/opt", BUCKET),
    _model("s3://b/opt", BUCKET),
    _model("s3://KEY:secret@bucket/opt", "spec.model.credentialsSecretRef"),
    _model("oci://registry.example/models/opt"),
    _model("oci://registry.example:5000/opt:1.0#weights"),
    _model(f"oci://registry.example/opt@{DIGEST}"),
    _model("oci://registry.example/opt", revision=DIGEST),
    _model("oci://registry.example:5000/opt#a/b:c", revision="1.0"),
    _model("oci://registry.example/opt:1.0", revision=DIGEST),
    _model("oci://registry.example/opt:1.0", "remove one of them", revision="1.1"),
    _model(f"oci://registry.example/opt@{DIGEST}", "remove one of them", revision="1.1"),
    _model("oci://registry.example/Opt", IMAGE),
    _model("oci://registry.example/o pt", IMAGE),
    _model("oci://", IMAGE),
    _model("/models/opt"),
    _model("", ANY),
    _model("facebook/opt-125m", ANY),
    _model("ftp://models/opt", ANY),
    _model("HF://a/b", ANY),
    _model("./opt", ANY),
    _model("/m/opt one", ANY),
    _model("/m/opt\n", ANY),
    Case("a revision with a blank", {"model": {"uri": "hf://a/b", "revision": "main "}}, "without blanks"),
)
_DATASETS = (
    _dataset("pvc://data/chats.json"),
    _dataset("/data/chats.json"),
    _dataset("chats.json", "a dataset is pvc://claim/path, or an absolute path"),
    _dataset("pvc://claim", "a dataset is pvc://claim/path"),
    _dataset("pvc://My_Data/chats.json", "the name of a claim is lower-case letters"),
    _dataset("hf://org/chats", "a dataset is pvc://claim/path"),
    _dataset("/data/two words", "a dataset is pvc://claim/path"),
)
_IMAGE = "an image is registry/name:tag or registry/name@sha256:digest"
_IMAGES = (
    _image("vllm/vllm-openai:v0.32.0"),
    _image("localhost:5000/vllm"),
    _image("[::1]:5000/vllm"),
    _image("vllm"),
    _image(f"registry.example/a/b__c/vllm-openai:v1@{DIGEST}"),
    _image("", _IMAGE),
    _image("vllm/vllm openai", _IMAGE),
    _image("vllm/vllm-openai:v1 ", _IMAGE),
    _image("vllm/VLLM-openai:v1", _IMAGE),
    _image("vllm/vllm-openai:", _IMAGE),
    _image("vllm/vllm-openai@sha256:0a", _IMAGE),
    _image("https://registry.example/vllm", _IMAGE),
)
_TOLERATIONS = (
    _toleration("of a key", {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}),
    _toleration("of a value", {"key": "pool", "value": "gpu"}),
    _toleration("of an empty value", {"key": "pool", "operator": "Exists", "value": ""}),
    _toleration("for a time", {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}),
    _toleration("of everything that evicts", {"operator": "Exists", "effect": "NoExecute"}),
    _toleration("misspelt", {"key": "a", "operater": "Exists"}, "operater"),
    _toleration("with an operator of feature gates", {"key": "a", "operator": "Gt", "value": "5"}, "operator"),
    _toleration("with no such effect", {"key": "a", "operator": "Exists", "effect": "NoRun"}, "effect"),
    _toleration("with no such key", {"key": "a key", "operator": "Exists"}, "a key is letters"),
    _toleration("with no such value", {"key": "a", "value": "a b"}, "a value is letters"),
    _toleration("without a key", {"value": "a"}, "needs operator: Exists", crosses=True),
    _toleration("Exists with a value", {"key": "a", "operator": "Exists", "value": "b"}, "remove value", crosses=True),
    _toleration("for a time without NoExecute", {"key": "a", "value": "b", "tolerationSeconds": 5}, "only effect: NoExecute", crosses=True),
    _toleration("of everything", {"operator": "Exists"}, CHANGING),
    _toleration("of every NoSchedule", {"operator": "Exists", "effect": "NoSchedule"}, CHANGING),
    _toleration("of our taint", {"key": "slm-operator.io/changing", "operator": "Exists"}, CHANGING),
    _toleration("of our taint by value", {"key": "slm-operator.io/changing", "effect": "NoSchedule"}, CHANGING),
)  # fmt: skip
_SECRET = {"name": "s", "key": "k"}
_VARIABLES = (
    _env("from a Secret", {"secretKeyRef": _SECRET | {"optional": True}}),
    _env("from a ConfigMap", {"configMapKeyRef": {"name": "my.config", "key": "a.b"}}),
    _env("from a field", {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a']"}}),
    _env("from a resource", {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}}),
    _env("from a resource in units", {"resourceFieldRef": {"containerName": "engine", "resource": "requests.memory", "divisor": "1Mi"}}),
    _env("misspelt", {"secretKeyReff": _SECRET}, "secretKeyReff"),
    _env("misspelt inside", {"secretKeyRef": _SECRET | {"keey": "k"}}, "keey"),
    _env("without a key", {"secretKeyRef": {"name": "s"}}, "key"),
    _env("from no Secret's name", {"secretKeyRef": {"name": "My Secret", "key": "k"}}, "the name of an object"),
    _env("from a file", {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}, "fileKeyRef"),
    _env("from nowhere", {}, ONE_SOURCE, crosses=True),
    _env("from two places", {"secretKeyRef": _SECRET, "configMapKeyRef": _SECRET}, ONE_SOURCE, crosses=True),
    _env("from no field", {"fieldRef": {"fieldPath": "metadata.nam"}}, "a variable may show metadata.name", crosses=True),
    _env("from no resource", {"resourceFieldRef": {"resource": "cpu"}}, "a variable may show limits.cpu"),
    Case("env with its value in its name", {"engine": {"env": [{"name": "A=b"}]}}, "the value goes into the field value"),
    Case("env without a name", {"engine": {"env": [{"name": ""}]}}, "the name of a variable"),
)  # fmt: skip
_NODES = (
    Case("nodes by label", {"accelerator": {"nodeSelector": {"pool": "gpu", "empty": ""}}}),
    Case("nodes by no such value", {"accelerator": {"nodeSelector": {"pool": "a b"}}}, "a value is letters"),
    Case("nodes by our marks", {"accelerator": {"nodeSelector": {"slm-operator.io/serves": "a.b"}}}, "select by a label of yours"),
)  # fmt: skip
CASES = (*_MODELS, *_DATASETS, *_IMAGES, *_TOLERATIONS, *_VARIABLES, *_NODES)
