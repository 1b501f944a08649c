"""`kubectl slm support`: what the archive holds, and that no secret comes through, wherever it was planted."""

from __future__ import annotations

import copy
import itertools
import json
import re
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_operator.cli.main import main
from slm_operator.cli.support import redact
from unit.cli.api_server import GROUP, failure
from unit.cli.cluster_objects import OPERATOR, PROFILE, SPEC, TEAM, condition, deployed

if TYPE_CHECKING:
    from pathlib import Path

    from unit.cli.api_server import ApiServer

SECRET = "correct-horse-battery-staple"
OTHERS = itertools.count()


def planted_at(place: str) -> str:
    """A secret of its own for each place, so that taking one out does not hide that another stays."""
    return f"planted-{next(OTHERS)}-in-{place}"


def again(value: Any) -> Any:
    """The same with secrets of its own: what a webhook adds to a pod is in no podTemplate."""
    if isinstance(value, dict):
        return {key: again(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [again(inner) for inner in value]
    return re.sub(r"planted-\d+", lambda _: f"planted-{next(OTHERS)}", value) if isinstance(value, str) else value


LABELS = {"slm-operator.io/deployment": "opt", "app.kubernetes.io/managed-by": "slm-operator"}

POD_TEMPLATE: dict[str, Any] = {
    "metadata": {
        "annotations": {"vault.example.com/token": planted_at("place")},
        "labels": {"team": planted_at("place")},
    },
    "spec": {
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": [planted_at("place")]}],
        "containers": [
            {"name": "engine", "env": [{"name": "TOKEN", "value": planted_at("place")}]},
            {
                "name": "sidecar",
                "image": "registry/sidecar:1",
                "command": ["sh", "-c", f"export KEY={planted_at('command')}; run"],
                "args": ["--api-key", planted_at("place"), f"--auth={planted_at('argument')}"],
                "livenessProbe": {
                    "httpGet": {"httpHeaders": [{"name": "Authorization", "value": planted_at("place")}]}
                },
                "lifecycle": {"preStop": {"exec": {"command": ["curl", "-H", planted_at("place")]}}},
            },
        ],
        "volumes": [
            {"name": "v", "csi": {"driver": "d", "volumeAttributes": {"password": planted_at("place")}}},
            {"name": "w", "flexVolume": {"options": {"key": planted_at("place")}}},
        ],
    },
}
PLANTED = deployed()
PLANTED["metadata"] = PLANTED["metadata"] | {
    "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": planted_at("last-applied"),
        "kubernetes.io/change-cause": f"kubectl run --with {planted_at('cause')}",
        "note": planted_at("place"),
        "slm-operator.io/former": "kept",
    },
    "labels": {"owner": planted_at("place")},
    "managedFields": [{"manager": planted_at("place")}],
}
PLANTED["spec"] = SPEC | {
    "podTemplate": POD_TEMPLATE,
    "engine": {
        "image": "vllm/vllm-openai:v0.32.0",
        "env": [
            {"name": "HF_TOKEN", "value": SECRET},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        "args": [
            "--api-key",
            planted_at("place"),
            "--quantization",
            "awq",
            "--seed=7",
            f"--hf-overrides={planted_at('flag')}",
        ],
        "command": ["sh", "-c", f"KEY={planted_at('shell')} vllm serve"],
    },
}
PLANTED["status"]["conditions"].append(condition("Available", "False", f"webhook refused: {SECRET} is not allowed"))
MEASURED = copy.deepcopy(PROFILE)
MEASURED["spec"]["engine"] = PLANTED["spec"]["engine"]
MEASURED["status"]["measurements"]["engine"]["args"] = ["--api-key", planted_at("place")]

POD = {
    "metadata": {
        "name": "opt-1",
        "namespace": "team",
        "labels": LABELS,
        "annotations": {"vault.example.com/token": planted_at("place")},
    },
    "spec": again(POD_TEMPLATE["spec"]) | {"nodeName": "gpu-1"},
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "engine",
                "restartCount": 1,
                "lastState": {"terminated": {"exitCode": 1, "message": f"bad key {SECRET}"}},
            }
        ],
    },
}
OPERATOR_POD = {
    "metadata": {"name": "slm-operator-0", "namespace": "slm-system"},
    "spec": {},
    "status": {"containerStatuses": [{"name": "operator", "restartCount": 2}]},
}
LOG = "/api/v1/namespaces/slm-system/pods/slm-operator-0/log"
EVENTS = [
    {"reason": "Unschedulable", "note": f"no room for {SECRET}", "regarding": {"kind": "SLMDeployment", "name": "opt"}},
    {"reason": "Pulled", "note": "foreign", "regarding": {"kind": "Pod", "name": "elsewhere"}},
    {"reason": "Failed", "note": "of ours", "regarding": {"kind": "Pod", "name": "opt-1"}},
]
TEMPLATE = again(POD_TEMPLATE)
WORKLOAD = {"metadata": {"name": "opt", "namespace": "team"}, "spec": {"replicas": 2, "template": TEMPLATE}}
CLUSTER: dict[str, Any] = {
    f"{TEAM}/slmdeployments": {"items": [PLANTED]},
    f"{TEAM}/slmprofiles": {"items": [MEASURED]},
    "/apis/apps/v1/namespaces/team/deployments": {"items": [WORKLOAD]},
    "/apis/apps/v1/namespaces/team/replicasets": {"items": [WORKLOAD]},
    "/apis/batch/v1/namespaces/team/jobs": {"items": [WORKLOAD]},
    "/api/v1/namespaces/team/pods": {"items": [POD]},
    "/apis/events.k8s.io/v1/namespaces/team/events": {"items": EVENTS},
    "/apis/events.k8s.io/v1/namespaces/default/events": {
        "items": [{"reason": "Changing", "note": "will be mps-2", "reportingController": "slm-operator", "regarding": {"kind": "Node"}}]
    },
    "/api/v1/namespaces/slm-system/pods": {"items": [OPERATOR_POD]},
    LOG: f'{{"message": "refused", "because": "{SECRET}"}}\n{{"message": "hf_abcdefghijklmnopqrstuv"}}\n',
}  # fmt: skip


