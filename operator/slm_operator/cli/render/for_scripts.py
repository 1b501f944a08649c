"""An answer for scripts, as every command writes it: one JSON object on standard output, indented, in the reader's own signs.

Imports nothing: `advise -o json` starts cold.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def print_json(answer: dict[str, Any]) -> None:
    """Write it."""
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
