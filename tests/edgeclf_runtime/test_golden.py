from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from edgeclf_runtime.contract import StateTensor
from edgeclf_runtime.errors import CheckFailedError, InputFileError
from edgeclf_runtime.golden import ChainedStep, golden_bytes, golden_path, read_golden, replay, require_passed
from edgeclf_runtime.session import open_model


def counting(keep):
    """Returns a step whose state counts its steps since the last reset."""

    def step(inputs):
        state = inputs[-1] * inputs[1].reshape(-1, 1, 1, 1) if keep else inputs[-1]
        return [inputs[0][:, 0, 0, :2], inputs[0][:, 0, 0, :2], state + 1]

    return step


@pytest.mark.parametrize("keep", [True, False])
def test_the_state_is_fed_back_and_cleared_where_a_stream_starts_anew(tiny, keep):
    contract = replace(tiny, state=(StateTensor("count", (1, 2, 2)),), keep_memory=keep)
    chained = ChainedStep(counting(keep), contract, 2)
    frames = np.zeros((2, *contract.frame_shape), np.float32)
    counts = [chained(frames, np.array(k, np.float32))[2][:, 0, 0, 0].tolist() for k in ([0, 0], [1, 1], [1, 0])]
    assert counts == [[1, 1], [2, 2], [3, 1]]


@pytest.fixture
def golden_of(tmp_path):
    """Writes vectors beside a model that is not there; returns its path and the digest."""

    def write(vectors, name="a.onnx"):
        content = golden_bytes(vectors) if isinstance(vectors, dict) else vectors
        golden_path(tmp_path / name).write_bytes(content)
        return tmp_path / name, hashlib.sha256(content).hexdigest()

    return write


@pytest.mark.parametrize(
    ("model", "vectors"),
    [
        ("out/a.onnx", "out/a.golden.npz"),
        ("out/a.int8.onnx", "out/a.int8.golden.npz"),
        ("a b.ts", "a b.ts.golden.npz"),
        ("x/1/model.onnx", "x/1/model.golden.npz"),
    ],
)
def test_where_they_stand(model, vectors):
    assert golden_path(model) == golden_path(Path(model)) == Path(vectors)


def test_round_trip(golden_of, tiny, vectors_by_hand):
    vectors = vectors_by_hand(tiny)
    path, digest = golden_of(vectors)
    found = read_golden(path, replace(tiny, golden_sha256=digest))
    for name, value in vectors.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_the_same_vectors_give_the_same_bytes(tiny, vectors_by_hand):
    content = golden_bytes(vectors_by_hand(tiny))
    assert content == golden_bytes(vectors_by_hand(tiny))
    with zipfile.ZipFile(BytesIO(content)) as archive:  # no time of day in it
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {member.filename for member in archive.infolist()} == {f"{name}.npy" for name in vectors_by_hand(tiny)}


# Files that are not the model's.


def test_model_without_any(tiny, tmp_path):
    with pytest.raises(InputFileError, match=r"a\.onnx: it was exported without golden vectors"):
        read_golden(tmp_path / "a.onnx", tiny)


def test_file_that_is_missing(tiny, tmp_path):
    with pytest.raises(InputFileError, match=r"a\.golden\.npz: .* cannot be read \(No such file.*\); copy them beside"):
        read_golden(tmp_path / "a.onnx", replace(tiny, golden_sha256="ab" * 32))


def test_file_of_another_export(golden_of, tiny, vectors_by_hand):
    path, _ = golden_of(vectors_by_hand(tiny))
    with pytest.raises(InputFileError, match=r"these are not the golden vectors that .*a\.onnx was exported with"):
        read_golden(path, replace(tiny, golden_sha256="ab" * 32))


def pickled():
    file = BytesIO()
    np.savez(file, frames=np.array([{}], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(50), pickled()])
def test_file_that_is_no_archive_of_arrays(golden_of, tiny, content):
    path, digest = golden_of(content)
    with pytest.raises(InputFileError, match=r"a\.golden\.npz: the golden vectors (cannot be read|lack)"):
        read_golden(path, replace(tiny, golden_sha256=digest))


