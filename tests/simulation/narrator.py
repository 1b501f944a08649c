"""Who tells what the operator did and why, in a person's words, and hears when it says that it met a bug.

Both are read off its own log: a write that was done is logged with its reason, a bug is logged as an error.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from slm_operator.planning.actions import (
    Action,
    Apply,
    Delete,
    EmitEvent,
    Evict,
    PatchConfig,
    PatchNode,
    Plan,
    ScaleWorkload,
    SetReplicas,
    WriteStatus,
)
from slm_operator.reconcile.refusals import subject

from .objects import CONFIG_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slm_operator.reconcile.loop import Planners

    from .world import World

LOG = logging.getLogger("slm_operator")


@dataclass(slots=True)
class Narrator:
    """Of one process."""

    world: World
    planned: dict[str, Action] = field(default_factory=dict)
    """The last action of each subject that was planned."""

    def told(self, planners: Planners) -> Planners:
        """The same planners, whose plans are remembered where somebody listens."""
        if not self.world.narrated:
            return planners
        self.world.narrates = self.done
        return replace(
            planners,
            plan_deployment=self._remembered(planners.plan_deployment),
            plan_profile=self._remembered(planners.plan_profile),
            plan_fleet=self._remembered(planners.plan_fleet),
        )

    def _remembered(self, planner: Callable[..., Any]) -> Callable[..., Any]:
        def plan(*about: Any) -> Any:
            decided = planner(*about)
            actions = (decided if isinstance(decided, Plan) else decided.plan).actions
            self.planned |= {subject(action): action for action in actions}
            return decided

        return plan

    def done(self, what: str) -> None:
        """It says that it did something."""
        line = _line(self.planned[what])
        if line:
            self.world.tell("operator", line)


class _Heard(logging.Handler):
    """What an operator logs. An error of it ends the run."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            told = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self._world.loop.breaks(AssertionError(f"{record.getMessage()}: {told}"))
        elif record.msg == "done" and self._world.narrates is not None:
            self._world.narrates(record.action)  # type: ignore[attr-defined]


@contextmanager
def heard(world: World) -> Iterator[None]:
    """Listen to the operator's log, and keep it from everybody else."""
    handler, before = _Heard(world), (LOG.level, LOG.propagate)
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO if world.narrated else logging.ERROR)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(before[0])
        LOG.propagate = before[1]


def _line(action: Action) -> str:
    match action:
        case PatchNode(node=node, because=because):
            return f"{_node_change(action)} {node}: {because}"
        case PatchConfig(add=add, remove=remove, because=because):
            keys = [f" +{key}" for key in add] + [f" -{key}" for key in remove]
            return f"configuration{''.join(keys)}: {because}"
        case Evict(pod=pod, because=because):
            return f"evicts {pod}: {because}"
        case Apply(manifest=manifest, because=because):
            return f"applies {manifest['kind']}: {because}"
        case (
            SetReplicas(deployment=key, replicas=replicas, because=because)
            | ScaleWorkload(workload=key, replicas=replicas, because=because)
        ):
            return f"scales {key} to {replicas}: {because}"
        case Delete(key=key, because=because):
            return f"deletes {key}: {because}"
        case WriteStatus() | EmitEvent():
            return ""


def _node_change(action: PatchNode) -> str:
    if CONFIG_LABEL in action.labels:
        return "switches"
    if action.taints is None:
        return "marks"
    return "closes" if any(taint.key.startswith("slm-operator.io/") for taint in action.taints) else "opens"
