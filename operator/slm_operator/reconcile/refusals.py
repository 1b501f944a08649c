"""What the API server did not take of a plan, in words and by kind: for the log, and for the next view.

Must never decide what follows from a refusal: planning does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from slm_operator.api import names
from slm_operator.kube.errors import Unserved
from slm_operator.planning import actions
from slm_operator.planning.views import Refusal
from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from slm_operator.kube.errors import ApiError


def refusal_of(action: actions.Action, error: ApiError) -> Refusal:
    """The refusal of an action."""
    match action:
        case actions.Apply():
            kind = action.manifest["kind"]
        case actions.SetReplicas():
            kind = names.DEPLOYMENT_KIND
        case _:
            kind = ""
    because = f"{subject(action)}: {error.message}"
    return Refusal(kind=kind, because=because, unserved=isinstance(error, Unserved))


def subject(action: actions.Action) -> str:
    """An action in a few words, for logs and refusals."""
    match action:
        case actions.Apply():
            meta = action.manifest["metadata"]
            return f"Apply {action.manifest['kind']} {Key(meta.get('namespace', ''), meta['name'])}"
        case actions.SetReplicas():
            return f"SetReplicas {action.deployment}"
        case actions.ScaleWorkload():
            return f"Scale Deployment {action.workload}"
        case actions.Delete() | actions.WriteStatus() | actions.EmitEvent():
            return f"{type(action).__name__} {action.kind} {action.key}"
        case actions.Evict():
            return f"Evict Pod {action.pod}"
        case actions.PatchNode():
            return f"PatchNode {action.node}"
        case actions.PatchConfig():
            return f"PatchConfig {action.config_map}"
        case _:
            assert_never(action)
