"""libfaketime, Debian's: a process that has it preloaded sees another wall clock than its machine."""

from pathlib import Path

from .debian import install, may_install


def faketime_library() -> Path:
    """The library, installed where it is not and may be; FileNotFoundError says what is missing."""
    found = _found()
    if found is None and may_install():
        install("libfaketime")
        found = _found()
    if found is None:
        raise FileNotFoundError("libfaketimeMT.so.1 is not installed: `apt-get install libfaketime`")
    return found


def _found() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
