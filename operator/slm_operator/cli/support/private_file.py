"""Files that a command writes for its user alone: what a cluster says may be nobody else's business on this machine.

Must never write over a file that is there unless asked to, nor widen who may read it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from slm_operator.cli.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

ONLY_ITS_OWNER = 0o600


def write(path: Path, data: bytes, *, force: bool) -> None:
    """A new file, or with `force` one in place of another; a pipe or a device is written to as it is. Raises Refused."""
    replaces = force or (path.exists() and not path.is_file())
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replaces else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, ONLY_ITS_OWNER), "wb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                os.fchmod(file.fileno(), ONLY_ITS_OWNER)
            file.write(data)
    except FileExistsError:
        raise Refused(f"-o {path}: there is such a file: give another name, or --force to replace it") from None
    except OSError as error:
        raise Refused(f"-o {path}: {error.strerror or error}: give a file that can be written") from None
