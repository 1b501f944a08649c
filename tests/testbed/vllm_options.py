"""All options of vLLM's server, from its own parser: test data that is made anew when the pinned engine changes.

    python -m tests.testbed.vllm_options > tests/data/vllm/options.json

Prints the version, and for each option its names and how many values it takes (argparse's `nargs`; 0: a switch).
"""

import json
import os
import subprocess
import sys

from .engine_cpu import CPU_ENV, python

ASKED = """
import json, sys
from vllm import __version__
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
options = [{"names": one.option_strings, "values": one.nargs} for one in parser._actions if one.option_strings]
json.dump({"version": __version__, "options": options}, sys.stdout)
"""


def options() -> dict[str, object]:
    """What the pinned vLLM says of itself. Raises CalledProcessError when it says nothing."""
    done = subprocess.run(
        [str(python()), "-c", ASKED], env=os.environ | CPU_ENV, stdout=subprocess.PIPE, text=True, check=True
    )
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


if __name__ == "__main__":
    said = options()
    lines = ",\n".join(f"    {json.dumps(one)}" for one in said["options"])  # type: ignore[attr-defined]
    sys.stdout.write(f'{{\n  "version": {json.dumps(said["version"])},\n  "options": [\n{lines}\n  ]\n}}\n')