@pytest.fixture
def planted(server: ApiServer) -> ApiServer:
    server.answers |= CLUSTER
    return server


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {
            name.removeprefix("slm-support/"): file.read().decode()
            for name in tar.getnames()
            if (file := tar.extractfile(name)) is not None
        }


def test_no_secret_comes_through(planted: ApiServer, tmp_path: Path) -> None:
    assert main(["support", "-o", str(tmp_path / "s.tgz")]) == 0
    for name, text in unpacked(tmp_path / "s.tgz").items():
        assert SECRET not in text, name
        assert "planted-" not in text, name
        assert "hf_abcdef" not in text, name
    assert next(OTHERS) > 20
    assert SECRET.encode() not in (tmp_path / "s.tgz").read_bytes()
    assert not [asked for asked in planted.asked if "secret" in asked]


def test_the_archive_tells_what_is_going_on(
    planted: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["support", "-o", str(tmp_path / "s.tgz")]) == 0
    assert "look through it before you pass it on" in capsys.readouterr().out
    files = unpacked(tmp_path / "s.tgz")
    assert list(files) == [
        "README.txt", "check.json", "deployments.json", "events.json", "jobs.json", "logs/slm-operator-0.log",
        "logs/slm-operator-0.previous.log", "nodes.json", "operator-pods.json", "pods.json", "profiles.json",
        "replica-sets.json", "versions.json", "workloads.json",
    ]  # fmt: skip
    (deployment,) = json.loads(files["deployments.json"])
    engine = deployment["spec"]["engine"]
    assert engine["args"] == [
        "--api-key",
        "<redacted>",
        "--quantization",
        "awq",
        "--seed=7",
        "--hf-overrides=<redacted>",
    ]
    assert engine["env"][0] == {"name": "HF_TOKEN", "value": "<redacted>"}
    assert engine["env"][1]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert deployment["spec"]["podTemplate"]["spec"]["containers"][1]["args"] == ["<redacted>"] * 3
    assert deployment["metadata"]["annotations"]["slm-operator.io/former"] == "kept"
    assert deployment["status"]["advice"]["configuration"]["batchSize"] > 0
    assert [event["reason"] for event in json.loads(files["events.json"])] == [
        "Unschedulable",
        "Failed",
        "Changing",
    ]
    (node, _) = json.loads(files["nodes.json"])
    assert node["status"]["allocatable"] == {"nvidia.com/gpu": "8", "nvidia.com/gpu.shared": "0"}
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100"
    (pod,) = json.loads(files["pods.json"])
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"] == "bad key <redacted>"
    (profile,) = json.loads(files["profiles.json"])
    assert profile["status"]["measurements"]["points"]
    reported = json.loads(files["versions.json"])
    assert reported["operators"] == {
        "slm-system/slm-operator": OPERATOR["metadata"]["labels"]["app.kubernetes.io/version"]
    }
    assert reported["nvidia"]["nvidia-device-plugin/nvidia-device-plugin"].endswith(":v0.20.0")
    assert json.loads(files["check.json"])["ok"] is True
    assert '"message": "refused"' in files["logs/slm-operator-0.log"]


