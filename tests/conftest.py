"""For every test: started in the background or by nohup, we ignore signals, and so would all that tests start."""

from __future__ import annotations

import signal

for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
