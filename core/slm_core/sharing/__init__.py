"""Ways of sharing a GPU. A new one is a value of `SharingMode`, a file here, and a row of `MODES`."""

from slm_core.measurements import SharingMode
from slm_core.sharing.base import Sharing
from slm_core.sharing.exclusive import EXCLUSIVE
from slm_core.sharing.mps import MPS
from slm_core.sharing.time_slicing import TIME_SLICING

MODES: tuple[Sharing, ...] = (MPS, TIME_SLICING, EXCLUSIVE)
"""Every mode, the one to try first at the head."""
PACKED = tuple(one for one in MODES if one.allows_packs)
"""Those in which several engines may share a GPU. MPS never lost to time slicing."""
AUTO = "Auto"
"""The user's word for whichever was measured best."""
CHOICES: tuple[str, ...] = (AUTO, *(str(one.mode) for one in MODES))
"""Sharing modes that a user may request, as the API spells them."""

_BY_MODE = {one.mode: one for one in MODES}
_BY_WORD = {word: one for one in MODES for word in (one.word, *one.spellings)}


def sharing_of(mode: SharingMode) -> Sharing:
    """The row of a mode."""
    return _BY_MODE[mode]


def by_word(word: str) -> Sharing | None:
    """The mode that a command line, a table or a label names; None for a word that is none."""
    return _BY_WORD.get(word)


def asked_mode(choice: str) -> SharingMode | None:
    """The mode of one of CHOICES; None: whichever was measured best."""
    return None if choice == AUTO else SharingMode(choice)


def word_of(choice: str) -> str:
    """One of CHOICES as the profiler's command line has it."""
    asked = asked_mode(choice)
    return AUTO.lower() if asked is None else sharing_of(asked).word


def allows_packs(asked: SharingMode | None) -> bool:
    """Whether a user who requests this mode (None: whichever was measured best) may be given several engines a GPU."""
    return asked is None or sharing_of(asked).allows_packs
