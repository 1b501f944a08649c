"""The hard situations that a run may meet, and how often each was met: a simulation that claims one must show it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Situation(StrEnum):
    """What is counted, in the words of the table."""

    KILLED_IN_A_CHANGE = "operator killed while a node changes"
    KILLED_BETWEEN_WRITES = "operator killed between two writes of one pass"
    KILLED_UNANSWERED = "operator killed before its write arrived"
    CONFLICT = "write answered with a conflict"
    THROTTLED = "request answered with 429"
    UNAVAILABLE = "request answered with 503"
    ANSWER_LOST = "write done, its answer lost"
    NAME_TAKEN = "name still taken by the former owner's object"
    NAME_OF_ANOTHER = "name taken by somebody else's object"
    BLOCKED = "eviction blocked by a PodDisruptionBudget"
    HELD = "pass held until its own write is shown"
    SHOWN_FIRST = "own write shown before its answer came"
    NOT_SHOWN = "own write not shown in time, planned all the same"
    SIDE_BY_SIDE = "requests of several passes on their way at once"
    TWICE = "news that came twice"
    LISTED_ANEW = "watch cut, objects listed anew"
    VANISHED = "object gone while its watch was cut"
    CLOCK_SET_BACK = "operator's clock set back"
    STRANGER_IN_A_CHANGE = "somebody's pod on a node that changes"
    NODE_LOST_IN_A_CHANGE = "node lost while it changed"
    OPENED_BY_HAND = "taint taken off by hand while a node changed"
    OPTED_OUT_IN_A_CHANGE = "opt-in taken back while a node changed"
    KEYS_LOST = "ConfigMap replaced, our keys gone"
    GPU_UNHEALTHY = "GPU called unhealthy while its node changed"
    PLUGIN_KEPT_AWAY = "device plugin's pod gone from a closed node"
    UPGRADED_IN_A_CHANGE = "driver upgraded while its node changed"
    BASE_EDITED = "plugin's configuration edited by its owner under our keys"
    ROLLED_BACK = "change given up and rolled back"
    DAEMON_CRASHED = "MPS daemon crashed under replicas"
    REFUSED_BY_KUBELET = "replica refused by the kubelet"
    WAITED_FOR_PROFILE = "deployment that answered waited for a profile"
    WAITED_FOR_GPU = "profile waited for a GPU that its deployment serves on"
    EXTENDED = "profile extended for what another deployment asks"
    MEASUREMENT_LOST = "node lost under a measurement"
    ONE_PROFILE_FOR_TWO = "two deployments rested on one profile"
    PACK_SPLIT = "pack split over two GPUs"
    PART_PASSED_OVER = "part of a GPU was free, and passed over"
    PRODUCT_PASSED_OVER = "GPU of another product was free, and passed over"
    PRODUCT_CHOSEN = "product of a profile was one of several"
    DELETED_IN_A_CHANGE = "deployment deleted while its node changed"


def table(met: Mapping[Situation, int]) -> str:
    """How often each was met, one a line."""
    return "\n".join(f"{met.get(one, 0):>9,}  {one}" for one in Situation)
