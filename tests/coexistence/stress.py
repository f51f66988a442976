"""Runs in an environment under test: threads that make HTTPS requests without pause, and forks in mid-flight.

Its argument is JSON: "port", "ca", "threads", "requests" of each thread, "children" (started in mid-flight, by turns by
os.fork and by subprocess), "child_requests" of each child, "makes_contexts" (a fork makes contexts of its own, too),
"imports" (modules that are loaded first). It prints JSON: requests that were answered here, errors, how each child
ended, and how many requests were under way at each start of a child.
"""

from __future__ import annotations

import faulthandler
import http.client
import importlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from typing import Any

TIMEOUT_S = 60
CHILD_S = 90
"""A child that hangs (on a lock that some thread held at the fork) is ended by SIGALRM, which counts as an error."""
TRACE_S = 60
"""By then it says where it is."""


def ask(port: int, context: ssl.SSLContext) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        if (answer.status, body) != (200, b"hello"):
            raise ValueError(f"{answer.status}: {body!r}")
    finally:
        connection.close()


def ask_in_child(given: dict[str, Any], *shared: ssl.SSLContext) -> None:
    """Make a child's requests, by turns with the contexts of its parent and, if it has to make one, with its own."""
    contexts = list(shared)
    if given["makes_contexts"] or not shared:
        contexts.append(ssl.create_default_context(cafile=given["ca"]))
    for number in range(given["child_requests"]):
        ask(given["port"], contexts[number % len(contexts)])


def fork(given: dict[str, Any], *shared: ssl.SSLContext) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.alarm(CHILD_S)
        faulthandler.dump_traceback_later(TRACE_S)
        ask_in_child(given, *shared)
        faulthandler.cancel_dump_traceback_later()
        code = 0
    except BaseException as error:  # noqa: BLE001 - this process must not go on as its parent
        os.write(2, f"in a fork: {type(error).__name__}: {error}\n".encode())
        code = 1
    os._exit(code)


def start(given: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", __file__, json.dumps({**given, "is_child": True})]
    return subprocess.Popen(command)


def run(given: dict[str, Any]) -> dict[str, Any]:
    shared, unused = (ssl.create_default_context(cafile=given["ca"]) for _ in range(2))
    answered, is_busy = [0] * given["threads"], [False] * given["threads"]
    errors: list[str] = []

    def work(number: int) -> None:
        own = ssl.create_default_context(cafile=given["ca"])
        for request in range(given["requests"]):
            is_busy[number] = True
            try:
                ask(given["port"], own if request % 2 else shared)
                answered[number] += 1
            except Exception as error:  # noqa: BLE001 - it is the answer
                errors.append(f"{type(error).__name__}: {error}"[:300])
            is_busy[number] = False

    threads = [threading.Thread(target=work, args=(number,)) for number in range(given["threads"])]
    for thread in threads:
        thread.start()
    total = given["threads"] * given["requests"]
    forks: list[int] = []
    programs: list[subprocess.Popen[bytes]] = []
    busy = []
    for number in range(given["children"]):
        while sum(answered) + len(errors) < total * (number + 1) // (given["children"] + 2):
            time.sleep(0.001)
        busy.append(sum(is_busy))
        if number % 2:
            programs.append(start(given))
        else:
            forks.append(fork(given, shared, unused))
    for thread in threads:
        thread.join()
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in forks]
    codes += [program.wait() for program in programs]
    return {"answered": sum(answered), "errors": errors, "codes": codes, "busy": busy}


def main() -> None:
    given = json.loads(sys.argv[1])
    for name in given["imports"]:
        importlib.import_module(name)
    if given.get("is_child"):
        ask_in_child(given)
    else:
        print(json.dumps(run(given)), flush=True)


if __name__ == "__main__":
    main()
