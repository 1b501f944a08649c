"""podTemplate merges like a strategic merge patch, and never over what the operator owns."""

from typing import Any

import pytest
from slm_operator.manifests.overlay import merge, refused_fields, refused_user

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
    "other lists replace": ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
}


@pytest.mark.parametrize("case", MERGES)
def test_merge(case: str) -> None:
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
def test_what_the_operator_owns_is_refused_by_name(case: str) -> None:
    overlay, words = REFUSED[case]
    assert any(words in sentence for sentence in refused_fields(overlay))


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


@pytest.mark.parametrize("case", USERS)
def test_engines_that_share_by_mps_are_of_one_user(case: str) -> None:
    spec, words = USERS[case]
    said = refused_user({"spec": spec})
    assert said is None if words is None else words in (said or "")


def test_a_sidecar_may_have_its_own_image() -> None:
    assert refused_fields({"spec": {"containers": [{"name": "sidecar", "image": "x"}]}}) == ()
