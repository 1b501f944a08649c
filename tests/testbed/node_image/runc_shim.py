"""An OCI runtime that asks for a little less, then becomes runc.

Where root itself lacks CAP_SYS_RESOURCE, runc cannot give that capability to a
privileged container, raise a limit, or lower an OOM score, and refuses to start.
dockerd calls this file instead of runc. It takes those requests out of the document
that runc is about to read and changes nothing else.

It runs with any Python 3.8 or newer and imports nothing but the standard library.
"""

import json
import os
import shutil
import sys
from pathlib import Path

CAPABILITY = "CAP_SYS_RESOURCE"


def relax(process: dict) -> None:
    """Drop from an OCI `process` object what a root without CAP_SYS_RESOURCE cannot grant."""
    for granted in process.get("capabilities", {}).values():
        if CAPABILITY in granted:
            granted.remove(CAPABILITY)
    if process.get("oomScoreAdj", 0) < 0:
        del process["oomScoreAdj"]
    process.pop("rlimits", None)


def rewrite(path: Path, key: "str | None") -> None:
    """Relax the process document at `path`, or the one under `key` in it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    relax(document[key] if key else document)
    path.write_text(json.dumps(document), encoding="utf-8")


def value_of(arguments: list, *flags: str) -> "str | None":
    """Give the value of the first of `flags` in `arguments`, written `--flag value` or `--flag=value`."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in flags:
            return value if equals else arguments[index + 1]
    return None


def main(arguments: list) -> None:
    """Rewrite what this call will read, and become runc."""
    if "create" in arguments:
        bundle = value_of(arguments, "--bundle", "-b") or "."
        rewrite(Path(bundle, "config.json"), "process")
    elif "exec" in arguments and (path := value_of(arguments, "--process", "-p")):
        rewrite(Path(path), None)
    runc = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/usr/bin")
    if runc is None:
        sys.exit("runc_shim: no runc on this machine; install Debian's package `runc`")
    os.execv(runc, ["runc", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
