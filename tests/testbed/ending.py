"""How a program that made things on this machine ends: in order, whoever ends it."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

ENDINGS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit within the block, so that what was made is removed.

    Under pytest tests/conftest.py has asked for KeyboardInterrupt already, and this does nothing:
    pytest takes SystemExit for a test's failure.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # somebody sees to it already
        yield
        return
    former = {number: signal.getsignal(number) for number in ENDINGS}
    raise_when_ended(SystemExit)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def raise_when_ended(exception: type[BaseException]) -> None:
    """Raise the exception at the first SIGTERM or SIGHUP; later ones must not break the clean-up."""

    def leave(number: int, _frame: object) -> NoReturn:
        for ending in ENDINGS:
            signal.signal(ending, signal.SIG_IGN)
        raise exception(128 + number)

    for number in ENDINGS:
        signal.signal(number, leave)
