"""What the tests of the backends share: the devices, a model that fits GPUs, and what it must give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract, StateTensor
from edgeclf_runtime.machine.providers import CUDA_PROVIDER, start

Array = NDArray[np.float32]


@functools.cache
def why_no_cuda() -> str | None:
    """Returns why no CUDA provider starts; None where it does."""
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return "the installed ONNX Runtime has none"
    try:
        start(CUDA_PROVIDER)
    except Exception as error:
        return str(error)
    return None


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device in turn; the test is skipped, saying so, where CUDA does not start."""
    if request.param == "cuda" and (why := why_no_cuda()):
        pytest.skip(f"no CUDA provider starts here: {why}")
    return str(request.param)


ALIGNED = {"frame_shape": (64, 2, 4), "state": (StateTensor("acc", (64,)), StateTensor("conv.last", (64, 2, 4)))}


@pytest.fixture
def aligned() -> dict[str, Any]:
    """What `write_model` takes for a model whose rows of state start at multiples of 256 bytes, as GPUs want them."""
    return ALIGNED


class Alone:
    """One stream by `session.run` on the CPU, its state fed back: what every memory must give.

    Args:
        path: A model for any number of streams.
    """

    def __init__(self, path: Path, contract: Contract) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._contract = contract
        self.reset()

    def reset(self) -> None:
        self._state = [np.zeros((1, *tensor.shape), self._contract.state_type) for tensor in self._contract.state]

    def step(self, frame: Array) -> tuple[Array, Array]:
        keep = [np.ones(1, self._contract.edge_type)] if self._contract.state else []
        given = [frame[None].astype(self._contract.edge_type), *keep, *self._state]
        feed = dict(zip(self._contract.input_names, given, strict=True))
        logits, probabilities, *self._state = self._session.run(self._contract.output_names, feed)
        return logits[0], probabilities[0]


@pytest.fixture
def alone() -> Callable[[Path, Contract], Alone]:
    """`Alone`."""
    return Alone


def check_any_order(memory: Any, references: Sequence[Alone], contract: Contract, steps: int, tolerance: float) -> None:
    """Steps random streams in random order, which start anew now and then, beside each of them alone."""
    rng = np.random.default_rng(len(references))
    streams = len(references)
    for k in range(steps):
        which = rng.permutation(streams)[: rng.integers(1, streams + 1)] if k % 3 else np.arange(streams)
        cleared = rng.permutation(streams)[: rng.integers(0, 2)].tolist()
        memory.clear(cleared)
        keep = (rng.random(len(which)) > 0.1).tolist()
        for stream in [*cleared, *(s for s, kept in zip(which, keep, strict=True) if not kept)]:
            references[stream].reset()
        frames = rng.random((len(which), *contract.frame_shape)).astype(contract.edge_type)
        logits, probabilities = memory.step(frames, which.tolist(), keep)
        for row, stream in enumerate(which):
            for found, right in zip(
                (logits[row], probabilities[row]), references[stream].step(frames[row]), strict=True
            ):
                np.testing.assert_allclose(found, right, rtol=tolerance, atol=tolerance)


@pytest.fixture
def any_order() -> Callable[..., None]:
    """`check_any_order`."""
    return check_any_order
