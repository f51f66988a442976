"""Run clients, several at once, and tell a listener in the suite's order what came out."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pqtls.report.model import CaseResult, Setting


class Listener(Protocol):
    """Who is told how the run goes, from the thread that called `run_local`."""

    def setting_known(self, setting: Setting) -> None:
        """Take what the suite runs on, before the first client starts."""

    def running(self, titles: list[str], done: int, total: int) -> None:
        """Take which clients run now."""

    def case_finished(self, case: CaseResult, number: int | None) -> None:
        """Take one result, in the suite's order; number None is the negative control."""


class Schedule:
    """Runs jobs, each of which is one client with whatever belongs to it.

    Args:
        listener: Who is told how it goes.
        stop: Ends every client that still runs, and lets no more start.
        parallel_clients: How many jobs may be under way at once.
    """

    def __init__(self, listener: Listener, stop: Callable[[], None], parallel_clients: int) -> None:
        self._listener = listener
        self._stop = stop
        self._parallel_clients = parallel_clients
        self._lock = threading.Lock()
        self._running: list[str] = []

    def run(
        self, jobs: Sequence[Callable[[], CaseResult]], control: Callable[[], CaseResult]
    ) -> tuple[list[CaseResult], CaseResult]:
        """Run every job, and the negative control beside them.

        Args:
            jobs: The jobs.
            control: The control's job.

        Returns:
            The jobs' results in their order, and the control's.
        """
        results: list[CaseResult] = []
        with ThreadPoolExecutor(max_workers=self._parallel_clients) as pool:
            futures = [pool.submit(job) for job in jobs]
            control_future = pool.submit(control)
            try:
                for number, future in enumerate(futures, 1):
                    results.append(self._wait(future, number - 1, len(jobs)))
                    self._listener.case_finished(results[-1], number)
                control_result = self._wait(control_future, len(jobs), len(jobs))
            except BaseException:
                self._stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._listener.case_finished(control_result, None)
        return results, control_result

    def _wait(self, future: Future[CaseResult], done: int, total: int) -> CaseResult:
        """Wait for one result and tell the listener meanwhile what runs."""
        while True:
            with self._lock:
                running = list(self._running)
            self._listener.running(running, done, total)
            try:
                return future.result(timeout=0.2)
            except FutureTimeoutError:  # before Python 3.11 not the built-in one
                continue

    @contextmanager
    def shown(self, title: str) -> Iterator[None]:
        """Show meanwhile that something runs; for use inside a job.

        Args:
            title: What.
        """
        with self._lock:
            self._running.append(title)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(title)
