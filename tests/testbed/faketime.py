"""libfaketime, Debian's: a process that has it preloaded sees another wall clock than its machine."""

import os
import shutil
import subprocess
from pathlib import Path


def faketime_library() -> Path:
    """The library, installed where it is not and may be; FileNotFoundError says what is missing."""
    found = _found()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qqy", "--no-install-recommends", "libfaketime"], check=True)
        found = _found()
    if found is None:
        raise FileNotFoundError("libfaketimeMT.so.1 is not installed: `apt-get install libfaketime`")
    return found


def _found() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
