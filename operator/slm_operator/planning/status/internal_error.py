"""What status says when the operator itself failed over one object.

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


def status_of_bug(record: DeploymentRecord, error: Exception, now: datetime) -> WriteStatus:
    """The former status with Ready False and Stalled True, because of this error."""
    told = f"{type(error).__name__}: {error}"[:LONGEST]
    message = (
        f"the operator failed over this object by a bug of its own ({told}): what runs is left as it is. Report it"
    )
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
