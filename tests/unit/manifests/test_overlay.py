"""podTemplate merges like a strategic merge patch, and never over what the operator owns."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from slm_operator.manifests.overlay import merge, refused_fields, refused_under_mps

MERGES: dict[str, tuple[Any, Any, Any]] = {
    "maps merge": ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
    "null removes": ({"a": 1, "b": 1}, {"b": None}, {"a": 1}),
    "env merges by name": (
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
        {"env": [{"name": "B", "value": "2"}, {"name": "C", "value": "3"}]},
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]},
    ),
    "mounts merge by path": (
        {"volumeMounts": [{"name": "a", "mountPath": "/a"}]},
        {"volumeMounts": [{"name": "b", "mountPath": "/a"}]},
        {"volumeMounts": [{"name": "b", "mountPath": "/a"}]},
    ),
    "tolerations add up": (
        {"tolerations": [{"key": "a"}]},
        {"tolerations": [{"key": "b"}]},
        {"tolerations": [{"key": "a"}, {"key": "b"}]},
    ),
    "a volume keeps one source": (
        {"volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}]},
        {
            "volumes": [
                {"name": "shm", "emptyDir": {"sizeLimit": "2Gi"}},
                {"name": "scratch", "hostPath": {"path": "/a"}},
            ]
        },
        {
            "volumes": [
                {"name": "scratch", "hostPath": {"path": "/a"}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
            ]
        },
    ),
    "a variable keeps one source": (
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {
            "env": [
                {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            ]
        },
        {
            "env": [
                {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            ]
        },
    ),
    "a value replaces where it came from": (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        {"env": [{"name": "A", "value": ""}]},
        {"env": [{"name": "A", "value": ""}]},
    ),
    "a name alone changes nothing": (
        {"volumes": [{"name": "a", "emptyDir": {}}], "env": [{"name": "A", "value": "1"}]},
        {"volumes": [{"name": "a"}], "env": [{"name": "A"}]},
        {"volumes": [{"name": "a", "emptyDir": {}}], "env": [{"name": "A", "value": "1"}]},
    ),
    "one port, two protocols": (
        {"ports": []},
        {"ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]},
        {"ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]},
    ),
    "one topology, two constraints": (
        {"topologySpreadConstraints": [{"topologyKey": "h", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}]},
        {
            "topologySpreadConstraints": [
                {"topologyKey": "h", "whenUnsatisfiable": "DoNotSchedule"},
                {"topologyKey": "h", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"},
            ]
        },
        {
            "topologySpreadConstraints": [
                {"topologyKey": "h", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
                {"topologyKey": "h", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"},
            ]
        },
    ),
    "other lists replace": ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
}


@pytest.mark.parametrize("case", MERGES)
def test_overlay_is_merged(case: str) -> None:
    base, over, merged = MERGES[case]
    assert merge(base, over) == merged


REFUSED = {
    "image": ({"spec": {"containers": [{"name": "engine", "image": "x"}]}}, "spec.engine.image"),
    "probe": ({"spec": {"containers": [{"name": "engine", "livenessProbe": {}}]}}, "livenessProbe"),
    "slice": (
        {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": 2}}}]}},
        "nvidia.com/gpu",
    ),
    "grace period": ({"spec": {"terminationGracePeriodSeconds": 0}}, "terminationGracePeriodSeconds"),
    "deadline": ({"spec": {"activeDeadlineSeconds": 60}}, "activeDeadlineSeconds"),
    "our label": ({"metadata": {"labels": {"slm-operator.io/deployment": "x"}}}, "slm-operator.io/deployment"),
    "our annotation": ({"metadata": {"annotations": {"slm-operator.io/advice": "x"}}}, "slm-operator.io/advice"),
    "finalizers": ({"metadata": {"finalizers": ["x/y"]}}, "spec.podTemplate.metadata.finalizers"),
    "a slice of a sidecar": (
        {"spec": {"containers": [{"name": "side", "resources": {"limits": {"nvidia.com/gpu.shared": 1}}}]}},
        "containers[name=side].resources: nvidia.com/gpu.shared is set by the operator",
    ),
    "a slice of an init container": (
        {"spec": {"initContainers": [{"name": "warm", "resources": {"requests": {"nvidia.com/gpu": 1}}}]}},
        "initContainers[name=warm].resources: nvidia.com/gpu",
    ),
    "another runtime": (
        {"spec": {"initContainers": [{"name": "runtime", "image": "x"}]}},
        "give your container another",
    ),
    "another GPU": (
        {"spec": {"containers": [{"name": "side", "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}]}},
        "containers[name=side].env: NVIDIA_VISIBLE_DEVICES",
    ),
    "more of a GPU": (
        {"spec": {"containers": [{"name": "engine", "env": [{"name": "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"}]}]}},
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    ),
    "a directive": (
        {"spec": {"volumes": [{"name": "scratch", "$patch": "delete"}]}},
        "volumes[0]: $patch is a directive",
    ),
    "a directive about keys": (
        {"spec": {"$retainKeys": ["volumes"]}},
        "spec.podTemplate.spec: $retainKeys is a directive",
    ),
    "a directive about order": (
        {"spec": {"$setElementOrder/containers": []}},
        "$setElementOrder/containers is a directive",
    ),
    "a directive deep down": (
        {"spec": {"affinity": {"x": [{"$deleteFromPrimitiveList/y": []}]}}},
        "spec.affinity.x[0]: $delete",
    ),
    "a volume twice": (
        {"spec": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "hostPath": {"path": "/a"}}]}},
        "spec.podTemplate.spec.volumes has name a twice: keep one",
    ),
    "a variable twice": (
        {"spec": {"containers": [{"name": "engine", "env": [{"name": "A"}, {"name": "A"}]}]}},
        "spec.podTemplate.spec.containers[0].env has name A twice",
    ),
    "nameless container": ({"spec": {"containers": [{"image": "x"}]}}, "needs a name"),
    "spec is a word": ({"spec": "x"}, "not an object"),
    "metadata is a list": ({"metadata": [None]}, "spec.podTemplate.metadata is not an object"),
    "labels are a number": ({"metadata": {"labels": 1}}, "spec.podTemplate.metadata.labels is not an object"),
    "limits are a word": (
        {"spec": {"containers": [{"name": "engine", "resources": {"limits": "all"}}]}},
        "spec.podTemplate.spec.containers[0].resources.limits is not an object",
    ),
    "a variable is a word": (
        {"spec": {"containers": [{"name": "engine", "env": ["HOME"]}]}},
        "spec.podTemplate.spec.containers[0].env is not a list of objects",
    ),
    "a volume's name is a list": ({"spec": {"volumes": [{"name": []}]}}, "every item of spec.podTemplate.spec.volumes"),
    "containers removed": ({"spec": {"containers": None}}, "spec.podTemplate.spec.containers cannot be removed"),
    "another deployment's nodes": (
        {"spec": {"nodeSelector": {"slm-operator.io/serves": "team.other"}}},
        "spec.podTemplate.spec.nodeSelector: slm-operator.io/serves is the operator's",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_overlay_of_operators_own_fields_is_refused_by_name(case: str) -> None:
    overlay, words = REFUSED[case]
    assert any(words in sentence for sentence in refused_fields(overlay))


def test_items_of_one_key_that_differ_otherwise_are_taken() -> None:
    (ports, constraints) = (MERGES[f"one {name}"][1] for name in ("port, two protocols", "topology, two constraints"))
    assert refused_fields({"spec": constraints | {"containers": [{"name": "sidecar"} | ports]}}) == ()


def test_the_label_by_which_nodes_are_lent_is_not_deselected() -> None:
    overlay = {"spec": {"nodeSelector": {"node-restriction.kubernetes.io/slm": None, "zone": "a"}}}
    (said,) = refused_fields(overlay, "node-restriction.kubernetes.io/slm")
    assert said == "spec.podTemplate.spec.nodeSelector: node-restriction.kubernetes.io/slm is the operator's"
    assert refused_fields(overlay) == ()


USERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "nothing said": ({}, None),
    "the operator's own, said again": ({"securityContext": {"runAsUser": 2000}}, None),
    "other groups": ({"securityContext": {"runAsGroup": 7, "fsGroup": 7}}, None),
    "a sidecar's": ({"containers": [{"name": "side", "securityContext": {"runAsUser": 7}}]}, None),
    "another for the pod, the own for the engine": (
        {
            "securityContext": {"runAsUser": 7},
            "containers": [{"name": "engine", "securityContext": {"runAsUser": 2000}}],
        },
        None,
    ),
    "another": ({"securityContext": {"runAsUser": 7}}, "user 7,"),
    "root": ({"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}, "user 0,"),
    "another for the engine": ({"containers": [{"name": "engine", "securityContext": {"runAsUser": 7}}]}, "user 7,"),
    "the image's": ({"securityContext": {"runAsUser": None}}, "user whom the image names,"),
    "the image's, by no context at all": ({"securityContext": None}, "user whom the image names,"),
    "a word": ({"securityContext": "x"}, "user whom the image names,"),
}


def mounts(*paths: str) -> dict[str, Any]:
    found = [{"name": "own", "mountPath": path} for path in paths]
    return {"containers": [{"name": "engine", "volumeMounts": found}], "volumes": [{"name": "own", "emptyDir": {}}]}


SHARED_MEMORY: dict[str, tuple[dict[str, Any], str | None]] = {
    "elsewhere": (mounts("/models", "/dev/shmem", "/srv/dev/shm"), None),
    "below the daemon's": (mounts("/dev/shm/own"), None),
    "a sidecar's": ({"containers": [{"name": "side", "volumeMounts": [{"name": "a", "mountPath": "/dev/shm"}]}]}, None),
    "the habit": (mounts("/models", "/dev/shm"), "a volume of its own at /dev/shm, which hides"),
    "with a slash": (mounts("/dev/shm/"), "a volume of its own at /dev/shm/, which hides"),
    "another spelling": (mounts("//dev/./x/../shm"), "which hides"),
    "the folder above": (mounts("/dev"), "a volume of its own at /dev, which hides"),
    "removed again": ({"containers": [{"name": "engine", "volumeMounts": None}]}, None),
    "both": (
        mounts("/dev/shm") | {"securityContext": {"runAsUser": 7}},
        "leave the mount out, for MPS brings its own; spec.podTemplate",
    ),
}


@pytest.mark.parametrize("case", SHARED_MEMORY)
def test_mps_engines_have_the_daemons_shared_memory(case: str) -> None:
    spec, words = SHARED_MEMORY[case]
    assert refused_fields({"spec": spec}) == ()
    said = refused_under_mps({"spec": spec})
    assert said is None if words is None else words in (said or "")


@pytest.mark.parametrize("case", USERS)
def test_engines_that_share_by_mps_are_of_one_user(case: str) -> None:
    spec, words = USERS[case]
    said = refused_under_mps({"spec": spec})
    assert said is None if words is None else words in (said or "")


FIELD = Path(__file__).parents[2] / "data/field/pod-templates"


@pytest.mark.parametrize("name", ["shm-under-mps", "user-under-mps"])
def test_templates_of_the_field_that_mps_does_not_take(name: str) -> None:
    overlay = yaml.safe_load((FIELD / f"{name}.yaml").read_text())
    assert refused_fields(overlay) == ()
    assert refused_under_mps(overlay)


def test_a_sidecar_may_have_its_own_image() -> None:
    assert refused_fields({"spec": {"containers": [{"name": "sidecar", "image": "x"}]}}) == ()
