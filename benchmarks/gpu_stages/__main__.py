"""The command of `benchmarks/gpu.py`.

Stages in order of worth (`table.py`); each has its result in DIR, one JSON, before the next begins. With --resume, what is
complete in DIR stays, and the rest is measured; without it DIR is a new folder below .work/gpu. The words after `--` are
the engine's command (default: this Python's vLLM).

Exit status: 0 when every stage is complete, 1 when one is not, 2 for a wrong command line, 128 + n after a signal.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu_stages.conductor import MachineError, conduct

ROOT = Path(__file__).resolve().parents[2]
ENGINE = (sys.executable, "-m", "vllm.entrypoints.cli.main", "serve")


def main() -> int:
    """The command."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        prog="gpu.py",
        description=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="all is over by then (default: %(default)s)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="where results are, or shall be")
    given = parser.parse_args(words[:at])
    folder = given.resume or ROOT / ".work" / "gpu" / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    try:
        status = conduct(given.minutes, folder, words[at + 1 :] or ENGINE)
    except MachineError as error:
        parser.error(str(error))
    print(f"results: {folder}" if status == 0 else f"to go on: python benchmarks/gpu.py --resume {folder}")
    return status


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
