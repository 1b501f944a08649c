"""How a command refuses: one sentence on stderr, exit code 2. Never a traceback for what a person can fix."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - it is what happened, said in one word where it is raised
    """Input that a command cannot work with. The message names the field and the remedy."""
