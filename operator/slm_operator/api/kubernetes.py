"""Parts of a pod that a spec takes as Kubernetes has them, with full schemas, so that a misspelt field is refused.

Source: Kubernetes, staging/src/k8s.io/api/core/v1/types.go (Toleration, EnvVarSource and its selectors), and what
pkg/apis/core/validation asks of them. Left out: toleration operators and sources of values behind feature gates (Lt and
Gt; fileKeyRef). A podTemplate takes those. Must never have a field or a value that Kubernetes does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from slm_operator.api import names
from slm_operator.api.base import SUBDOMAIN, Form, ObjectName, Part, cel, validations

if TYPE_CHECKING:
    from collections.abc import Mapping

_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABELLED = "letters, digits, '-', '_' and '.', 63 at most, with a letter or digit at both ends"
LabelKey = Annotated[
    str,
    Field(max_length=317),
    Form(rf"({SUBDOMAIN}/)?{_PART}", f"a key is {_LABELLED}; a domain and '/' may stand before it"),
]
LabelValue = Annotated[str, Field(max_length=63), Form(rf"({_PART})?", f"a value is {_LABELLED}, or empty")]

TOLERATES_CHANGES = (
    f"it tolerates {names.CHANGING_TAINT}, by which a node is closed while its GPUs are repartitioned: give the toleration the "
    "key of the taint that is meant, nvidia.com/gpu for instance"
)


def tolerates_changes(toleration: Mapping[str, object]) -> bool:
    """Whether a pod with it would come back to a node that it must leave, and hold up the change for ever."""
    key, effect = (toleration.get(name) or "" for name in ("key", "effect"))
    of_it = key == names.CHANGING_TAINT or (key == "" and toleration.get("operator") == "Exists")
    return of_it and effect in {"", "NoSchedule"}


class Toleration(Part):
    """A taint that a pod puts up with."""

    model_config = validations(
        cel(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without key is of every taint, and needs operator: Exists; or give it the key of a taint",
        ),
        cel(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists is of every value: remove value, or use operator: Equal",
        ),
        cel(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds says when a pod is evicted, which only effect: NoExecute does: add it, or remove tolerationSeconds",
        ),
        cel(
            f"!(has(self.key) ? self.key == '{names.CHANGING_TAINT}' : has(self.operator) && self.operator == 'Exists') || "
            "(has(self.effect) && self.effect != 'NoSchedule')",
            TOLERATES_CHANGES,
        ),
    )
    key: LabelKey | None = None
    """Key of the taint. Default: every key, with operator Exists."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists: whatever the taint's value. Equal, the default: of this value."""
    value: LabelValue | None = None
    """Value of the taint. Default: the empty one."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: every effect."""
    toleration_seconds: int | None = None
    """How long a pod stays after a taint of effect NoExecute came. Default: for ever."""


def lets_nodes_change(toleration: Toleration) -> Toleration:
    """The toleration, unless a pod with it would come back to a node that is being repartitioned."""
    if tolerates_changes(toleration.given()):
        raise PydanticCustomError("toleration", "{message}", {"message": TOLERATES_CHANGES})
    return toleration


AllowedToleration = Annotated[Toleration, AfterValidator(lets_nodes_change)]


def _selects_no_marks(selector: dict[str, str]) -> dict[str, str]:
    ours = [key for key in selector if key.startswith(f"{names.GROUP}/")]
    if ours:
        raise PydanticCustomError("marks", "{message}", {"message": f"{ours[0]}: {OUR_MARKS}"})
    return selector


OUR_MARKS = "labels of the operator's are its own way to tell a pod its node: select by a label of yours"
NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_selects_no_marks)]
SELECTS_NO_MARKS = cel(
    f"!has(self.nodeSelector) || self.nodeSelector.all(k, !k.startsWith('{names.GROUP}/'))", OUR_MARKS
)

DataKey = Annotated[str, Field(max_length=253), Form(r"[-._A-Za-z0-9]+", "a key is letters, digits, '-', '_' and '.'")]
Quantity = Annotated[
    int | Annotated[str, Field(max_length=64)], WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 64})
]


class KeySelector(Part):
    """A key of a Secret or ConfigMap in this namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: DataKey
    """The key in it."""
    optional: bool | None = None
    """Whether the engine starts without it. Default: it waits until both are there."""


_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip


class FieldSelector(Part):
    """A field of the pod."""

    model_config = validations(
        cel(
            f"self.fieldPath in {list(_FIELDS)} || "
            "self.fieldPath.startsWith('metadata.labels[') || self.fieldPath.startsWith('metadata.annotations[')",
            f"a variable may show {', '.join(_FIELDS)}, metadata.labels['KEY'] and metadata.annotations['KEY']",
        ),
    )
    api_version: Literal["v1"] | None = None
    """Version of the pod's schema that fieldPath is of. Default: v1."""
    field_path: Annotated[str, Field(max_length=512)]
    """Path of the field: metadata.name, status.podIP, metadata.labels['KEY']."""


class ResourceSelector(Part):
    """A request or limit of a container."""

    container_name: Annotated[str, Field(max_length=63)] | None = None
    """Name of the container. Default: the engine's."""
    resource: Annotated[
        str,
        Field(max_length=253),
        Form(
            r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)",
            "a variable may show limits.cpu, limits.memory, limits.ephemeral-storage, and the same of requests",
        ),
    ]
    """Which: limits.cpu, requests.memory."""
    divisor: Quantity | None = None
    """Unit in which it is shown. Default: 1."""


_SOURCES = ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef")


class EnvVarSource(Part):
    """Where the value of a variable comes from, as in a container."""

    model_config = validations(
        cel(
            " + ".join(f"(has(self.{one}) ? 1 : 0)" for one in _SOURCES) + " == 1",
            f"give exactly one of {', '.join(_SOURCES)}",
        ),
    )
    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""
    field_ref: FieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceSelector | None = None
    """A request or limit of a container."""
