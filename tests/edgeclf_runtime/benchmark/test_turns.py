from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial

import numpy as np
import pytest

from edgeclf_runtime.benchmark import turns as turns_module
from edgeclf_runtime.benchmark.turns import Turns


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_candidates_have_processes_of_their_own_whose_bursts_are_interleaved(pretended, monkeypatch):
    monkeypatch.setattr(turns_module, "PAUSE_S", 0)
    opens = {name: partial(pretended.open_bursts, name) for name in "ab"}
    orders, made = [], {}
    with Turns(opens, processes=2) as turns:
        for _ in range(6):
            found = list(turns.round({"a": [(1,), (2,)], "b": [(1,)]}))
            orders.append([(name, number, request) for name, number, request, _ in found])
            times = [answer[3] for *_, answer in found]
            assert times == sorted(times)
            for name, number, _, (own, pid, count, _) in found:
                assert own == name
                made.setdefault((name, number), []).append((pid, count))
    assert {frozenset(order) for order in orders} == {
        frozenset((name, k, (r,)) for name, r in (("a", 1), ("a", 2), ("b", 1)) for k in range(2))
    }
    assert len({tuple(order) for order in orders}) > 1
    pids = {pid for found in made.values() for pid, _ in found}
    assert len(pids) == 4
    assert os.getpid() not in pids
    for (name, _), found in made.items():
        assert len({pid for pid, _ in found}) == 1
        assert [count for _, count in found] == list(range(1, 1 + 6 * (2 if name == "a" else 1)))
    assert not multiprocessing.active_children()


class InThisProcess:
    """Stands for a process."""

    def __init__(self, opens):
        self._server = opens()

    def ask(self, request):
        return self._server(*request)

    def begin_end(self):
        pass

    end = begin_end


def test_the_order_depends_on_the_seed_alone(pretended, monkeypatch):
    monkeypatch.setattr(turns_module, "_MeasuredProcess", InThisProcess)
    monkeypatch.setattr(turns_module, "PAUSE_S", 0)

    def order(seed):
        with Turns({"a": partial(pretended.open_bursts, "a")}, 1, seed) as turns:
            return [request for _ in range(4) for *_, request, _ in turns.round({"a": [(1,), (2,), (3,)]})]

    assert order(3) == order(3) != order(4)


def test_a_process_has_loaded_nothing_before_its_candidate_asks_for_it(tmp_path):
    # Neither what measuring itself takes, nor what the program that measures has imported.
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import sys
        import click, numpy
        from edgeclf_runtime.benchmark.turns import Turns
        sys.path.insert(0, sys.argv[1])
        import bare
        if __name__ == "__main__":
            with Turns({"a": bare.opens}, 1) as turns:
                print(turns.ask("a"), turns.left_out)
        """)
    )
    (tmp_path / "bare.py").write_text(
        "import sys\n"
        "HEAVY = {'torch', 'onnxruntime', 'numpy', 'h5py', 'click'}\n"
        "def opens():\n"
        "    loaded = sorted(HEAVY & set(sys.modules))\n"
        "    return lambda: loaded\n"
    )
    found = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout == "[[]] {}\n"
    assert found.stderr == ""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signals to block")
def test_ctrl_c_is_blocked_even_in_the_first_process_that_is_started(tmp_path):
    (tmp_path / "bare.py").write_text(
        "import signal\n"
        "blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "def opens():\n"
        "    return lambda: blocked\n"
    )
    program = (
        "import signal, sys\nfrom edgeclf_runtime.benchmark.turns import Turns\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport bare\n"
        "with Turns({'a': bare.opens}, 1) as turns:\n"
        "    print(turns.ask('a'), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("[True] False\n", "")


def test_a_program_may_measure_its_own_functions(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        from edgeclf_runtime.benchmark.turns import Turns
        def opens():
            return lambda: 3
        if __name__ == "__main__":
            with Turns({"a": opens}, 1) as turns:
                print(turns.ask("a"))
        """)
    )
    found = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("[3]\n", "")


