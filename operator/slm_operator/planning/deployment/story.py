"""How far one pass over a deployment has come: what it found step by step, and what it will do.

Exists so that the steps (`plan`) and what is said of them (`status`) share one value. Must never decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition

if TYPE_CHECKING:
    from slm_operator.advisor.advice import Advice
    from slm_operator.manifests.served import Served
    from slm_operator.planning.actions import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How far this pass has come."""

    findings: tuple[Finding, ...] = ()
    actions: tuple[Action, ...] = ()
    advice: Advice | None = None
    served: Served | None = None
    """What goes on meanwhile, where this spec cannot be followed now."""

    def and_then(self, finding: Finding, *actions: Action, advice: Advice | None = None) -> Story:
        """The story with one more step."""
        return replace(
            self,
            findings=(*self.findings, finding),
            actions=(*self.actions, *actions),
            advice=advice if advice is not None else self.advice,
        )

    @property
    def ready(self) -> Finding | None:
        """Ready, where it is not for the first obstacle to say: Unknown while one is awaited and what is served answers."""
        blocking = self.blocking
        answers = any(finding.type is Condition.AVAILABLE and finding.holds for finding in self.findings)
        if self.served is None or not answers or blocking is None or blocking.stalls:
            return None
        return Finding(type=Condition.READY, holds=None, reason=blocking.reason, message=blocking.message)

    @property
    def holds(self) -> bool:
        """Whether nothing stands in the way so far."""
        return all(finding.holds for finding in self.findings)

    @property
    def blocking(self) -> Finding | None:
        """The first finding that does not hold: what the deployment waits for."""
        return next((finding for finding in self.findings if not finding.holds), None)
