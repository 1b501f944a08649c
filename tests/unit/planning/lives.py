"""A profile's life from look to look: what one look writes, the next one sees, and nothing else. So each look may be that of
an operator that has only just started."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse_document
from slm_operator.api.profile import SLMProfileSpec, SLMProfileStatus
from slm_operator.planning.actions import Apply, Delete, Plan, WriteStatus
from slm_operator.planning.profile.log import NOTHING_PRINTED, ProfileLog
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import Asked, ProfileView
from slm_operator.watch.records import Cause, JobRecord, PodRecord, ProfileRecord

from tests import builders as build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.measurements import MeasurementDocument
    from slm_operator.settings import Settings


def _profile() -> ProfileRecord:
    return build.profile(build.deployment())


def _read(record: ProfileRecord, status: Mapping[str, Any]) -> ProfileRecord:
    """As the watch reads it: documents parsed."""
    found = {name: parse_document(status[name]) for name in ("measurements", "partial") if name in status}
    return replace(
        record,
        status=dict(status) | found,
        measurements=found.get("measurements"),
        partial=found.get("partial"),
    )


@dataclass
class Life:
    """One profile, its Job and pod, as Kubernetes would show them."""

    profile: ProfileRecord = field(default_factory=_profile)
    job: JobRecord | None = None
    pod: PodRecord | None = None
    log: ProfileLog = NOTHING_PRINTED
    now: datetime = build.NOW
    settings: Settings = build.SETTINGS
    begun: int = 0
    """Jobs that were made."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """The last of them."""
    used: bool = True
    asked: tuple[Asked, ...] = ()
    is_deleted: bool = False

    def look(self) -> Plan:
        """One pass, and what it does."""
        seen = ProfileView(
            profile=self.profile, job=self.job, pod=self.pod, log=self.log, used=self.used, asked=self.asked
        )
        plan = plan_profile(seen, self.settings, self.now)
        for action in plan.actions:
            match action:
                case Apply(manifest=manifest):
                    self._makes(manifest)
                case Delete(kind="SLMProfile"):
                    self.is_deleted = True
                case Delete(uid=uid):
                    assert self.job is not None
                    assert uid == self.job.meta.uid
                    self.job, self.pod, self.log = None, None, NOTHING_PRINTED
                case WriteStatus(status=status):
                    SLMProfileStatus.model_validate(status, extra="forbid")
                    self.profile = _read(self.profile, status)
        return plan

    def _makes(self, manifest: dict[str, Any]) -> None:
        self.begun += 1
        self.manifest = manifest
        made = build.job(self.profile, created=self.now.isoformat())
        noted = manifest["metadata"]["annotations"]
        request, retry = noted["slm-operator.io/request"], noted.get("slm-operator.io/retry")
        meta = replace(made.meta, uid=f"job-{self.begun}")
        self.job = replace(made, meta=meta, request=request, retry=retry, template=noted["slm-operator.io/template"])
        self.pod = build.measuring(self.job, f"pod-{self.begun}", node=None, phase="Pending", unscheduled_because="0/1")

    def until_it_rests(self) -> None:
        """Looks, until one changes nothing."""
        for _ in range(20):
            before = (self.profile, self.job)
            self.look()
            if (self.profile, self.job) == before:
                return
        raise AssertionError(f"it never rests: {self.status}")

    def later(self, **span: float) -> Life:
        """Time passes."""
        self.now += timedelta(**span)
        return self

    def gets_a_gpu(self, **more: Any) -> None:
        assert self.pod is not None
        found = {"node": "gpu-1", "phase": "Running", "unscheduled_because": None}
        self.pod = replace(self.pod, **(found | more))

    def prints(self, **said: Any) -> None:
        self.log = replace(self.log, **said)

    def ends(self, **more: Any) -> None:
        """Its pod fails, and so does its Job."""
        assert self.job is not None
        self.job = replace(self.job, finished=True, failed=1, active=0, failed_because=Cause("BackoffLimitExceeded"))
        self.pod = replace(self.pod, phase="Failed", **more) if self.pod is not None else None

    def succeeds(self, document: MeasurementDocument, gpu_seconds: float) -> None:
        """It gets its GPU, measures, and its pod and Job end well."""
        self.gets_a_gpu()
        self.prints(document=document, gpu_seconds=gpu_seconds)
        assert self.job is not None
        assert self.pod is not None
        self.job = replace(self.job, finished=True, succeeded=1, active=0)
        self.pod = replace(self.pod, phase="Succeeded")
        self.until_it_rests()

    def changes(self, **spec: Any) -> None:
        """A person edits spec."""
        assert self.profile.spec is not None
        made = SLMProfileSpec.model_validate(self.profile.spec.given() | spec)
        self.profile = replace(self.profile, spec=made)

    def is_annotated(self, retry: str | None) -> None:
        self.profile = replace(self.profile, retry=retry)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.profile.status)

    @property
    def tries(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status.get("tries", {})
        return found

    @property
    def says(self) -> tuple[str, str, str]:
        """Phase, reason and message."""
        (said,) = (one for one in self.status["conditions"] if one["type"] == "Profiled")
        return self.status["phase"], said["reason"], said["message"]

    @property
    def is_stalled(self) -> bool:
        return any(one["type"] == "Stalled" for one in self.status["conditions"])


def waiting() -> Life:
    life = Life()
    life.look()
    life.look()
    return life


def preempted(life: Life, seconds: float = 60.0) -> Life:
    """It gets its GPU, measures for so long, and loses it to a pod of higher priority."""
    life.gets_a_gpu()
    life.prints(doing="B = 8", gpu_seconds=seconds)
    life.look()
    life.ends(disrupted_because=Cause("PreemptionByScheduler"), failed_because=Cause("Failed"))
    life.until_it_rests()
    return life


def out_of_memory() -> Life:
    """The model's own doing: no further try by itself."""
    life = waiting()
    life.gets_a_gpu()
    life.prints(doing="B = 8", gpu_seconds=60.0)
    life.look()
    life.ends(failed_because=Cause("Failed"), terminated=Cause("OOMKilled", exit_code=137))
    life.until_it_rests()
    assert life.says[:2] == ("Failed", "ProfileFailed")
    return life


def measured(life: Life) -> None:
    life.gets_a_gpu()
    life.prints(document=build.imported())
    life.until_it_rests()
    assert life.says[0] == "Complete"
