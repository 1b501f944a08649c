"""A tenant who wants the others to get nothing: they get their fair share, and no protection is there for nothing."""

from unittest.mock import patch

import pytest
from slm_operator.planning.fleet import claims
from slm_operator.planning.fleet import plan as fleet
from slm_operator.planning.profile import measuring

from .attacker import WAYS, besieged
from .objects import BrokenPromiseError

PROTECTIONS: dict[str, tuple[object, str, object]] = {
    "a node is partitioned for pods that exist": (claims.Claims, "is_proven", lambda *_: True),
    "a drain that does not end gives its place up": (fleet, "_MAY_WAIT_FOR_EVER", frozenset({"ForeignPods"})),
    "a namespace has a share of nodes": (claims.Claims, "is_full", lambda *_: False),
    "a place is held by who has a GPU": (measuring, "gives_its_place_up", lambda *_: False),
}


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(3 * len(WAYS)), ids=[f"{way} {turn}" for turn in range(3) for way in WAYS])
def test_beside_an_attacker_a_modest_tenant_has_its_share(seed: int) -> None:
    besieged(seed)


def _besieged_in_all_ways() -> None:
    for seed in range(2 * len(WAYS)):
        besieged(seed)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_without_a_protection_somebody_is_kept_from_its_share(protection: str) -> None:
    where, name, instead = PROTECTIONS[protection]
    with patch.object(where, name, instead), pytest.raises(BrokenPromiseError):
        _besieged_in_all_ways()