def test_what_cannot_be_loaded_is_left_out(pretended):
    reasons = {
        "fail_for_want": "Hopper is not installed: pip install hopper.",
        "fail_by_mistake": "It failed with KeyError: 'weights'",
        "kill_itself": "Its process died of signal 9 (SIGKILL), as it does where memory runs out.",
        "exit_itself": "Its process ended by itself, with exit code 3.",
    }
    started = []
    candidates = {name: getattr(pretended, name) for name in reasons}
    candidates["good"] = partial(pretended.open_bursts, "good")
    with Turns(candidates, 1, started=lambda: started.append(1)) as turns:
        assert turns.left_out == reasons
        assert [name for name, *_ in turns.round({name: [()] for name in candidates})] == ["good"]
        assert turns.ask("kill_itself") == []
        assert len(turns.ask("good")) == 1
    assert len(started) == 5


def test_what_fails_amid_the_run_is_left_out(pretended):
    candidates = {
        "dying": partial(pretended.open_dying, 1),
        "failing": pretended.open_failing,
        "good": partial(pretended.open_bursts, "good"),
    }
    rounds = []
    with Turns(candidates, 2) as turns:
        for _ in range(3):
            found = turns.round({name: [()] for name in candidates})
            rounds.append(sorted((name, number) for name, number, *_ in found if name == "good"))
        assert turns.left_out == {
            "dying": "Its process died of signal 9 (SIGKILL), as it does where memory runs out.",
            "failing": "It failed with ValueError: a frame of another shape",
        }
        assert len(multiprocessing.active_children()) == 2  # those of the good one
    assert rounds == [[("good", 0), ("good", 1)]] * 3
    assert not multiprocessing.active_children()


def test_what_a_process_prints_does_not_go_among_the_results(pretended, capfd):
    with Turns({"a": pretended.open_printing}, 1) as turns:
        turns.ask("a")
    out, err = capfd.readouterr()
    assert out == ""
    assert "loaded" in err


def test_an_error_in_the_run_ends_all_processes(pretended):
    def run():
        with Turns({"a": partial(pretended.open_bursts, "a")}, 1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert not multiprocessing.active_children()


def test_an_error_while_they_are_started_ends_all_processes(pretended):
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Turns({"a": partial(pretended.open_bursts, "a")}, 1, started=fails)
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_a_burst_and_all_processes(pretended, tmp_path):
    marker = tmp_path / "pid"

    def interrupt():
        while not marker.exists() or not marker.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    opens = {"a": partial(pretended.open_endless, marker), "b": partial(pretended.open_bursts, "b")}
    thread = threading.Thread(target=interrupt)

    def run():
        with Turns(opens, 1) as turns:
            thread.start()
            list(turns.round({"a": [()], "b": [()]}))

    with pytest.raises(KeyboardInterrupt):
        run()
    thread.join()
    assert not multiprocessing.active_children()
    assert not alive(int(marker.read_text()))


@pytest.mark.usefixtures("pretended")
def test_ctrl_c_of_the_terminal_leaves_no_word_of_the_processes(tmp_path):
    # A terminal sends it to all processes of the group.
    marker = tmp_path / "pid"
    program = (
        "import sys\nfrom functools import partial\nfrom edgeclf_runtime.benchmark.turns import Turns\n"
        f"sys.path.insert(0, {str(tmp_path / 'importable')!r})\nimport pretended_candidates as p\n"
        "try:\n"
        f"    with Turns({{'a': partial(p.open_endless, {str(marker)!r})}}, 1) as turns:\n"
        "        list(turns.round({'a': [()]}))\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not marker.exists() or not marker.read_text():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30) == ("interrupted\n", "")
    assert not alive(int(marker.read_text()))


def test_frames_may_be_given_once(pretended):
    # What is bound to the opener goes to its process with it.
    frames = np.arange(6.0).reshape(2, 3)
    with Turns({"a": partial(pretended.open_bursts, frames)}, 1) as turns:
        assert np.array_equal(turns.ask("a")[0][0], frames)
