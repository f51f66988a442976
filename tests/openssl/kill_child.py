"""Run `enable` or `disable` and be killed at the n-th thing that it does to the file system; see test_enable_kill.

Arguments: the verb, the environment's folder, n (0: never), a file for the number of things that were done, and
maybe the LD_LIBRARY_PATH that makes its Python native, which is then required to be post-quantum.
An audit hook counts: it is told of each before it happens, and kills the process then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from pqtls.openssl.enable import Request, disable, enable
from pqtls.openssl.venv import find_venv
from tests.openssl.venv_tools import ENVIRONMENT, required

CHANGES = frozenset(
    {
        *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime", "os.link", "os.symlink"),
        *("os.truncate", "shutil.rmtree", "subprocess.Popen", "fcntl.flock"),
    }
)


def main() -> None:
    verb, root, limit, report = sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3]), Path(sys.argv[4])
    environment = dict(ENVIRONMENT)
    request = Request()
    if sys.argv[5:]:
        environment["LD_LIBRARY_PATH"], request = sys.argv[5], required()
    venv = find_venv(root, environment)
    done = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or (is_write and str(arguments[0]).startswith(str(root))):
            done += 1
            if done == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    if verb == "enable":
        enable(venv, request, environment)
    else:
        disable(root)
    count, done = done, -(10**9)
    report.write_text(str(count))


if __name__ == "__main__":
    main()
