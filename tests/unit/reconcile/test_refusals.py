"""What the API server refuses again and again is asked for later and later, whatever it accepts in between."""

from collections.abc import Callable
from itertools import count, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.kube.errors import ApiError, Forbidden, Refused
from slm_operator.planning.actions import Plan
from slm_operator.planning.status.write import write_status
from slm_operator.reconcile.queue import LONGEST_BACKOFF_SECONDS, WorkKey
from slm_operator.watch.records import Key

from tests.unit.reconcile.test_loop import SPEC, Operator

MOST_PASSES = 3000
"""Where a run that never pauses is given up."""
PROFILE, DEPLOYMENT = WorkKey("profile", Key("team", "p")), WorkKey("deployment", Key("team", "d0"))


def taking_turns(kind: str, said: Callable[[Any], bool]) -> Callable[..., Plan]:
    """A planner whose status the server refuses, until it hears of that: then one that is taken, and new each time."""

    plans = count()

    def plan(view: Any, *_: Any) -> Plan:
        record = view.profile if kind == names.PROFILE_KIND else view.deployment
        status = {"phase": "Pending" if said(view) else "Unheard-of", "observedGeneration": next(plans)}
        return Plan(actions=(write_status(kind, record.meta, status, "it is taken"),))

    return plan


def operator_for(work: WorkKey, error: ApiError) -> Operator:
    """An operator over one object, on a server that refuses the one status."""
    profiles = taking_turns(names.PROFILE_KIND, lambda view: view.refused_because is not None)
    deployments = taking_turns(names.DEPLOYMENT_KIND, lambda view: view.refusal is not None)

    def nothing(*_: Any) -> Plan:
        return Plan()

    made = Operator(
        1,
        plan_profile=profiles if work.kind == "profile" else nothing,
        plan_deployment=deployments if work.kind == "deployment" else nothing,
        plan_fleet=lambda *_: SimpleNamespace(assignments={}, plan=Plan()),
    )
    made.see("SLMProfile", "p", {"model": SPEC["model"]})
    accept = made.bench.server.apply_status

    async def apply_status(manifest: Any) -> Any:
        if manifest["status"]["phase"] == "Unheard-of":
            raise error
        answer = await accept(manifest)
        made.bench.show(manifest["kind"], manifest["metadata"]["name"])  # the watch may be faster than the answer
        return answer

    made.bench.server.apply_status = apply_status  # type: ignore[method-assign]
    return made


async def tries(operator: Operator, of: WorkKey, seconds: float) -> list[float]:
    """When the status was tried that is refused, within so much virtual time; each write is seen at once."""
    clock, tried = operator.bench.clock, []
    for _ in range(MOST_PASSES):
        work = operator.queue.take()
        if work is None:
            due = operator.queue.next_due()
            if due is None or due > seconds:
                return tried
            clock.seconds = due
            continue
        asked, refusal = len(operator.bench.server.asked), operator.loop.gatherer.refusals.get(of)
        await operator.loop.one_pass(work)
        operator._show(asked)
        if work == of and refusal is None and operator.loop.gatherer.refusals.get(of) is not None:
            tried.append(clock.seconds)
    raise AssertionError(f"no pause in {MOST_PASSES} passes of {clock.seconds:.0f} s")


@pytest.mark.parametrize("error", [Refused("Invalid value", 422), Forbidden("no right", 403)], ids=["422", "403"])
@pytest.mark.parametrize("work", [PROFILE, DEPLOYMENT], ids=["profile", "deployment"])
async def test_repeated_refusal_is_backed_off(work: WorkKey, error: ApiError) -> None:
    operator = operator_for(work, error)
    tried = await tries(operator, work, 3600)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert len([at for at in tried if at < 60]) < 10
    assert pauses[:8] == sorted(pauses[:8])
    assert pauses[-1] == LONGEST_BACKOFF_SECONDS
    assert len(tried) < 45


async def test_first_refusal_is_reported_and_retried_at_once() -> None:
    operator = operator_for(PROFILE, Refused("Invalid value", 422))
    assert (await tries(operator, PROFILE, 0.4))[:2] == [0.0, 0.0]


async def test_a_refusal_long_after_another_is_a_first_one_again() -> None:
    operator = operator_for(PROFILE, Refused("Invalid value", 422))
    await tries(operator, PROFILE, 60)
    operator.bench.clock.seconds += 1000
    operator.loop.gatherer.refusals.pop(PROFILE, None)
    assert operator.loop._returns(PROFILE) == 0


async def test_refusal_of_a_gone_object_is_forgotten() -> None:
    operator = operator_for(PROFILE, Refused("Invalid value", 422))
    await tries(operator, PROFILE, 60)
    assert PROFILE in operator.loop._refusals
    operator.bench.world.see("SLMProfile", "DELETED", operator.bench.server.objects["SLMProfile", "p"])
    await tries(operator, PROFILE, 200)
    assert PROFILE not in operator.loop._refusals
