"""What users and the operator apply, as the API server keeps it: SLMDeployments, SLMProfiles, and what is made for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.api import names

from .objects import Raw, head, said

if TYPE_CHECKING:
    from slm_operator.watch.records import Cause, Key


@dataclass(slots=True)
class Made:
    """An object that the operator applied: its manifest, and which of its fields are still the operator's."""

    key: Key
    uid: str
    manifest: Raw
    generation: int = 1
    version: int = 0
    others: Raw = field(default_factory=dict)
    """What somebody else wrote of its spec since."""

    @property
    def owners(self) -> set[str]:
        """uids of whom it goes with."""
        return {one["uid"] for one in self.manifest["metadata"].get("ownerReferences") or ()}

    def raw(self) -> Raw:
        return {"metadata": self.meta(), "spec": self.manifest.get("spec") or {}}

    def meta(self) -> Raw:
        given = self.manifest["metadata"]
        spec = {f"f:{name}": {} for name in self.manifest.get("spec") or {} if name not in self.others}
        owned = {"manager": names.FIELD_MANAGER, "operation": "Apply", "time": "", "fieldsV1": {"f:spec": spec}}
        others = {f"f:{name}": {} for name in self.others}
        by_others = [owned | {"operation": "Update", "fieldsV1": {"f:spec": others}}] if others else []
        return head(
            self.key,
            self.uid,
            self.version,
            generation=self.generation,
            labels=given.get("labels") or {},
            annotations=given.get("annotations") or {},
            ownerReferences=given.get("ownerReferences") or [],
            managedFields=[owned, *by_others],
        )


@dataclass(slots=True)
class Job(Made):
    """A batch/v1 Job that measures a profile, with one pod of its name."""

    finished: bool = False
    failed_because: Cause | None = None
    created: str = ""
    question: str | None = None
    """What it measures more for; None where it is the first of its profile."""

    def raw(self) -> Raw:
        ended = [said("Complete", holds=True)] if self.finished else []
        if self.failed_because is not None:
            ended = [said("Failed", holds=True, reason=self.failed_because.reason)]
        return {
            "metadata": self.meta() | {"creationTimestamp": self.created},
            "status": {"active": int(not self.finished), "conditions": ended},
        }


@dataclass(slots=True)
class Workload(Made):
    """An apps/v1 Deployment."""

    replicas: int = 0
    observed: int = 0
    """Generation that its status speaks of, as the counts do."""
    counts: tuple[int, int, int] = (0, 0, 0)
    """Pods of its: all, those of the present template, those that are ready."""
    template: str = ""
    """What of it decides which pods are up to date."""
    requests: dict[str, int] = field(default_factory=dict)
    measured_on: str | None = None
    """The product that its profile was measured on."""

    @property
    def body(self) -> Raw:
        """Its pods' spec."""
        body: Raw = self.manifest["spec"]["template"]["spec"]
        return body

    @property
    def surge(self) -> int:
        """Of its strategy: 1 creates before it deletes, 0 deletes before it creates."""
        return int(self.manifest["spec"]["strategy"]["rollingUpdate"]["maxSurge"])

    def raw(self) -> Raw:
        existing, updated, ready = self.counts
        counted = {"replicas": existing, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready}
        return {
            "metadata": self.meta(),
            "spec": {"replicas": self.replicas},
            "status": {"observedGeneration": self.observed} | counted,
        }


@dataclass(slots=True)
class Deployment:
    """An SLMDeployment."""

    key: Key
    uid: str
    spec: Raw
    generation: int = 1
    own_replicas: int | None = None
    """The number in its spec that the operator applied, while no user has one there."""
    status: Raw = field(default_factory=dict)
    version: int = 0

    def raw(self) -> Raw:
        meta = head(self.key, self.uid, self.version, generation=self.generation)
        if self.own_replicas is None:
            return {"metadata": meta, "spec": self.spec, "status": self.status}
        owner = {"manager": names.REPLICAS_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        return {
            "metadata": meta | {"managedFields": [owner]},
            "spec": self.spec | {"replicas": self.own_replicas},
            "status": self.status,
        }


@dataclass(slots=True)
class Profile(Made):
    """An SLMProfile: what the operator applied, or a person."""

    status: Raw = field(default_factory=dict)
    created: str = ""

    @property
    def imported(self) -> bool:
        """Whether somebody measured it elsewhere."""
        return "measurements" in self.manifest["spec"]

    def raw(self) -> Raw:
        meta = self.meta() | {"creationTimestamp": self.created}
        return {"metadata": meta, "spec": self.manifest["spec"], "status": self.status}
