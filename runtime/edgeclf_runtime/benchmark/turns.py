"""Measuring several candidates in one run, each in processes of its own, their bursts in shuffled turns.

Thread pools in one process slow each other down, whole processes can be slow, and a shared machine drifts: so each
candidate has several processes, and a round is a burst of every process of every candidate, in an order that is
shuffled anew. This module imports nothing heavy, so that a process holds nothing but what its candidate brings.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from edgeclf_runtime.closing import Closing
from edgeclf_runtime.errors import EdgeclfError

STARTED_NS = time.perf_counter_ns()
"""When this module was imported: in a measured process, the first thing that it does."""

PAUSE_S = 0.02
"""Between two bursts: the threads of the one go to sleep before the other begins."""

PATIENCE_S = 10.0
"""How long a process may take to end by itself."""

Server = Callable[..., Any]
"""Answers a request: a burst that was measured, or a fact about the candidate."""

Open = Callable[[], Server]
"""Loads a candidate, in the process that measures it; must be picklable (`functools.partial` of a function)."""

Request = tuple[Any, ...]
"""The arguments that a server is called with."""

Name = TypeVar("Name", bound=Hashable)

_log = logging.getLogger(__name__)


class Turns(Closing, Generic[Name]):
    """The processes of some candidates, which take turns; a context manager that ends them.

    They are started one after the other, each once the one before has loaded its candidate. A candidate one of whose
    processes cannot load it, fails or dies is left out from then on, all its processes with it.

    Attributes:
        left_out: Why candidates were left out, a sentence each.

    Args:
        opens: Loads each candidate.
        processes: How many processes each has.
        seed: What the order of turns is shuffled by.
        started: Called whenever a process is done with loading, or has been left out.
    """

    def __init__(
        self,
        opens: Mapping[Name, Open],
        processes: int,
        seed: int = 0,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self.left_out: dict[Name, str] = {}
        self._random = random.Random(seed)
        self._processes: list[tuple[Name, int, _MeasuredProcess]] = []
        try:
            for number in range(processes):
                for name, opens_it in opens.items():
                    with self._leaving_out(name):
                        if name not in self.left_out:
                            self._processes.append((name, number, _MeasuredProcess(opens_it)))
                    started()
        except BaseException:
            self.close()
            raise

    def round(self, requests: Mapping[Name, Sequence[Request]]) -> Iterator[tuple[Name, int, Request, Any]]:
        """Puts each of its requests to every process of a candidate, all in one shuffled order.

        Args:
            requests: By candidate.

        Yields:
            The candidate, the number of its process, the request, and the answer.
        """
        turns = [(*served, request) for served in self._processes for request in requests[served[0]]]
        self._random.shuffle(turns)
        for name, number, process, request in turns:
            if name in self.left_out:
                continue
            answered = False
            with self._leaving_out(name):
                answer = process.ask(request)
                answered = True
            if answered:
                yield name, number, request, answer
            time.sleep(PAUSE_S)

    def ask(self, name: Name, *request: Any) -> list[Any]:
        """Puts a request to every process of a candidate; returns the answers, none where it has been left out."""
        answers = []
        with self._leaving_out(name):
            answers = [process.ask(request) for of, _, process in self._processes if of == name]
        return [] if name in self.left_out else answers

    def close(self) -> None:
        """Ends all processes, whatever they are doing."""
        _end([process for _, _, process in self._processes])
        self._processes = []

    @contextlib.contextmanager
    def _leaving_out(self, name: Name) -> Iterator[None]:
        """Leaves a candidate out where what is done with one of its processes fails."""
        try:
            yield
        except _CannotMeasureError as error:
            self.left_out[name] = str(error)
            _end([process for of, _, process in self._processes if of == name])
            self._processes = [served for served in self._processes if served[0] != name]


class _CannotMeasureError(Exception):
    """Why a candidate cannot be measured, a sentence."""


class _MeasuredProcess:
    """A process that has loaded a candidate and answers requests.

    Args:
        opens: Loads the candidate.

    Raises:
        _CannotMeasureError: Where that fails.
    """

    def __init__(self, opens: Open) -> None:
        # Pickled here, so that the process starts to import what the candidate needs when its clock runs.
        pickled = pickle.dumps(opens)
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, pickled), daemon=True)
        self._is_busy = True
        try:
            with _interrupts_kept_from_it(), _program_kept_from_it(is_needed=b"__main__" in pickled):
                self._process.start()
            there.close()  # so that the end of the process ends `recv` here
            self._receive()
        except BaseException:
            _end([self])
            raise

    def ask(self, request: Request) -> Any:
        """Returns the answer to a request.

        Raises:
            _CannotMeasureError: Where it failed or the process died.
        """
        self._is_busy = True
        with contextlib.suppress(OSError):  # where it has gone, `recv` says so
            self._connection.send(request)
        return self._receive()

    def _receive(self) -> Any:
        try:
            failure, answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE_S)
            raise _CannotMeasureError(_how_it_ended(self._process.exitcode)) from None
        self._is_busy = False
        if failure is not None:
            _log.debug("A candidate failed:\n%s", answer)
            raise _CannotMeasureError(failure)
        return answer

    def begin_end(self) -> None:
        """Tells the process to end, by a signal where it would not hear."""
        if self._process.pid is not None and self._is_busy:
            self._process.terminate()
        with contextlib.suppress(OSError):  # it is gone already
            self._connection.send(None)

    def end(self) -> None:
        """Waits for the end, but not for ever."""
        if self._process.pid is not None:
            self._process.join(PATIENCE_S)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._process.close()
        self._connection.close()


def _end(processes: Sequence[_MeasuredProcess]) -> None:
    for process in processes:
        process.begin_end()
    for process in processes:
        process.end()


@contextlib.contextmanager
def _interrupts_kept_from_it() -> Iterator[None]:
    """Has a process that is started in the block never see Ctrl-C, which goes to the whole group: this one ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # The first process to be started brings the tracker up, which up to Python 3.11 unblocks the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _program_kept_from_it(is_needed: bool) -> Iterator[None]:
    """Has a process that is started in the block not import the program that runs here, unless it is needed there.

    By default it would, with all that the program imports, and the candidate would be charged for it.
    """
    program = sys.modules["__main__"]
    if not is_needed:
        sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _serve(connection: Connection, pickled: bytes) -> None:
    """Loads a candidate and answers requests, until one is None or the measuring program has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # standard output is for results, and some programs print there
    answer = None
    try:
        opens: Open = pickle.loads(pickled)
        server = opens()
    except Exception as error:  # whatever a candidate raises: the run is told, and the others go on
        connection.send((_reason(error), traceback.format_exc()))
        return
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send((None, answer))
            request = connection.recv()
            if request is None:
                return
            try:
                answer = server(*request)
            except Exception as error:  # as above
                connection.send((_reason(error), traceback.format_exc()))
                return


def _reason(error: Exception) -> str:
    """Returns why a candidate cannot be measured, as a sentence."""
    if isinstance(error, EdgeclfError):
        return str(error)
    return f"It failed with {type(error).__name__}: {str(error).strip() or 'no message'}"


def _how_it_ended(exit_code: int | None) -> str:
    """Returns how a process ended that should not have, as a sentence."""
    if exit_code is None or exit_code >= 0:
        return f"Its process ended by itself, with exit code {exit_code}."
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal
        name = "no name"
    hint = ", as it does where memory runs out" if -exit_code == signal.SIGKILL else ""
    return f"Its process died of signal {-exit_code} ({name}){hint}."
