"""Everything worth asking of a machine with a GPU and vLLM 0.26 or newer, in some minutes, without a network or Kubernetes.

    python benchmarks/gpu.py [--minutes 10] [--resume DIR] [-- ENGINE WORD...]

`gpu.md` beside this file says how to come by a machine that can run it, and what to do with the results. Nothing of ours
is installed there: this file says where it lies, and `gpu_stages/__main__.py` takes the words.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    # The environment, since stages are processes of their own and find our packages in the same way.
    places = [*map(str, (ROOT, ROOT / "core", ROOT / "runtime")), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.gpu_stages", *sys.argv[1:]])  # noqa: S606 - this Python
