"""Engines take turns on the GPU. Nothing holds one to its share of the memory: the ledger is the only guard."""

from slm_core.measurements import SharingMode
from slm_core.sharing.base import Sharing

TIME_SLICING = Sharing(
    mode=SharingMode.TIME_SLICING,
    word="time-slicing",
    spellings=("timeslicing",),
    title="time slicing",
    qualifier="time-sliced",
)
