"""By what cached records are found, and the profile key of each deployment and profile, computed once a generation.

Whoever gathers a view and whoever maps an event to keys look up the same way. Must never hold a record of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.manifests.metadata import label_value
from slm_operator.manifests.profile import profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.manifests.question import question_of
from slm_operator.planning.deployment.kept import kept_defaults, resolved
from slm_operator.watch.cache import Cache
from slm_operator.watch.watch_list import OURS, Caches

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from slm_operator.defaults import Defaults
    from slm_operator.manifests.question import Question
    from slm_operator.settings import Settings
    from slm_operator.watch.records import DeploymentRecord, NodeRecord, ProfileRecord

SHARING = "sharing"
"""Index of deployments that name no profile: (namespace, profile key)."""
KEYED = "keyed"
"""Index of the same deployments by their profile key alone: whom a library's profile may serve."""
NAMED = "named"
"""Index of deployments: (namespace, name of the SLMProfile they name)."""
LABEL = "label"
"""Index of deployments and profiles: (namespace, their name as a label value)."""
SERVING = "serving"
"""Index of nodes: for whom they are partitioned, as their serves label has it."""
UNMEASURED = "unmeasured"
"""Index of profiles: True while they have no measurements, or are extended."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a deployment needs to have measured: computed once a generation, for it takes a validation."""

    generation: int
    defaults: tuple[object, ...]
    key: str
    question: Question


class ProfileKeys:
    """Profile key of each deployment and profile, and what each deployment asks of its profile."""

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._asked: dict[str, _Asked] = {}

    def of(self, record: DeploymentRecord) -> str | None:
        """The key; None for a deployment whose spec cannot be read."""
        known = self._known(record)
        return known.key if known is not None else None

    def question_of(self, record: DeploymentRecord) -> Question | None:
        """What it asks; None where spec cannot be read."""
        known = self._known(record)
        return known.question if known is not None else None

    def forget(self, uid: str) -> None:
        """The deployment is gone."""
        self._asked.pop(uid, None)

    def _known(self, record: DeploymentRecord) -> _Asked | None:
        """NB: a record of the watch has no defaults, and is found by those that its status names, or by those of now."""
        if record.spec is None:
            return None
        generation, defaults = record.meta.generation, self._of_a_measurement(record)
        known = self._asked.get(record.meta.uid)
        if known is None or (known.generation, known.defaults) != (generation, defaults):
            spec = resolved(record, None, self._defaults).spec
            assert spec is not None
            asked = _Asked(generation, defaults, profile_key(profile_spec(spec)), question_of(spec))
            known = self._asked[record.meta.uid] = asked
        return known

    def _of_a_measurement(self, record: DeploymentRecord) -> tuple[object, ...]:
        kept = record.defaults or kept_defaults(record, None, self._defaults)
        return kept.values.engine_image, kept.values.resources


def key_of(record: ProfileRecord) -> str | None:
    """The key of a profile, of its spec alone; None where that cannot be read."""
    return profile_key(record.spec) if record.spec is not None else None


def caches_for_planning(keys: ProfileKeys, settings: Settings) -> Caches:
    """Caches with the indexes that gathering and routing need."""

    def sharing(record: DeploymentRecord) -> Iterable[Hashable]:
        key = None if named_profile(record) else keys.of(record)
        return ((record.meta.key.namespace, key),) if key is not None else ()

    def keyed(record: DeploymentRecord) -> Iterable[Hashable]:
        key = None if named_profile(record) else keys.of(record)
        return (key,) if key is not None else ()

    def named(record: DeploymentRecord) -> Iterable[Hashable]:
        name = named_profile(record)
        return ((record.meta.key.namespace, name),) if name is not None else ()

    def label(record: DeploymentRecord | ProfileRecord) -> Iterable[Hashable]:
        return ((record.meta.key.namespace, label_value(record.meta.key.name)),)

    def measured(record: ProfileRecord) -> Iterable[Hashable]:
        key = key_of(record)
        return ((record.meta.key.namespace, key),) if key is not None else ()

    return Caches(
        deployments=Cache(names.DEPLOYMENT_KIND, {SHARING: sharing, KEYED: keyed, NAMED: named, LABEL: label}),
        profiles=Cache(
            names.PROFILE_KIND,
            {
                OURS: measured,
                LABEL: label,
                UNMEASURED: lambda record: (
                    (True,) if record.measurements is None or record.status.get("extension") else ()
                ),
            },
        ),
        nodes=Cache(
            "Node",
            {
                OURS: lambda record: (True,) if is_our_node(record, settings) else (),
                SERVING: lambda record: filter(None, (record.meta.labels.get(names.SERVES_LABEL),)),
            },
        ),
    )


def named_profile(record: DeploymentRecord) -> str | None:
    """The profile that its spec names."""
    return record.spec.profiling.profile_name if record.spec is not None else None


def is_our_node(node: NodeRecord, settings: Settings) -> bool:
    """Whether a node is opted in, or still carries our marks."""
    marks = (settings.nodes.opt_in_label, names.CLASS_LABEL, names.SERVES_LABEL)
    return (
        any(mark in node.meta.labels for mark in marks)
        or bool(node.meta.annotations)
        or any(taint.key == names.CHANGING_TAINT for taint in node.taints)
    )