def test_support_archive_names_what_may_not_be_seen(
    planted: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.answers |= {
        "/api/v1/nodes": failure(403, 'nodes is forbidden: User "u" cannot list resource "nodes"'),
        LOG: failure(403, 'User "u" cannot get resource "pods/log"'),
    }
    assert main(["support", "-o", str(tmp_path / "s.tgz")]) == 0
    assert 'not in it: nodes: nodes is forbidden: User "u"' in capsys.readouterr().out
    files = unpacked(tmp_path / "s.tgz")
    assert "nodes.json" not in files
    assert "log of slm-system/slm-operator-0" in files["README.txt"]


def test_a_cluster_without_our_chart(planted: ApiServer, tmp_path: Path) -> None:
    nowhere = failure(404, "the server could not find the requested resource")
    planted.answers |= {path: nowhere for path in planted.answers if path.startswith(GROUP)}
    assert main(["support", "-o", str(tmp_path / "s.tgz")]) == 0
    assert "deployments: this cluster does not know slmdeployments" in unpacked(tmp_path / "s.tgz")["README.txt"]


def test_a_file_that_cannot_be_written(planted: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "-o", "/proc/nowhere/s.tgz"]) == 2
    assert "-o /proc/nowhere/s.tgz" in capsys.readouterr().err


def test_words_that_are_everywhere_are_left_in_texts(planted: ApiServer, tmp_path: Path) -> None:
    """What names a thing in a volume, a label or a node is taken out there, and stays a word elsewhere."""
    projected = {
        "sources": [{"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.name"}}]}}]
    }
    pod = copy.deepcopy(POD)
    pod["spec"]["volumes"] = [
        {"name": "token", "projected": projected},
        {"name": "m", "hostPath": {"path": "/replicas"}},
    ]
    pod["metadata"]["labels"] = LABELS | {"pool": "default"}
    planted.answers["/api/v1/namespaces/team/pods"] = {"items": [pod]}
    planted.answers[LOG] = "the namespace default has 2 replicas\n"
    assert main(["support", "-o", str(tmp_path / "s.tgz")]) == 0
    files = unpacked(tmp_path / "s.tgz")
    assert files["logs/slm-operator-0.log"] == "the namespace default has 2 replicas\n"
    (reported,) = json.loads(files["pods.json"])
    assert reported["metadata"]["labels"]["pool"] == "<redacted>"
    assert reported["spec"]["volumes"][1] == {"name": "m", "hostPath": {"path": "<redacted>"}}


def test_short_secret_values_are_redacted_where_they_stand() -> None:
    assert redact.variable({"name": "PIN", "value": "4x"}) == {"name": "PIN", "value": "<redacted>"}
    assert redact.words(["--api-key", "4x", "--auth=4x", "4x"]) == [
        "--api-key",
        "<redacted>",
        "--auth=<redacted>",
        "<redacted>",
    ]
    assert redact.metadata({"metadata": {"annotations": {"pin": "4x"}}}) == {"annotations": {"pin": "<redacted>"}}


CREDENTIALS = [
    ("Hugging Face", "token hf_ABCDEFGHIJKLMNOPqrst ends", "token <redacted> ends"),
    ("AWS", "id AKIAIOSFODNN7EXAMPLE", "id <redacted>"),
    ("JSON web token", "x eyJhbGciOiJSUzI1NiIs.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl y", "x <redacted> y"),
    ("an address", "https://me:hunter2@host/x", "https://<redacted>@host/x"),
    ("bearer", "Authorization: Bearer abcdefgh1234", "Authorization: Bearer <redacted>"),
    ("a variable", "PASSWORD=hunter2 next", "PASSWORD=<redacted> next"),
    ("a key", "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a\n<redacted>\nb"),
    ("a key that is cut off", "a\n-----BEGIN PRIVATE KEY-----\nMII", "a\n<redacted>"),
    ("a slash in a secret", "s3://AKIAIOSFODNN7EXAMPLE:sEcr3t/with/slash@bucket/x", "s3://<redacted>@bucket/x"),
    ("nothing", "2 of 2 replicas answer at http://opt.team.svc/v1", "2 of 2 replicas answer at http://opt.team.svc/v1"),
]


