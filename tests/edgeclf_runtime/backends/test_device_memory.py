from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeclf_runtime.backends import DeviceOptions, open_backend
from edgeclf_runtime.backends.device_memory import DeviceMemory, FixedBatchMemory, rows_are_aligned
from edgeclf_runtime.contract import StateTensor
from edgeclf_runtime.errors import EdgeclfError

TOLERANCE = {"cpu": 1e-6, "cuda": 1e-5}


@pytest.fixture
def opened(device):
    """Opens a model on the device; closes it at the end of the test."""
    backends = []

    def open_(path):
        backends.append(open_backend(path, DeviceOptions(device, threads=1)))
        return backends[-1]

    yield open_
    for backend in backends:
        backend.close()


@pytest.fixture
def counted(monkeypatch):
    """Counts the runs of a backend from now on, with the number of streams in each."""

    def count(memory):
        runs, run = [], memory._run
        monkeypatch.setattr(memory, "_run", lambda frames, *where: (runs.append(len(frames)), run(frames, *where))[1])
        return runs

    return count


def frames_of(contract, count, seed=0):
    return np.random.default_rng(seed).random((count, *contract.frame_shape)).astype(contract.edge_type)


@pytest.mark.parametrize("streams", [1, 2, 3, 8])
def test_any_streams_in_any_order_as_each_alone(opened, write_model, aligned, alone, any_order, device, streams):
    path = write_model(**aligned)
    backend = opened(path)
    memory = backend.remember(streams)
    assert type(memory) is DeviceMemory
    references = [alone(path, backend.contract) for _ in range(streams)]
    any_order(memory, references, backend.contract, 120, TOLERANCE[device])


@pytest.mark.parametrize(("batch", "streams"), [(3, 3), (3, 2), (4, 1), (1, 1)])
def test_fixed_batch_as_each_alone(opened, write_model, aligned, alone, any_order, device, batch, streams):
    path = write_model("any.onnx", **aligned)
    backend = opened(write_model("fixed.onnx", batch=batch, **aligned))
    memory = backend.remember(streams)
    assert type(memory) is FixedBatchMemory
    references = [alone(path, backend.contract) for _ in range(streams)]
    any_order(memory, references, backend.contract, 60, TOLERANCE[device])


@pytest.mark.parametrize("edge_type", ["float32", "float16"])
def test_half_precision(opened, write_model, aligned, alone, any_order, device, edge_type):
    path = write_model(precision="fp16", edge_type=edge_type, state_type="float16", **aligned)
    backend = opened(path)
    references = [alone(path, backend.contract) for _ in range(3)]
    any_order(backend.remember(3), references, backend.contract, 30, 0 if device == "cpu" else 5e-3)


def test_model_without_memory(opened, write_model, alone, any_order, device):
    path = write_model(state=())
    backend = opened(path)
    references = [alone(path, backend.contract) for _ in range(3)]
    any_order(backend.remember(3), references, backend.contract, 20, TOLERANCE[device])


def test_streams_in_step_are_one_run(opened, write_model, aligned, counted):
    backend = opened(write_model(**aligned))
    memory = backend.remember(8)
    runs = counted(memory)
    for _ in range(7):
        memory.step(frames_of(backend.contract, 8), range(8), [True] * 8)
    assert runs == [8] * 7
    assert len(memory._bindings) <= 3


