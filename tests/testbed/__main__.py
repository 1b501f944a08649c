"""A kind cluster to play with: `python -m tests.testbed up` leaves it running, `down` removes it.

`sweep` removes what killed runs of tests have left, and nothing else.
"""

import argparse
import sys

from . import kind
from .cluster import KubectlError
from .control_plane import clean_leftovers
from .docker_engine import DockerError
from .gotools import BuildError


def main() -> int:
    """Do what the command line says; an expected failure is one message, no traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("what", choices=("up", "down", "sweep"))
    try:
        match parser.parse_args().what:
            case "up":
                print(f"export KUBECONFIG={kind.up().kubeconfig}")
            case "down":
                kind.down()
            case _:
                clean_leftovers()
                kind.sweep()
    except (kind.KindError, DockerError, KubectlError, BuildError) as error:
        print(f"[testbed] {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
