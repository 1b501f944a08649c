"""How a program that made things on this machine ends: in order, whoever ends it."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit within the block, so that what was made is removed.

    Under pytest tests/conftest.py has a handler already: pytest takes SystemExit for a test's failure.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # somebody sees to it already
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
