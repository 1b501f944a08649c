"""Makes the measurement document of a profile: while it runs, and when it ends.

Exists apart from the profile, which says when, because a document of several sessions is put together the same way at
every moment. Must never say that something is complete: that is for whoever ended it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slm_core.measurements import CPU, Cost, Engine, Gpu, MeasurementDocument, Model
from slm_core.search.chosen import load_of
from slm_core.search.steps import Measured

from slm_runtime import host
from slm_runtime.ledger import dtype_of, read_config

if TYPE_CHECKING:
    from slm_core.measurements import Workload
    from slm_core.search.steps import Findings, Request

    from slm_runtime.nvml import Device
    from slm_runtime.rig import EngineRig
    from slm_runtime.task import Task


def gpu_of(task: Task, device: Device | None) -> Gpu:
    """The device that is measured on."""
    return Gpu(
        product=task.gpu_product or (device.product if device else CPU),
        memory_bytes=device.memory_bytes if device else host.memory_bytes(),
        uuid=device.uuid if device else None,
        driver=device.driver if device else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """All that a document needs beside the findings."""

    task: Task
    request: Request
    rig: EngineRig
    gpu: Gpu
    former: MeasurementDocument | None = None
    """Of the sessions before, from which this one goes on."""

    def of(self, findings: Findings, incomplete_because: str | None) -> MeasurementDocument | None:
        """Everything that was measured, in this session and before; None before the first engine was ready.

        Where nothing was done, what stood there before, for the load that is asked now.
        """
        task, rig, former = self.task, self.rig, self.former
        workload = self._workload(findings)
        if workload is None or not findings.starts:
            return None
        complete = incomplete_because is None
        if former is not None and not rig.gpu_seconds():
            return replace(former, workload=workload, complete=complete, incomplete_because=incomplete_because)
        points = tuple(o.point for o in findings.session if isinstance(o, Measured))
        return MeasurementDocument(
            model=Model(
                uri=task.model_uri,
                revision=task.revision,
                dtype=task.dtype or dtype_of(read_config(task.subject.model)),
                max_model_len=findings.max_model_len,
            ),
            engine=Engine(
                name=rig.kind.name,
                version=findings.version,
                image=task.image,
                args=rig.args or (former.engine.args if former else ()),
            ),
            gpu=self.gpu,
            workload=workload,
            ledger=findings.ledger,
            points=(*(former.points if former else ()), *points),
            complete=complete,
            incomplete_because=incomplete_because,
            cost=self._cost(findings),
            measured_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            provenance=task.provenance,
        )

    def _workload(self, findings: Findings) -> Workload | None:
        """None before it is known."""
        load, rate = load_of(self.request, findings), self.request.requests_per_second
        if self.rig.lengths is not None and (self.former is None or findings.has_started):
            return self.rig.lengths.described(load, rate)
        if self.former is not None:
            return replace(self.former.workload, concurrency=load, requests_per_second=rate)
        return None

    def _cost(self, findings: Findings) -> Cost:
        """Of all sessions."""
        before = self.former.cost if self.former else None
        now = Cost(
            gpu_seconds=self.rig.gpu_seconds(),
            engine_starts=findings.engine_starts,
            startup_seconds=findings.startup_seconds,
            download_seconds=self.rig.download_seconds(),
        )
        if before is None:
            return now
        return Cost(
            gpu_seconds=before.gpu_seconds + now.gpu_seconds,
            engine_starts=before.engine_starts + now.engine_starts,
            startup_seconds=before.startup_seconds + now.startup_seconds,
            download_seconds=before.download_seconds + now.download_seconds,
        )
