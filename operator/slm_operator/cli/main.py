"""`kubectl slm`: dispatch, and the one place where an error becomes a sentence and an exit code.

Exists thin: a command's module is imported only when it runs, so that `advise` answers from a cold start in well under
a second. Exit codes: 0 done, 1 the answer is no, 2 the question cannot be worked with. Never a traceback for what a
person can fix.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from slm_operator.cli.arguments import parser
from slm_operator.cli.errors import Refused
from slm_operator.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; argparse's own errors exit with 2."""
    arguments = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # NB: a stream of ASCII or Latin-1 takes no arrow, nor most names
        sys.stdout.reconfigure(errors="backslashreplace")
    from slm_core.codec import DocumentError  # noqa: PLC0415 - `--help` reads no document

    try:
        code: int = import_module(f"slm_operator.cli.commands.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except (Refused, DocumentError) as error:
        for sentence in str(error).splitlines():
            print(f"kubectl slm {arguments.command}: {visible(sentence)}", file=sys.stderr)  # noqa: T201
        return REFUSED
    except RecursionError:
        print(f"kubectl slm {arguments.command}: what it was given to read is nested too deeply", file=sys.stderr)  # noqa: T201
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