@pytest.mark.parametrize("lacking", ["frames", "keep_memory", "logits", "next_state.acc"])
def test_vectors_that_lack_one(golden_of, tiny, vectors_by_hand, lacking):
    vectors = vectors_by_hand(tiny)
    del vectors[lacking]
    path, digest = golden_of(vectors)
    with pytest.raises(InputFileError, match=rf"the golden vectors lack {lacking}; export again"):
        read_golden(path, replace(tiny, golden_sha256=digest))


# Replaying them.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"state": ()},
        {"keep_memory": False},
        {"batch": 3},
        {"precision": "fp16", "edge_type": "float16", "state_type": "float16"},
        {"precision": "fp16", "state_type": "float16"},
    ],
)
def test_what_was_computed_by_hand(write_model, changes):
    path = write_model(vectors=True, **changes)
    model = open_model(path, "cpu")
    comparison = replay(model.run, model.contract, read_golden(path, model.contract))
    assert comparison
    assert comparison.steps == 6
    assert list(comparison.outputs) == model.contract.output_names
    largest = max(difference.max_absolute for difference in comparison.outputs.values())
    assert largest < (1e-5 if model.contract.precision == "fp32" else 0.01)


def step_of(tiny, vectors, change):
    """A step that gives exactly what is right, and then has something changed; it keeps what it was given."""
    given, steps = [], iter(range(100))

    def step(inputs):
        k = next(steps)
        given.append(inputs)
        outputs = [vectors["logits"][k], vectors["probabilities"][k]]
        outputs += [vectors[tensor.output_name] * (k + 1) / len(vectors["logits"]) for tensor in tiny.state]
        return change(k, [np.array(output) for output in outputs])

    return step, given


def test_state_is_fed_back_and_starts_at_zero(tiny, vectors_by_hand):
    vectors = vectors_by_hand(tiny)
    contract = replace(tiny, state_type="float16")
    step, given = step_of(tiny, vectors, lambda _, outputs: outputs)
    comparison = replay(step, contract, vectors)
    assert comparison
    assert all(difference.max_absolute < 1e-6 for difference in comparison.outputs.values())
    assert [value.dtype for value in given[0]] == ["f4", "f4", "f2", "f2"]
    assert not any(value.any() for value in given[0][2:])
    for k in range(6):
        np.testing.assert_array_equal(given[k][0], vectors["frames"][k])
        np.testing.assert_array_equal(given[k][1], vectors["keep_memory"][k])
        if k:
            np.testing.assert_array_equal(given[k][2], vectors["next_state.acc"] * k / 6)


def test_edges_are_given_in_the_type_that_the_model_takes(tiny, vectors_by_hand):
    step, given = step_of(tiny, vectors_by_hand(tiny), lambda _, outputs: outputs)
    replay(step, replace(tiny, edge_type="float16"), vectors_by_hand(tiny))
    assert [value.dtype for value in given[0]] == ["f2", "f2", "f4", "f4"]


@pytest.mark.parametrize("output", [0, 1, 2, 3])
@pytest.mark.parametrize("k", [0, 5])
def test_every_output_counts(tiny, vectors_by_hand, output, k):
    def change(step, outputs):
        if step == k:
            outputs[output].flat[0] += 0.01
        return outputs

    comparison = replay(step_of(tiny, vectors_by_hand(tiny), change)[0], tiny, vectors_by_hand(tiny))
    is_compared = output < 2 or k == 5  # of the state only what is left at the end
    assert bool(comparison) is not is_compared
    if is_compared:
        assert tiny.output_names[output] in comparison.problems[0]


def test_a_model_that_fails(write_model, vectors_by_hand, tiny):
    vectors = vectors_by_hand(tiny)
    vectors["probabilities"] = vectors["probabilities"][..., ::-1]
    path = write_model(vectors=vectors)
    model = open_model(path, "cpu")
    with pytest.raises(
        CheckFailedError, match=r"tiny\.onnx: on this machine it does not compute .*: probabilities differs"
    ) as e:
        require_passed(replay(model.run, model.contract, read_golden(path, model.contract)), path)
    assert e.value.exit_code == 1
    assert "the same class is named for" in str(e.value)
    assert require_passed(replay(model.run, model.contract, vectors_by_hand(tiny)), path) is None