def test_streams_that_got_out_of_step_come_together_again(opened, write_model, aligned, counted):
    backend = opened(write_model(**aligned))
    memory, frames = backend.remember(5), frames_of(backend.contract, 5)
    runs = counted(memory)
    memory.step(frames, range(5), [True] * 5)
    memory.step(frames[:4], [0, 1, 3, 4], [True] * 4)
    memory.step(frames, range(5), [True] * 5)
    memory.step(frames, range(5), [True] * 5)
    assert runs == [5, 2, 2, 2, 1, 2, 5]
    runs.clear()
    memory.step(frames, range(5), [True, True, False, True, True])  # one that starts anew reads from elsewhere
    memory.step(frames, range(5), [True] * 5)
    assert runs == [2, 1, 2, 5]


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("by_keep", [False, True])
def test_what_is_not_finite_ends_with_a_new_start(opened, write_model, aligned, batch, by_keep):
    backend = opened(write_model(batch=batch, **aligned))
    memory, frames = backend.remember(2), frames_of(backend.contract, 2)
    right, _ = memory.step(frames, [0, 1], [True, True])
    memory.clear([0, 1])
    bad = frames.copy()
    bad[1] = np.nan
    logits, _ = memory.step(bad, [0, 1], [True, True])
    assert np.isfinite(logits[0]).all()
    assert not np.isfinite(logits[1]).any()
    if not by_keep:
        memory.clear([1])
    found, _ = memory.step(frames, [0, 1], [True, not by_keep])
    np.testing.assert_allclose(found[1], right[1], rtol=1e-5)
    assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("batch", [None, 1])
def test_outputs_are_the_callers(opened, write_model, aligned, batch):
    backend = opened(write_model(batch=batch, **aligned))
    memory = backend.remember(1)
    first = memory.step(frames_of(backend.contract, 1, seed=1), [0], [True])
    copies = [output.copy() for output in first]
    memory.step(frames_of(backend.contract, 1, seed=2), [0], [True])
    np.testing.assert_array_equal(first[0], copies[0])
    np.testing.assert_array_equal(first[1], copies[1])


def test_frames_may_be_overwritten_after_a_step(opened, write_model, aligned):
    backend = opened(write_model(**aligned))
    kept, spoilt = backend.remember(1), backend.remember(1)
    for k in range(4):
        frames = frames_of(backend.contract, 1, seed=k)
        right = kept.step(frames.copy(), [0], [True])[0]
        found = spoilt.step(frames, [0], [True])[0]
        frames[:] = np.nan
        np.testing.assert_array_equal(found, right)


def test_what_is_kept_of_many_combinations_is_bounded(opened, write_model, aligned):
    backend = opened(write_model(**aligned))
    memory, rng = backend.remember(12), np.random.default_rng(0)
    for _ in range(60):
        which = sorted(rng.permutation(12)[:5].tolist())
        memory.step(frames_of(backend.contract, 5), which, [True] * 5)
        assert len(memory._bindings) <= 16


def test_a_run_that_fails_moves_no_stream_on(opened, write_model, aligned, monkeypatch):
    backend = opened(write_model(**aligned))
    memory, frames = backend.remember(1), frames_of(backend.contract, 1)
    memory.step(frames, [0], [True])
    right = memory.step(frames, [0], [True])[0]
    memory.clear([0])
    memory.step(frames, [0], [True])
    with monkeypatch.context() as patched:
        patched.setattr(backend, "run_bound", lambda _: (_ for _ in ()).throw(EdgeclfError("no memory")))
        with pytest.raises(EdgeclfError, match="no memory"):
            memory.step(frames, [0], [True])
    np.testing.assert_array_equal(memory.step(frames, [0], [True])[0], right)


def test_which_rows_start_where_gpus_want_them(tiny, aligned):
    assert rows_are_aligned(replace(tiny, **aligned))
    assert rows_are_aligned(replace(tiny, state=()))
    assert not rows_are_aligned(tiny)
    one = (StateTensor("h", (64, 1)),)
    assert rows_are_aligned(replace(tiny, state=one))
    assert not rows_are_aligned(replace(tiny, state=one, state_type="float16"))


def test_what_a_provider_may_copy_as_it_is_bound_is_bound_in_every_step(write_model, aligned, alone, any_order):
    path = write_model(**aligned)
    with open_backend(path, DeviceOptions("cpu", threads=1)) as backend:
        backend.device = "another"  # one that takes the CPU's memory
        memory = backend.remember(3)
        any_order(memory, [alone(path, backend.contract) for _ in range(3)], backend.contract, 60, 1e-6)
        assert memory._bindings == {}
