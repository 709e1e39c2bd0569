"""Doing one thing for many files, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.machine.cores import usable_processors

Job = TypeVar("Job")
Result = TypeVar("Result")

_LARGEST_CHUNK = 16


def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None
) -> Iterator[Result | EdgeclfError]:
    """Yields what `function` returns for each job, in their order; the error where it raises one of edgeclf's.

    So one bad file does not stop the others. One process at most works in vain when the caller stops listening.

    Args:
        function: What to do; a function at the top of a module, as other processes must find it.
        jobs: What to do it for; they are sent to other processes.
        workers: Processes; None: one a processor. With one, or for one job, all is done in this process.

    Raises:
        EdgeclfError: Where one of the processes was ended from outside.
    """
    workers = min(workers or usable_processors(), len(jobs))
    attempt = partial(_attempt, function)
    if workers <= 1:
        yield from map(attempt, jobs)
        return
    # A fresh interpreter for each worker: forking one that has started torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    chunk = min(_LARGEST_CHUNK, -(-len(jobs) // (8 * workers)))
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        try:
            yield from pool.map(attempt, jobs, chunksize=chunk)
        except BrokenProcessPool as error:
            raise EdgeclfError(
                "One of the processes was ended from outside, perhaps as memory ran out; start again, with fewer "
                "processes (--num-workers)."
            ) from error


def _attempt(function: Callable[[Job], Result], job: Job) -> Result | EdgeclfError:
    try:
        return function(job)
    except EdgeclfError as error:
        return error
    except OSError as error:
        if error.strerror is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        return EdgeclfError(f"{where}the operating system refused to go on ({error.strerror}).")


def _end_with_parent() -> None:
    """Lets this worker end when the process that started it does, also by a signal; it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
