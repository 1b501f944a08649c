"""Packs in pods in simulated clusters: every promise is kept, and one that is not is found."""

from __future__ import annotations

import gc

import pytest
from slm_operator.planning.deployment import packs

from .objects import BrokenPromiseError
from .packs import run_packs

SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_packs_keep_their_promises(seed: int) -> None:
    run_packs(seed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pack_that_ends_unannounced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "_is_announced", lambda _view: True)
    with pytest.raises(BrokenPromiseError, match="nobody was told"):
        _run_all()
    gc.collect()  # a run that breaks off leaves passes half done, and they are to complain here


def _run_all() -> None:
    for seed in SEEDS:
        run_packs(seed)