@pytest.mark.parametrize(("text", "left"), [c[1:] for c in CREDENTIALS], ids=[c[0] for c in CREDENTIALS])
def test_credentials_are_redacted_in_any_text(text: str, left: str) -> None:
    assert redact.scrub({"a": [text]}, ()) == {"a": [left]}


HOSTILE = {
    "tokens within tokens": "eyJ-" * 250_000,
    "keys without an end": "-----BEGIN PRIVATE KEY-----\n" * 40_000,
    "beginnings of keys": "-----BEGIN " + "A " * 500_000,
    "addresses without an end": "http://a:" * 100_000,
    "prefixes": "sk-" * 300_000,
    "assignments": "token=" * 150_000,
    "bearers": "bearer " * 150_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_gone_over_again_and_again(text: str) -> None:
    """NB: a megabyte of each; what takes the square of that is not done within the limit of a test."""
    redact.scrub(HOSTILE[text], ())


def test_the_model_that_a_replica_begins_with_is_left() -> None:
    pod = {
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "engine", "args": ["org/opt-1.3b", "--x", SECRET]}]},
    }
    assert redact.pod(pod)["spec"]["containers"][0]["args"] == ["org/opt-1.3b", "--x", "<redacted>"]
    assert redact.taken_out([pod]) == [SECRET]


def test_a_flag_that_a_replica_begins_with_is_no_model() -> None:
    pod = {
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "engine", "args": [f"--api-key={SECRET}", "org/x"]}]},
    }
    assert redact.pod(pod)["spec"]["containers"][0]["args"] == ["--api-key=<redacted>", "<redacted>"]


def test_an_owned_flag_is_harmless_under_its_short_name() -> None:
    assert redact.words(["-x", "two", "-tp", "two", "-tp=two"]) == ["<redacted>", "<redacted>", "-tp", "two", "-tp=two"]


QUOTED_ALONE = {
    "a number as a key": ["--api-key", "98765432"],
    "a number as a key, in one word": ["--api-key=98765432"],
    "an assignment in a shell": ["sh", "-c", "export HF=98765432; exec vllm serve"],
    "an assignment in quotes": ["sh", "-c", "T='98765432' vllm serve"],
    "a flag in a shell": ["sh", "-c", "vllm serve --api-key 98765432 | tee /tmp/log"],
}


@pytest.mark.parametrize("args", QUOTED_ALONE.values(), ids=QUOTED_ALONE)
def test_a_secret_of_a_command_line_is_found_quoted_alone(args: list[str]) -> None:
    engine = {"metadata": {"name": "a"}, "spec": {"containers": [{"args": args}]}}
    secrets = redact.taken_out([engine])
    assert "98765432" not in str(redact.pod(engine))
    assert redact.scrub("refused: 98765432", secrets) == "refused: <redacted>"
    assert redact.scrub("python3 -m vllm serve", secrets) == "python3 -m vllm serve"


FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(SECRET) | st.just(f"say {SECRET}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60)
@given(FREE, FREE, st.lists(st.just(SECRET) | st.just(f"--x={SECRET}") | st.just("--y")))
def test_wherever_users_write_freely(template: Any, volume: Any, args: list[str]) -> None:
    """No text of a podTemplate, a volume or an argument is left, nor found again in a message that quotes it."""
    spec = {"podTemplate": {"spec": template}, "engine": {"args": args, "command": args}}
    ours = {"metadata": {"name": "a"}, "spec": spec, "status": {"message": f"because of {SECRET}"}}
    pod = {"metadata": {"name": "a"}, "spec": {"volumes": [{"name": "v", "x": volume}], "containers": [{"args": args}]}}
    secrets = redact.taken_out([ours, pod])
    reported = redact.scrub([redact.slm_object(ours), redact.pod(pod)], secrets)
    assert SECRET not in str([reported[0]["spec"], reported[1]])
    assert SECRET not in secrets or SECRET not in str(reported)
