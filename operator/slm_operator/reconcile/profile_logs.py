"""Reads what profile pods print, as far as it is not known yet: one log at a time, and a bounded piece of it a pass.

What was read is kept for as long as the pod is the same, so that a log of any length is read to its end, and each of its
lines once; after a restart it is read from its start again. Must never be given a pod that our Job did not make.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slm_operator.kube.errors import ApiError
from slm_operator.manifests.engine import CONTAINER
from slm_operator.planning.profile.log import NOTHING_PRINTED, ProfileLog, read_log

if TYPE_CHECKING:
    from slm_operator.kube.client import Client
    from slm_operator.watch.records import Key, PodRecord

LOG_BYTES = 2 << 20
"""Most of a log that is read in one pass."""
MOST_FAILURES = 10
"""Errors in a row after which the log of a pod that is ending is given up. With the queue's pauses these are minutes."""
NOT_THERE = frozenset({400, 404})
"""Answers where the container has not started, or the pod is gone."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """How far the log of a pod has been read. `anew`: a second time from its start."""

    pod: str
    log: ProfileLog = NOTHING_PRINTED
    anew: bool = False
    failures: int = 0
    """Answers in a row that were errors."""


@dataclass(slots=True)
class ProfileLogs:
    """The logs of all profiles that are being measured."""

    client: Client
    _readings: dict[Key, _Reading] = field(default_factory=dict, init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def read(self, profile: Key, pod: PodRecord | None) -> ProfileLog:
        """All that this pod has printed, as far as it has been read. Raises the ApiErrors that may pass."""
        if pod is None:
            self.forget(profile)
            return NOTHING_PRINTED
        reading = self._readings.get(profile)
        if reading is None or reading.pod != pod.meta.uid:
            reading = _Reading(pod.meta.uid)
        async with self._one_at_a_time:
            try:
                reading = await self._more(reading, pod)
            except ApiError:
                reading = replace(reading, failures=reading.failures + 1)
                self._readings[profile] = reading
                if not _is_out_of_reach(pod, reading):
                    raise
                reading = replace(reading, log=replace(reading.log, is_cut=False))
        self._readings[profile] = reading
        return reading.log

    async def _more(self, reading: _Reading, pod: PodRecord) -> _Reading:
        # NB: lines are asked for by their time, so a node whose clock was set back hides some: an end without a result is
        # looked for once more from the start.
        log = await self._printed(pod.meta.key, reading.log)
        ended = pod.phase in {"Succeeded", "Failed"}
        if ended and not (log.has_ended or log.is_cut or reading.anew) and reading.log.until is not None:
            return _Reading(reading.pod, await self._printed(pod.meta.key, NOTHING_PRINTED), anew=True)
        return _Reading(reading.pod, log, reading.anew)

    async def _printed(self, pod: Key, before: ProfileLog) -> ProfileLog:
        try:
            text = await self.client.log(pod.namespace, pod.name, CONTAINER, since=before.until, most_bytes=LOG_BYTES)
        except ApiError as error:
            if error.status in NOT_THERE:
                return replace(before, is_cut=False)  # NB: else its profile would wait for the rest for ever
            raise
        return read_log(text, before, is_cut=len(text) >= LOG_BYTES)

    def forget(self, profile: Key) -> None:
        """Nothing more is to be read of it."""
        self._readings.pop(profile, None)


def _is_out_of_reach(pod: PodRecord, reading: _Reading) -> bool:
    """Whether the log of a pod that is ending, without success, is given up: its kubelet may be lost for good.

    NB: of a pod that succeeded the result is in the log, and it is worth any wait.
    """
    is_ending = pod.meta.deleting or pod.phase == "Failed"
    return is_ending and pod.phase != "Succeeded" and reading.failures >= MOST_FAILURES
