"""Where the runtime begins, under whatever Python an image has: what that lacks is said in a sentence, and no traceback.

It must be readable by a Python that is too old, and import nothing of ours before it has looked.
"""

from __future__ import annotations

import json
import sys

OLDEST_PYTHON = (3, 11)
CLASS, EXIT_STATUS = "EngineCommandUnusable", 12
"""NB: `Failure.COMMAND` and its status, in words, for the core cannot be imported here; a test holds them equal."""
WORD_TO = "--termination-message-file"


def main() -> int:
    """Run the command, or say what the image lacks. Returns the exit status."""
    lacks = lacking()
    if lacks is None:
        from slm_runtime.cli import main as run  # noqa: PLC0415 - needs what was looked for

        return run()
    return refuse(sys.argv[1:], lacks)


def lacking() -> str | None:
    """What this Python lacks; None: nothing."""
    if sys.version_info < OLDEST_PYTHON:
        return "Python {}.{} or newer".format(*OLDEST_PYTHON)
    try:
        import aiohttp  # noqa: F401, PLC0415
    except ImportError as error:
        return f"aiohttp ({error})"
    return None


def refuse(words: list[str], lacks: str) -> int:
    """Say it to whoever started this command: a pack's kubelet, a profile's operator, or a person."""
    message = "{}, Python {}.{} of the engine's image, lacks {}".format(sys.executable, *sys.version_info[:2], lacks)
    remedy = (
        "add it to spec.engine.image (pip install aiohttp), or use the engine's own image, which has both. Advice that is "
        "imported and spec.sharing.partitioning NodeSlices need neither"
    )
    said = {"message": message, "remedy": remedy}
    if words[:1] == ["profile"]:
        sys.stdout.write(json.dumps({"event": "failed", "class": CLASS, **said, "exitStatus": EXIT_STATUS}) + "\n")
    sys.stderr.write(f"{message}\n  -> {remedy}\n")
    if WORD_TO in words:
        _leave(words[words.index(WORD_TO) + 1], said)
    return EXIT_STATUS


def _leave(path: str, said: dict[str, str]) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"reason": CLASS, **said}, file)
    except OSError as error:
        sys.stderr.write(f"{path}: {error}\n")
