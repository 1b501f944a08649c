"""Bugs put into the loop on purpose: queue, pending writes, executor and watch with one promise forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.kube.client import Client
from slm_operator.kube.errors import ApiError
from slm_operator.planning.actions import Plan
from slm_operator.reconcile import event_mapping, execute
from slm_operator.reconcile.execute import Executor
from slm_operator.reconcile.loop import Reconciler
from slm_operator.reconcile.pending_writes import Ledger
from slm_operator.reconcile.queue import KeyedQueue
from slm_operator.watch.cache import Cache
from slm_operator.watch.world import World

if TYPE_CHECKING:
    from slm_operator.reconcile.execute import Outcome
    from slm_operator.reconcile.queue import WorkKey

_done, _merge_patch, _execute, _wrote = KeyedQueue.done, Client.merge_patch, Executor.execute, Executor._wrote


def _fails_for_good(queue: KeyedQueue, key: WorkKey, _at_least: float = 0.0) -> float:
    """A pass that failed does not come again."""
    queue._active.discard(key)
    return 0.0


def _drops_what_came_meanwhile(queue: KeyedQueue, key: WorkKey) -> None:
    """What was added during a pass is forgotten with it."""
    queue._active.discard(key)
    queue._again.discard(key)


def _never_looks_again(queue: KeyedQueue, key: WorkKey, _seconds: float | None = None) -> None:
    _done(queue, key)


async def _patches_whatever_is_there(client: Client, resource: Any, namespace: str, name: str, patch: Any) -> Any:
    """Without the version that was planned for."""
    metadata = {field: value for field, value in patch["metadata"].items() if field != "resourceVersion"}
    return await _merge_patch(client, resource, namespace, name, patch | {"metadata": metadata})


async def _goes_on_after_an_error(executor: Executor, work: WorkKey, plan: Plan) -> Outcome:
    """What could not be done is left out, and the rest of the plan carried out."""
    outcome = None
    for action in plan.actions:
        try:
            one = await _execute(executor, work, Plan(actions=(action,)))
        except ApiError:
            continue
        outcome = outcome or one
    return outcome or await _execute(executor, work, Plan())


def _awaits_no_status(executor: Executor, work: WorkKey, ref: Any, answer: Any, *, echo: bool = False) -> None:
    if not echo:
        _wrote(executor, work, ref, answer)


LOOP: dict[str, tuple[object, str, object]] = {
    "plans before its writes are shown": (Ledger, "unconfirmed", lambda *_: None),
    "awaits no status": (Executor, "_wrote", _awaits_no_status),
    "loses a retry": (KeyedQueue, "failed", _fails_for_good),
    "drops what came during its pass": (KeyedQueue, "_finish", _drops_what_came_meanwhile),
    "never looks again": (KeyedQueue, "done", _never_looks_again),
    "wakes nobody for another assignment": (Reconciler, "_assignment_changed", lambda *_: None),
    "wakes no owner": (event_mapping, "_owners", lambda *_: ()),
    "patches whatever version is there": (Client, "merge_patch", _patches_whatever_is_there),
    "goes on after an error": (Executor, "execute", _goes_on_after_an_error),
    "takes over what is not its own": (execute, "_is_of_owners", lambda *_: True),
    "believes in what a list does not have": (World, "_drop", lambda *_: None),
    "lets go of nothing": (Cache, "drop", lambda *_: None),
}
"""Functions of the real loop, and what stands in for them.

NB: taking a conflict for success is none of them: whoever wrote is heard of, and that wakes the same pass.
"""
