"""Ctrl-C, SIGTERM and SIGHUP: one way to end, through every clean-up."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def end_like_interrupted() -> Iterator[None]:
    """End on Ctrl-C, SIGTERM and SIGHUP alike: through every clean-up, which a second signal does not cut short."""
    signals = [signal.SIGINT, signal.SIGTERM]
    signals += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []

    def stop(*_: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # What was started to ignore a signal, as by nohup, goes on ignoring it.
    heard = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    except KeyboardInterrupt:
        raise  # what is to come is our end: further signals stay ignored
    except BaseException:
        _restore(before)
        raise
    else:
        _restore(before)


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
