"""Caches to views: one view a pass, everything it may consider and nothing else.

What is expensive and pure is remembered by what it depends on: advice and demand of a deployment by its generation and
the profile's version. Must never write.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode
from slm_core.sharing import asked_mode

from slm_operator.api import names
from slm_operator.manifests.metadata import child_name, job_name, label_value, serves_value
from slm_operator.manifests.profile import profile_name
from slm_operator.manifests.served import read_served
from slm_operator.partitioning.base import ANYBODY, class_of_label
from slm_operator.partitioning.config_manager import against_mps
from slm_operator.planning.deployment.kept import resolved
from slm_operator.planning.deployment.replaced import replaced_name
from slm_operator.planning.fleet.claims import NOTHING_REMEMBERED
from slm_operator.planning.fleet.demand import may_run_in_packs
from slm_operator.planning.profile.resting import newest
from slm_operator.planning.profile.tries import is_made_here, is_to_be_measured
from slm_operator.planning.profile.turns import ALONE
from slm_operator.planning.views import DeploymentView, FleetView, ProfileView
from slm_operator.reconcile.indexes import SERVING, UNMEASURED
from slm_operator.reconcile.queue import WorkKey
from slm_operator.reconcile.turns import Turns
from slm_operator.reconcile.users import Users
from slm_operator.watch.records import Key
from slm_operator.watch.watch_list import CONTROLLER, GPU, MANAGED, OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_operator.advisor.advice import Advice
    from slm_operator.manifests.served import Served
    from slm_operator.planning.deployment.advising import Unadvisable
    from slm_operator.planning.fleet.claims import Memory
    from slm_operator.planning.profile.turns import Turn
    from slm_operator.planning.views import Assignment, Demand, Refusal
    from slm_operator.reconcile.indexes import ProfileKeys
    from slm_operator.settings import Settings
    from slm_operator.slo.monitor import Verdict
    from slm_operator.watch.records import (
        ConfigMapRecord,
        DeploymentRecord,
        JobRecord,
        PodRecord,
        ProfileRecord,
        WorkloadRecord,
    )
    from slm_operator.watch.watch_list import Caches

    Advised = Advice | Unadvisable | None

log = logging.getLogger(__name__)

ADVICE_KEPT = 128
"""Most deployments whose advice is remembered: of a thousand it would be a hundred megabytes, with every candidate and why."""


@dataclass(slots=True, kw_only=True)
class Gatherer:
    """Makes views. `assignments`, `refusals` and `verdicts` are what the loop and the SLO monitor found."""

    caches: Caches
    keys: ProfileKeys
    settings: Settings
    advice_of: Callable[[DeploymentRecord, ProfileRecord | None, str | None], Advised]
    demand_of: Callable[[DeploymentRecord, ProfileRecord | None, Advised, Served | None], Demand | None]
    assignments: dict[Key, Assignment] = field(default_factory=dict)
    refusals: dict[WorkKey, Refusal] = field(default_factory=dict)
    verdicts: dict[Key, Verdict] = field(default_factory=dict)
    serving: dict[Key, dict[str, int]] = field(default_factory=dict)
    """Engines that serve, by the uid of their pack's pod, as its metrics had it last."""
    memory: Memory = NOTHING_REMEMBERED
    """What the fleet's last plan left to the next."""
    bugs: dict[Key, Exception] = field(default_factory=dict)
    """What was raised when the demand of a deployment was computed."""
    _demands: dict[Key, tuple[tuple[object, ...], Demand | None]] = field(default_factory=dict, init=False)
    _advice: dict[Key, tuple[tuple[object, ...], Advised]] = field(default_factory=dict, init=False)
    """In order of use."""
    _resolved: dict[Key, tuple[DeploymentRecord, str | None, DeploymentRecord]] = field(
        default_factory=dict, init=False
    )
    _turns: Turns = field(init=False)
    users: Users = field(init=False)

    def __post_init__(self) -> None:
        self._turns = Turns(self._job)
        self.users = Users(caches=self.caches, keys=self.keys, profile_of=self.profile_of, resolved=self.resolved)

    def deployment(self, record: DeploymentRecord) -> DeploymentView:
        """The view of an SLMDeployment."""
        record, key = self.resolved(record), record.meta.key
        workload, pods = self.replicas(record)
        profile = self.profile_of(record)
        return DeploymentView(
            deployment=record,
            profile=profile,
            replaced=self._replaced(record, profile),
            namesake=self._namesake(record) if profile is None else None,
            advice=self.advice(record),
            assignment=self.assignments.get(key),
            workload=workload,
            pods=pods,
            cordoned=self._cordoned(pods),
            serving=self.serving.get(key, {}),
            slo_verdict=self.verdicts.get(key),
            refusal=self.refusals.get(WorkKey("deployment", key)),
        )

    def resolved(self, record: DeploymentRecord) -> DeploymentRecord:
        """A deployment with the defaults that it has, in its spec too: each record of the watch once."""
        if record.defaults is not None:
            return record
        workload = self._workload(record)
        served = workload.served if workload is not None else None
        known = self._resolved.get(record.meta.key)
        if known is None or known[0] is not record or known[1] != served:
            found = resolved(record, workload, self.settings.defaults)
            known = self._resolved[record.meta.key] = (record, served, found)
        return known[2]

    def _cordoned(self, pods: Iterable[PodRecord]) -> frozenset[str]:
        nodes = (self.caches.nodes.get(Key("", pod.node)) for pod in pods if pod.node is not None)
        return frozenset(node.meta.key.name for node in nodes if node is not None and node.unschedulable)

    def replicas(self, record: DeploymentRecord) -> tuple[WorkloadRecord | None, tuple[PodRecord, ...]]:
        """The Deployment that serves an SLMDeployment, and its pods."""
        workload = self._workload(record)
        return workload, self._replicas(record.meta.key, workload) if workload is not None else ()

    def profile(self, work: WorkKey) -> ProfileView | None:
        """The view of an SLMProfile, as far as the watch shows it; None when it is gone."""
        record = self.caches.profiles.get(work.key)
        if record is None:
            self._turns.forget(work.key)
            return None
        job, refusal = self._job(record), self.refusals.get(work)
        pod = self._measuring(job) if job is not None else None
        begins = job is None and is_to_be_measured(record)
        waits = begins or (job is not None and not job.finished and (pod is None or pod.node is None))
        given = self.assignments.values() if begins else ()
        return ProfileView(
            profile=record,
            job=job,
            pod=pod,
            turn=self._turn(record) if waits and not (begins and self._is_idle(record)) else ALONE,
            nodes=self.caches.nodes.by(OURS, True) if waits else (),
            gpu_pods=self.caches.pods.by(GPU, True) if waits else (),
            config_map=self._plugin_config() if waits else None,
            daemons=tuple(self.caches.daemons) if waits else (),
            about_to_change=frozenset(name for answer in given for name in answer.changing),
            refused_because=refusal.because if refusal is not None else None,
            paused=begins and self.users.all_paused(record),
            used=self.users.any(record),
            asked=self.users.asked(record) if record.status.get("phase") == "Complete" else (),
        )

    def fleet(self) -> FleetView:
        """The view of all nodes and demands."""
        living = {
            record.meta.key: self.demand(record) for record in self.caches.deployments if not record.meta.deleting
        }
        named = (node.meta.labels.get(self.settings.device_plugin.config_label) for node in self.caches.nodes)
        pods = self.caches.pods.by(GPU, True)
        homes = {pod.node for pod in pods if pod.node is not None}
        return FleetView(
            demands=tuple(sorted((one for one in living.values() if one is not None), key=lambda one: one.deployment)),
            undecided=frozenset(key for key, one in living.items() if one is None),
            keys_in_use=frozenset(key for key in named if key is not None),
            nodes=self.caches.nodes.by(OURS, True),
            memory=self.memory,
            pods=pods,
            lost_nodes=frozenset(name for name in homes if self.caches.nodes.get(Key("", name)) is None),
            config_map=self._plugin_config(),
            daemons=tuple(sorted(self.caches.daemons, key=lambda one: one.meta.key)),
        )

    def _plugin_config(self) -> ConfigMapRecord | None:
        plugin = self.settings.device_plugin
        return self.caches.config_maps.get(Key(plugin.namespace, plugin.config_map))

    def demand(self, record: DeploymentRecord) -> Demand | None:
        """What a deployment wants, computed again only when it or its profile changed."""
        record = self.resolved(record)
        profile, workload = self.profile_of(record), self._workload(record)
        served = workload.served if workload is not None else None
        depends_on = (record.meta.deleting, served, self.against_mps(record), *_versions(record, profile))
        known = self._demands.get(record.meta.key)
        if known is None or known[0] != depends_on:
            known = self._demands[record.meta.key] = (depends_on, self._computed_demand(record, profile, served))
        return known[1]

    def advice(self, record: DeploymentRecord) -> Advised:
        """The advice for a deployment as it and its profile stand: one object for all who ask, while it is remembered."""
        record = self.resolved(record)
        profile = self.profile_of(record)
        # NB: by its value: a profile that is extended is written every few seconds, and a thousand may rest on it.
        document = profile.measurements if profile is not None else None
        against = self.against_mps(record)
        depends_on = (*_versions(record, None), document, against)
        known = self._advice.pop(record.meta.key, None)
        if known is None or known[0] != depends_on:
            known = (depends_on, self.advice_of(record, profile, against))
        self._advice[record.meta.key] = known
        if len(self._advice) > ADVICE_KEPT:
            del self._advice[next(iter(self._advice))]
        return known[1]

    def against_mps(self, record: DeploymentRecord) -> str | None:
        """Why a deployment that leaves the mode to the advice is given no MPS; None where it may be.

        A pack in a pod has a daemon of its own, so this is for engines that run in slices, or must.
        NB: what has a node under MPS already stays, whatever is seen: a DaemonSet whose pods are replaced shows none for a moment.
        """
        if record.spec is None or asked_mode(record.spec.sharing.mode) is not None:
            return None
        because = against_mps(self.caches.daemons.values(MANAGED))
        return None if because is None or self._has_mps(record) or self._may_run_in_packs(record) else because

    def _may_run_in_packs(self, record: DeploymentRecord) -> bool:
        workload = self._workload(record)
        return record.spec is not None and may_run_in_packs(record.spec, _read_served(workload))

    def _has_mps(self, record: DeploymentRecord) -> bool:
        """Whether its replicas were made for MPS, and a node is partitioned so for them."""
        workload = self._workload(record)
        if workload is None or not _is_made_for_mps(workload.served):
            return False
        labels = (
            node.meta.labels.get(names.CLASS_LABEL)
            for serves in (serves_value(record.meta.key), ANYBODY)
            for node in self.caches.nodes.by(SERVING, serves)
        )
        return any(found is not None and found.mode is SharingMode.MPS for found in map(class_of_label, labels))

    def _computed_demand(
        self, record: DeploymentRecord, profile: ProfileRecord | None, served: str | None
    ) -> Demand | None:
        """NB: the fleet is planned for all deployments at once, so a bug over one must end here: its nodes stay."""
        self.bugs.pop(record.meta.key, None)
        try:
            return self.demand_of(record, profile, self.advice(record), read_served(served))
        except Exception as error:
            log.exception("no demand", extra={"object": f"deployment {record.meta.key}", "because": "a bug"})
            self.bugs[record.meta.key] = error.with_traceback(None)
            return None

    def last_demand(self, key: Key) -> Demand | None:
        """The demand as it was when last computed."""
        known = self._demands.get(key)
        return known[1] if known is not None else None

    def profile_of(self, record: DeploymentRecord) -> ProfileRecord | None:
        """The profile that its spec names, else the one with its key: measured in its namespace, else in a library, else not yet."""
        if record.spec is None:
            return None
        namespace, key = record.meta.key.namespace, self.keys.of(self.resolved(record))
        if record.spec.profiling.profile_name is not None:
            return self.caches.profiles.get(Key(namespace, record.spec.profiling.profile_name))
        own = self._newest(namespace, key)
        if own is not None and own.measurements is not None:
            return own
        libraries = (self._newest(library, key) for library in self.settings.profiles.library_namespaces)
        return next((found for found in libraries if found is not None and found.measurements is not None), own)

    def _replaced(self, record: DeploymentRecord, profile: ProfileRecord | None) -> ProfileRecord | None:
        """The profile that was advised from before this one."""
        name = replaced_name(record.status, profile.meta.key.name) if profile is not None else None
        if name is None:
            return None
        where = (record.meta.key.namespace, *self.settings.profiles.library_namespaces)
        found = (self.caches.profiles.get(Key(namespace, name)) for namespace in where)
        return next((one for one in found if one is not None), None)

    def _namesake(self, record: DeploymentRecord) -> ProfileRecord | None:
        """A profile in the place of the one that a deployment without any would make: somebody has edited it."""
        if record.spec is None or record.spec.profiling.profile_name is not None:
            return None
        found = self.caches.profiles.get(Key(record.meta.key.namespace, profile_name(record.spec)))
        return found if found is not None and not found.meta.deleting else None

    def _newest(self, namespace: str, key: str | None) -> ProfileRecord | None:
        """The profile with a key that was measured last."""
        found = self.caches.profiles.by(OURS, (namespace, key))
        return max(sorted(found, key=lambda one: one.meta.key), key=newest, default=None)

    def log_to_read(self, profile: Key) -> PodRecord | None:
        """The pod whose log tells more of this profile than is known; None when nothing more will come."""
        record = self.caches.profiles.get(profile)
        job = self._job(record) if record is not None and is_to_be_measured(record) else None
        pod = self._measuring(job) if job is not None else None
        if job is None or pod is None:
            return None
        # NB: news of a Job may be newer than news of its pod.
        return pod if job.finished or pod.phase in {"Running", "Succeeded", "Failed"} else None

    def forget(self, key: Key, uid: str) -> None:
        """A deployment is gone."""
        self._demands.pop(key, None)
        self._advice.pop(key, None)
        self._resolved.pop(key, None)
        self.assignments.pop(key, None)
        self.verdicts.pop(key, None)
        self.serving.pop(key, None)
        self.bugs.pop(key, None)
        self.keys.forget(uid)

    def _workload(self, record: DeploymentRecord) -> WorkloadRecord | None:
        """The Deployment of an SLMDeployment: of its name and with it as controller, whatever labels others bear."""
        found = self.caches.workloads.get(Key(record.meta.key.namespace, child_name(record.meta.key)))
        return found if found is not None and found.meta.is_controlled_by(record.meta.uid) else None

    def _replicas(self, deployment: Key, workload: WorkloadRecord) -> tuple[PodRecord, ...]:
        """Its pods, of every ReplicaSet. NB: those are not watched; a Deployment names them after itself and their template."""
        labelled = self.caches.pods.by(OURS, (deployment.namespace, label_value(deployment.name)))
        return tuple(pod for pod in labelled if _maker(pod) == f"{workload.meta.key.name}-{_template_hash(pod)}")

    def _job(self, profile: ProfileRecord) -> JobRecord | None:
        """The Job that measures a profile: of its name and with it as controller."""
        found = self.caches.jobs.get(Key(profile.meta.key.namespace, job_name(profile)))
        return found if found is not None and found.meta.is_controlled_by(profile.meta.uid) else None

    def _measuring(self, job: JobRecord) -> PodRecord | None:
        """The newest pod of a Job."""
        pods = self.caches.pods.by(CONTROLLER, job.meta.uid)
        return max(pods, key=lambda pod: (pod.phase not in {"Succeeded", "Failed"}, pod.meta.key), default=None)

    def _turn(self, profile: ProfileRecord) -> Turn:
        unmeasured = self.caches.profiles.by(UNMEASURED, True)
        seeking = (one for one in unmeasured if one is profile or not self._is_idle(one))
        return self._turns.of(profile, seeking, self.settings)

    def _is_idle(self, profile: ProfileRecord) -> bool:
        """Whether nothing is to begin for it: its deployments are paused, or gone."""
        return self.users.all_paused(profile) or (is_made_here(profile) and not self.users.any(profile))


def _versions(record: DeploymentRecord, profile: ProfileRecord | None) -> tuple[object, ...]:
    """Another spec or another profile, and these are others.

    NB: whoever applies the number that is there owns it from then on, and generation stays: so does the spec as it is read.
    """
    version = (profile.meta.uid, profile.meta.resource_version) if profile is not None else None
    return record.meta.uid, record.meta.generation, record.own_replicas, record.defaults, version


def _read_served(workload: WorkloadRecord | None) -> Served | None:
    return read_served(workload.served) if workload is not None else None


@lru_cache(maxsize=1024)  # asked of every deployment whenever the fleet is planned, and it is read from JSON
def _is_made_for_mps(served: str | None) -> bool:
    read = read_served(served)
    return read is not None and read.configuration.sharing_mode == SharingMode.MPS


def _maker(pod: PodRecord) -> str:
    return pod.meta.controller.name if pod.meta.controller is not None else ""


def _template_hash(pod: PodRecord) -> str:
    return pod.meta.labels.get("pod-template-hash", "")
