"""What status says after an internal error of the operator while it reconciled one object.

A bug must neither stop the other objects nor stay in a log that the object's owner cannot read. What runs is left as it
is, and so is all of status that was true before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.conditions import Finding, conditions
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.planning.status.write import write_status

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.planning.actions import WriteStatus
    from slm_operator.watch.records import DeploymentRecord

REASON = Reason.OPERATOR_BUG
LONGEST = 512
_SUMMARIES = {Condition.READY, Condition.RECONCILING, Condition.STALLED}


def status_of_internal_error(record: DeploymentRecord, error: Exception, now: datetime) -> WriteStatus:
    """The former status with Ready False and Stalled True, because of this error."""
    cause = f"{type(error).__name__}: {error}"[:LONGEST]
    message = f"internal error while reconciling ({cause}); running pods are unaffected. Please report it"
    former = record.status.get("conditions") or ()
    finding = Finding(type=Condition.READY, holds=False, reason=REASON, message=message, stalls=True)
    ready, stalled, _ = conditions((finding,), former, record.meta.generation, now)
    kept = [one for one in former if one.get("type") not in _SUMMARIES]
    status = {
        **record.status,
        "observedGeneration": record.meta.generation,
        "phase": "Stalled",
        "conditions": [ready, stalled, *kept],
    }
    return write_status(names.DEPLOYMENT_KIND, record.meta, status, message)
