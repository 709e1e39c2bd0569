"""The sample client in Node.js: does an exported model give there what PyTorch gives here?

Skipped only where there is no Node.js that the sample runs on, or no network to get its packages from.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import Classifier, mask_state
from edgeclf_export.accuracy import DataSet
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.formats.onnx_events import OnnxEventsFormat
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.golden import golden_bytes, golden_path
from edgeclf_runtime.precision import PRECISIONS, Precision
from tests.edgeclf_export import conftest
from tests.edgeclf_export.conftest import CASES, write_checkpoint

SAMPLE = Path(__file__).parents[2] / "samples" / "node"
STEPS = 50
STREAMS = 2
# npm's codes for: the registry cannot be reached. Any other failure, a wrong checksum for one, fails the test.
NO_NETWORK = (
    r"npm error code (E(AI_AGAIN|CONNREFUSED|CONNRESET|HOSTUNREACH|NETUNREACH|NOTFOUND|TIMEDOUT)|ERR_SOCKET_TIMEOUT)\b"
)

Vectors = dict[str, np.ndarray]

# A fixture, which pytest finds where it stands under its name.
dataset = conftest.dataset


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample with its packages, which stay in pytest's cache for the next run."""
    if missing := [program for program in ("node", "npm") if shutil.which(program) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    needed = json.loads((SAMPLE / "package.json").read_text())["engines"]["node"].removeprefix(">=")
    if _numbers(version) < _numbers(needed):
        pytest.skip(f"Node.js is {version}, and the sample needs {needed}")
    folder = tmp_path_factory.mktemp("client")
    for module in SAMPLE.glob("*.mjs"):
        shutil.copy(module, folder)
    (folder / "node_modules").symlink_to(_packages(request.config.cache.mkdir("node_packages")) / "node_modules")
    return folder


def _packages(cache: Path) -> Path:
    """Returns a folder with the packages of the lock file, installed by whichever test process comes first."""
    lock = (SAMPLE / "package-lock.json").read_bytes()
    folder = cache / hashlib.sha256(lock).hexdigest()[:16]
    with FileLock(cache / "lock"):
        if not folder.is_dir():
            # Beside its place, so that an install that was cut short is not taken for one.
            unfinished = Path(tempfile.mkdtemp(dir=cache))
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(SAMPLE / name, unfinished)
            npm = ["npm", "ci", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--no-audit", "--no-fund"]
            done = subprocess.run(npm, cwd=unfinished, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(unfinished)
                if found := re.search(NO_NETWORK, done.stderr):
                    pytest.skip(f"npm cannot reach its registry ({found[1]})")
                pytest.fail(f"npm ci failed:\n{done.stderr}")
            unfinished.rename(folder)
    return folder


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.removeprefix("v").split(".")]


def export(checkpoint: Path, path: Path, precision: Precision = "fp32", **contract: Any) -> tuple[Path, Vectors]:
    """Writes the step graph of a checkpoint, and returns it with inputs and what PyTorch makes of them in float64."""
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    asked = replace(contract_of(loaded, classifier), precision=precision)
    written = replace(OnnxFormat().contract(asked, ExportOptions()), **contract)
    OnnxFormat().write(ExportJob(classifier, written), path)
    rng = np.random.default_rng(3)
    shape = (STEPS, STREAMS, *written.frame_shape)
    frames = np.where(rng.random(shape) < 0.05, rng.random(shape), 0).astype(np.float32)
    keep = np.ones((STEPS, STREAMS), np.float32)
    keep[[0, 17, 41], 0] = keep[[0, 30], 1] = 0
    outputs = expected(classifier, frames, keep)
    inputs = {"frames": frames, **({"keep_memory": keep} if written.state else {})}
    return path, {**inputs, **outputs, **tolerance(precision)}


def tolerance(precision: Precision) -> Vectors:
    """Returns the arrays by which golden vectors say what is let through."""
    table = PRECISIONS[precision]
    return {"tolerance.max_absolute": np.array(table.max_absolute), "tolerance.relative": np.array(table.relative)}


def expected(classifier: Classifier, frames: np.ndarray, keep: np.ndarray) -> Vectors:
    """Returns what PyTorch makes in float64 of frames `[T, B, C, H, W]` and `keep_memory` `[T, B]`."""
    reference = copy.deepcopy(classifier).double()
    state = reference.initial_state(frames.shape[1], *frames.shape[-2:])
    logits = []
    with torch.inference_mode():
        for frame, kept in zip(torch.from_numpy(frames).double(), torch.from_numpy(keep).double(), strict=True):
            found, state = reference.step(frame, mask_state(state, kept))
            logits.append(found)
    outputs = {"logits": torch.stack(logits), "probabilities": torch.stack(logits).softmax(2)}
    outputs |= {f"next_state.{name}": value for name, value in state.items()}
    return {name: value.numpy().astype(np.float32) for name, value in outputs.items()}


def run(client: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["node", client / "stream.mjs", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert "    at " not in done.stderr, f"a traceback: {done.stderr}"
    return done


def replay(client: Path, model: Path, vectors: Vectors) -> tuple[int, dict[str, Any]]:
    """Runs the client over vectors; returns its exit code and the JSON document that it prints."""
    path = model.with_suffix(".golden.npz")
    path.write_bytes(golden_bytes(vectors))
    done = run(client, model, path, "--json")
    assert not done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def convrnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vectors]:
    folder = tmp_path_factory.mktemp("con vrnn µ")
    checkpoint = write_checkpoint(folder / "convrnn.ckpt", *CASES["ConvRNNClassifier"])
    return export(checkpoint, folder / "convrnn.onnx")


@pytest.mark.parametrize("case", CASES)
def test_fifty_chained_steps_in_node_give_what_pytorch_gives(client: Path, tmp_path: Path, case: str) -> None:
    model, vectors = export(write_checkpoint(tmp_path / "c.ckpt", *CASES[case]), tmp_path / "model.onnx")
    code, found = replay(client, model, vectors)
    assert (code, found["passed"], found["steps"], found["streams"]) == (0, True, STEPS, STREAMS)
    assert found["outputs"].keys() == vectors.keys() - {"frames", "keep_memory", *tolerance("fp32")}
    assert all(output["max_absolute"] <= 1e-4 and output["relative"] <= 1e-3 for output in found["outputs"].values())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_golden_vectors_of_an_export_pass_by_the_tolerance_in_them(
    client: Path, dataset: Path, tmp_path: Path, precision: Precision
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.ckpt", *CASES["ConvRNNClassifier"])
    data = DataSet(dataset, calibration_split="test", max_accuracy_drop=1.0)
    request = ExportRequest(checkpoint, tmp_path / "out", precisions=(precision,), data=data)
    (exported,) = export_checkpoint(request)
    done = run(client, exported.path, golden_path(exported.path), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["passed"]) == (0, True)
    assert found["tolerance"] == {
        "max_absolute": PRECISIONS[precision].max_absolute,
        "relative": PRECISIONS[precision].relative,
    }
    with np.load(golden_path(exported.path)) as archive:
        vectors = dict(archive)
    # What float32 is asked for, only float32 keeps to.
    code, _ = replay(client, exported.path, {**vectors, **tolerance("fp32")})
    assert code == (0 if precision == "fp32" else 1)


def test_float16_is_fed_and_read(client: Path, convrnn: tuple[Path, Vectors], tmp_path: Path) -> None:
    model, vectors = export(convrnn[0].with_suffix(".ckpt"), tmp_path / "half.onnx", "fp16")
    code, found = replay(client, model, vectors)
    assert code == 0
    # A float16 model differs, and by more than float32 may.
    assert 1e-5 < found["outputs"]["logits"]["max_absolute"] < 0.05
    assert replay(client, model, {**vectors, **tolerance("fp32")})[0] == 1


def test_events_go_in_where_the_graph_makes_its_frames(client: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(write_checkpoint(tmp_path / "c.ckpt", *CASES["ConvRNNClassifier"]))
    classifier = loaded.build_model()
    contract = OnnxEventsFormat().contract(contract_of(loaded, classifier), ExportOptions())
    OnnxEventsFormat().write(ExportJob(classifier, contract), tmp_path / "model.events.onnx")
    rng = np.random.default_rng(5)
    side = contract.frame_shape[-1]
    # x, y, polarity, time; few pixels, so that some of them saturate.
    events = rng.integers(0, [side // 4, side // 4, 2, contract.delta_t], (STEPS, 500, 4))
    frames = np.zeros((STEPS, 1, 2, side, side))
    for k in range(STEPS):
        for x, y, polarity, _ in events[k]:
            frames[k, 0, polarity, y, x] = min(frames[k, 0, polarity, y, x] + 1 / 5, 1)
    assert frames.max() == 1
    keep = np.ones((STEPS, 1), np.float32)
    keep[20] = 0
    vectors = {"events": events, "keep_memory": keep, **expected(classifier, frames, keep), **tolerance("fp32")}
    code, found = replay(client, tmp_path / "model.events.onnx", vectors)
    assert (code, found["steps"], found["streams"]) == (0, STEPS, 1)


def test_client_resets_a_graph_that_has_no_keep_memory(
    client: Path, convrnn: tuple[Path, Vectors], tmp_path: Path
) -> None:
    model, vectors = export(convrnn[0].with_suffix(".ckpt"), tmp_path / "without.onnx", keep_memory=False)
    assert "keep_memory" not in {value.name for value in onnx.load(model).graph.input}
    code, _ = replay(client, model, vectors)
    assert code == 0
    code, found = replay(client, model, {**vectors, "keep_memory": np.ones_like(vectors["keep_memory"])})
    assert code == 1
    assert found["outputs"]["logits"]["max_absolute"] > 1e-4


def test_state_fed_back_under_another_name_is_refused(
    client: Path, convrnn: tuple[Path, Vectors], tmp_path: Path
) -> None:
    model, vectors = convrnn
    graph = onnx.load(model)
    names = {"next_state.conv2.0.h": "next_state.conv2.0.c", "next_state.conv2.0.c": "next_state.conv2.0.h"}
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.graph.output:
        value.name = names.get(value.name, value.name)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, tmp_path / "swapped.onnx")
    code, found = replay(client, tmp_path / "swapped.onnx", vectors)
    assert (code, found["passed"]) == (1, False)
    assert found["outputs"]["logits"]["max_absolute"] > 1e-3


def test_vectors_of_another_state_are_refused(client: Path, convrnn: tuple[Path, Vectors]) -> None:
    model, vectors = convrnn
    h, c = "next_state.conv2.1.h", "next_state.conv2.1.c"
    code, found = replay(client, model, {**vectors, h: vectors[c], c: vectors[h]})
    assert code == 1
    wrong = {name for name, output in found["outputs"].items() if output["max_absolute"] > 1e-4}
    assert wrong == {h, c}


@pytest.mark.parametrize("value", [0.001, np.nan])
def test_one_wrong_number_is_found_at_its_step(client: Path, convrnn: tuple[Path, Vectors], value: float) -> None:
    model, vectors = convrnn
    logits = vectors["logits"].copy()
    logits[30, 1, 2] += value
    code, found = replay(client, model, {**vectors, "logits": logits})
    assert (code, found["outputs"]["logits"]["worst_step"]) == (1, 30)


def test_either_difference_fails_a_model_and_the_relative_one_is_that_of_the_norms(
    client: Path, convrnn: tuple[Path, Vectors]
) -> None:
    model, vectors = convrnn
    noise = np.random.default_rng(9).normal(0, 0.01, vectors["logits"].shape)
    changed = {**vectors, "logits": (vectors["logits"] + noise).astype(np.float32)}
    share = np.linalg.norm(noise) / np.linalg.norm(changed["logits"])
    for max_absolute, relative, code in [(1.0, share * 1.05, 0), (1.0, share * 0.95, 1), (0.01, 1.0, 1)]:
        bounds = {"tolerance.max_absolute": np.array(max_absolute), "tolerance.relative": np.array(relative)}
        returned, found = replay(client, model, {**changed, **bounds})
        assert (returned, found["tolerance"]) == (code, {"max_absolute": max_absolute, "relative": relative})
        assert found["outputs"]["logits"]["relative"] == pytest.approx(share, rel=0.01)


def test_output_that_should_be_zero_and_is_not_fails(client: Path, convrnn: tuple[Path, Vectors]) -> None:
    model, vectors = convrnn
    wide = {"tolerance.max_absolute": np.array(1e6), "tolerance.relative": np.array(1e6)}
    assert replay(client, model, {**vectors, **wide})[0] == 0
    assert replay(client, model, {**vectors, **wide, "logits": np.zeros_like(vectors["logits"])})[0] == 1


def test_table_says_what_the_document_says(client: Path, convrnn: tuple[Path, Vectors]) -> None:
    model, vectors = convrnn
    path = model.with_suffix(".golden.npz")
    _, found = replay(client, model, vectors)
    done = run(client, model, path)
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert [row[0] for row in rows] == list(found["outputs"])
    for row in rows:
        for column, name in enumerate(("max_absolute", "mean_absolute", "relative"), 1):
            assert float(row[column]) == pytest.approx(found["outputs"][row[0]][name], rel=0.01)
    assert "50 chained steps of 2 stream(s)" in done.stdout
    assert "tolerance: max abs 0.0001, relative 0.001." in done.stdout


def _damage(content: bytes, how: str) -> bytes:
    if how == "cut short":
        return content[: len(content) // 2]
    if how == "a flipped bit":
        return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    return b"not an archive"


@pytest.mark.parametrize("how", ["cut short", "a flipped bit", "something else"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_vectors_fail_with_a_sentence(
    client: Path, convrnn: tuple[Path, Vectors], tmp_path: Path, how: str, save: Any
) -> None:
    model, vectors = convrnn
    path = tmp_path / "vectors.npz"
    save(path, **vectors)
    assert run(client, model, path).returncode == 0
    path.write_bytes(_damage(path.read_bytes(), how))
    done = run(client, model, path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{path}: ")


def test_vectors_without_an_array_or_of_another_model_fail_with_a_sentence(
    client: Path, convrnn: tuple[Path, Vectors], tmp_path: Path
) -> None:
    model, vectors = convrnn
    path = tmp_path / "vectors.npz"
    for name in vectors:
        np.savez(path, **{other: values for other, values in vectors.items() if other != name})
        done = run(client, model, path)
        assert (done.returncode, f"lacks {name}" in done.stderr) == (1, True)
    np.savez(path, **{**vectors, "frames": vectors["frames"][..., 1:]})
    assert "a step takes" in run(client, model, path).stderr
    for bound in (np.array(np.nan), np.array(-1.0), np.ones(2)):
        np.savez(path, **{**vectors, "tolerance.relative": bound})
        done = run(client, model, path)
        assert (done.returncode, "tolerance.relative is no number" in done.stderr) == (1, True)
    np.savez(path, **{**vectors, "logits": vectors["logits"][:0]})
    assert run(client, model, path).returncode == 1


def test_wrong_usage_is_told_from_a_failure(client: Path, convrnn: tuple[Path, Vectors], tmp_path: Path) -> None:
    model, vectors = convrnn
    path = tmp_path / "vectors.npz"
    np.savez(path, **vectors)
    for arguments in (
        [model],
        [model, tmp_path / "none.npz"],
        [model, path, "--colour"],
    ):
        done = run(client, *arguments)
        assert done.returncode == 2
        assert "Usage: node stream.mjs" in done.stderr
    done = run(client, path, path)
    assert (done.returncode, done.stderr.startswith(f"{path}: ")) == (1, True)


def evaluate(client: Path, script: str, given: bytes = b"") -> bytes:
    """Runs a module beside the client's; `given` is on its standard input."""
    module = client / f"{hashlib.sha256(script.encode()).hexdigest()}.mjs"
    module.write_text(script, encoding="utf-8")
    return subprocess.run(["node", module], input=given, capture_output=True, check=True, timeout=120).stdout


def test_float16_rounds_as_numpy_does(client: Path) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact = halves.astype(np.float32)
    finite = np.sort(exact[np.isfinite(exact)])
    ties = (finite[1:] + finite[:-1]) / 2
    near = [np.nextafter(ties, np.float32(towards)) for towards in (-np.inf, np.inf)]
    large = np.array([65519.99, 65520, 65536, 1e30, np.inf, -np.inf, 1e-30, -1e-30], np.float32)
    values = np.concatenate([exact, ties, *near, large])
    script = """
        import { readFileSync } from 'node:fs';
        import { fromHalf, toHalf } from './half.mjs';
        const given = readFileSync(0);
        const halves = toHalf(new Float32Array(Uint8Array.from(given).buffer));
        process.stdout.write(Buffer.concat([halves, fromHalf(halves)].map((a) => Buffer.from(a.buffer))));
    """
    found = evaluate(client, script, values.tobytes())
    patterns = np.frombuffer(found, np.float16, len(values))
    with np.errstate(over="ignore"):
        right = values.astype(np.float16)
    np.testing.assert_array_equal(patterns, right)
    np.testing.assert_array_equal(np.signbit(patterns), np.signbit(right))
    np.testing.assert_array_equal(np.frombuffer(found, np.float32, offset=2 * len(values)), right.astype(np.float32))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_reader_reads_what_numpy_wrote(client: Path, save: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        kind: rng.integers(0, 100, shape).astype(kind)
        for kind, shape in {"f2": (3, 2), "f4": (2, 1, 4), "f8": (), "u1": (5,), "i4": (0, 3), "i8": (1, 7)}.items()
    }
    file = io.BytesIO()
    save(file, **{f"state.{name}": values for name, values in arrays.items()})
    script = """
        import { readFileSync } from 'node:fs';
        import { readNpz } from './npz.mjs';
        const entries = [...readNpz(readFileSync(0))].map(([name, a]) => [name, [a.shape, [...a.data].map(Number)]]);
        console.log(JSON.stringify(Object.fromEntries(entries)));
    """
    found = json.loads(evaluate(client, script, file.getvalue()))
    right = {f"state.{name}": [list(a.shape), a.ravel().astype(float).tolist()] for name, a in arrays.items()}
    assert found == right


@pytest.mark.parametrize(
    "array", [np.asfortranarray(np.ones((2, 3))), np.ones(2, ">f4"), np.ones(2, np.complex64)], ids=str
)
def test_npz_reader_refuses_what_it_would_misread(client: Path, array: np.ndarray) -> None:
    file = io.BytesIO()
    np.savez(file, x=array)
    script = """
        import { readFileSync } from 'node:fs';
        import { DamagedFileError, readNpz } from './npz.mjs';
        try { readNpz(readFileSync(0)); } catch (error) { console.log(error instanceof DamagedFileError); }
    """
    assert evaluate(client, script, file.getvalue()) == b"true\n"


def test_reset_clears_one_stream_before_its_next_step_only(client: Path, convrnn: tuple[Path, Vectors]) -> None:
    model, vectors = convrnn
    side = vectors["frames"].shape[-1]
    script = f"""
        import {{ StepModel }} from './step_model.mjs';
        const frames = Float32Array.from({{ length: 2 * 2 * {side} * {side} }}, (_, i) => (i % 7 === 0 ? 0.5 : 0));
        const played = async (...resets) => {{
          const model = await StepModel.load({json.dumps(str(model))}, 2);
          const logits = [];
          for (const streams of resets) {{
            streams.forEach((stream) => model.reset(stream));
            logits.push([...(await model.step(frames)).logits.data]);
          }}
          return logits;
        }};
        console.log(JSON.stringify([await played([], [], [], []), await played([], [], [1], [])]));
    """
    on, reset = np.array(json.loads(evaluate(client, script))).reshape(2, 4, STREAMS, -1)
    np.testing.assert_allclose(reset[:, 0], on[:, 0], atol=1e-6)
    # The second stream's third and fourth steps are its first and second over again.
    np.testing.assert_allclose(reset[2:, 1], on[:2, 1], atol=1e-6)
    assert np.abs(reset[2, 1] - on[2, 1]).max() > 1e-4


def test_example_of_the_read_me_runs(client: Path, convrnn: tuple[Path, Vectors]) -> None:
    model, vectors = convrnn
    (example,) = re.findall(r"```js\n(.*?)```", (SAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    side = vectors["frames"].shape[-1]
    adapted = example.replace("MODEL.onnx", model.as_posix()).replace("64 * 64", f"{side} * {side}")
    assert b"[ 2, 3 ] Float32Array(6)" in evaluate(client, adapted)


def test_packages_are_pinned_by_checksum_and_run_no_scripts() -> None:
    lock = json.loads((SAMPLE / "package-lock.json").read_text())["packages"]
    (version,) = json.loads((SAMPLE / "package.json").read_text())["dependencies"].values()
    assert lock.pop("")["dependencies"] == {"onnxruntime-node": version}
    assert lock["node_modules/onnxruntime-node"]["version"] == version
    assert all(package["integrity"].startswith("sha512-") for package in lock.values())
    assert "ignore-scripts=true" in (SAMPLE / ".npmrc").read_text().splitlines()
