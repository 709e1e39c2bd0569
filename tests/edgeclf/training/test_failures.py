from __future__ import annotations

from pathlib import Path

import pytest

from edgeclf.training import failures
from edgeclf.training.failures import sentences_for_failures
from edgeclf_runtime.errors import EdgeclfError

# As gloo and NCCL word them.
GONE = [
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:40123",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Read error [::1]:3000: Connection reset by peer",
    "writev [127.0.0.1]:9: Broken pipe",
    "NCCL error in: ProcessGroupNCCL.cpp:1691, remote process exited or there was a network error, NCCL version 2.14.3",
]


@pytest.mark.parametrize("message", GONE)
def test_another_process_that_ended(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "several_processes", lambda: True)
    says = "Another process of this training ended, and its message says why"
    with pytest.raises(EdgeclfError, match=says), sentences_for_failures(Path("out")):
        raise RuntimeError(message)
    # A process alone has no other one, so this is something else.
    monkeypatch.setattr(failures, "several_processes", lambda: False)
    with pytest.raises(RuntimeError, match=r".") as caught, sentences_for_failures(Path("out")):
        raise RuntimeError(message)
    assert str(caught.value) == message


@pytest.mark.parametrize("several", [False, True])
def test_an_error_that_is_not_known_stays_as_it_is(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "several_processes", lambda: several)
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2$"), sentences_for_failures(Path("out")):
        raise RuntimeError("mat1 and mat2")
