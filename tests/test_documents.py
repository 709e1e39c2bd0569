"""The documents' code runs as it stands, and what they link to is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import torch

from edgeclf.hyperparameters import HyperParameters
from edgeclf_export.demo import export_sample
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.formats import formats_table
from edgeclf_export.shipped import find_samples
from edgeclf_runtime.precision import PRECISIONS

ROOT = Path(__file__).parents[1]


def _programs_of(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_sample(find_samples(), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def without_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    hyper = HyperParameters("SqueezenetClassifier", ("background", "a"), 48, 48, 10_000, "histo")
    weights = {f"net.{name}": value for name, value in hyper.build_model().state_dict().items()}
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, folder / "a.ckpt")
    return next(iter(export_checkpoint(ExportRequest(folder / "a.ckpt", folder)))).path


@pytest.mark.parametrize("model", ["gestures", "without_memory"])
def test_the_contracts_program_runs_any_exported_model(
    model: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(request.getfixturevalue(model), tmp_path / "best.onnx")
    monkeypatch.chdir(tmp_path)
    (program,) = _programs_of("docs/contract.md")
    exec(program, {})
    assert capsys.readouterr().out.count("[[") == 5


def test_the_readmes_program_streams_a_recording(
    gestures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(gestures, tmp_path / "best.onnx")
    shutil.copy(find_samples().recording, tmp_path / "recording.raw")
    monkeypatch.chdir(tmp_path)
    (program,) = _programs_of("README.md")
    exec(program, {})
    assert "scissors" in capsys.readouterr().out


def test_the_parity_pages_test_passes(gestures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = find_samples()
    for source, name in ((samples.checkpoint, "best.ckpt"), (gestures, "best.onnx"), (samples.dataset, "dataset")):
        (tmp_path / name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    (program,) = _programs_of("docs/parity.md")
    names: dict[str, Callable[[], None]] = {}
    exec(program, names)
    names["test_parity"]()


def test_the_preprocessing_pages_programs_run() -> None:
    """In a process of its own, as one of them registers a preprocessing."""
    built_in, of_ones_own = _programs_of("docs/preprocessing.md")
    program = f"""{built_in}
assert frame.shape == (6, 480, 640) and (frame != 0).sum() == 1 and abs(frame[1, 5, 7] - 0.65 / 5) < 1e-6
{of_ones_own}
seen = create_preprocessing("seen", sensor_size=(640, 480), delta_t=10_000)(events, 20_000)
assert np.argwhere(seen).tolist() == [[0, 5, 7]]
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


DOCUMENTS = [
    "README.md",
    "benchmarks/README.md",
    "samples/README.md",
    *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
]


def _targets_of(document: str) -> list[str]:
    """Returns where a document's links and pictures lead that are no web pages; programs may look like links."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(<?([^)\s>]+)|(?:src|href)=\"([^\"]+)|^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    return [target for groups in found for target in groups if target and not re.match(r"[a-z]+:", target)]


def _anchors_of(document: Path) -> set[str]:
    """Returns what a document's headings are called in links, as GitHub does."""
    headings = re.findall(r"^#+ +(.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", sorted(DOCUMENTS))
def test_what_a_document_links_to_is_there(document: str) -> None:
    missing = []
    for target in _targets_of(document):
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        if not path.exists() or (anchor and anchor not in _anchors_of(path)):
            missing.append(target)
    assert missing == []


def test_links_are_found() -> None:
    """What the test above stands on."""
    assert {"docs/images/demo.png", "docs/parity.md", "benchmarks/README.md"} <= set(_targets_of("README.md"))
    assert "#cuda" in _targets_of("docs/deployment.md")


def _markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def formats_in_markdown() -> str:
    header, rows = formats_table()
    code = {header.index(name) for name in ("format", "file")}
    return _markdown(header, [[f"`{cell}`" if i in code else cell for i, cell in enumerate(row)] for row in rows])


def tolerances_in_markdown() -> str:
    header = ("precision", "largest difference", "difference as a share of the output's size", "same class", "tie")
    rows = [
        (name, f"{t.max_absolute:g}", f"{t.relative:.1%}", f"{t.top1:.0%} of the frames", f"{t.tie:g}")
        for name, t in PRECISIONS.items()
    ]
    return _markdown(header, rows)


@pytest.mark.parametrize("table", [formats_in_markdown, tolerances_in_markdown])
def test_the_page_on_export_has_the_registrys_tables(table: Callable[[], str]) -> None:
    assert table() in (ROOT / "docs/export.md").read_text(encoding="utf-8"), table()


@pytest.mark.slow
def test_the_export_pages_programs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = ExportRequest(find_samples().checkpoint, tmp_path, ("onnx-events", "pt2", "torchscript"), name="best")
    assert len(list(export_checkpoint(request))) == 3
    of_events, positional = _programs_of("docs/export.md")
    monkeypatch.chdir(tmp_path)
    exec(of_events, {})
    assert capsys.readouterr().out.count("[[") == 2
    exec(positional, {})
    assert capsys.readouterr().out.count("[[") == 5
