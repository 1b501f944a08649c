"""One engine has the whole GPU: the mode of every single engine, which packs are compared with."""

from slm_core.measurements import SharingMode
from slm_core.sharing.base import Sharing

EXCLUSIVE = Sharing(
    mode=SharingMode.EXCLUSIVE, word="exclusive", spellings=("none",), title="no sharing", allows_packs=False
)
