from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest

from edgeclf_runtime.benchmark.document import from_document, read_document, to_document
from edgeclf_runtime.benchmark.results import (
    BenchReport,
    Latencies,
    Limit,
    Ratio,
    Result,
    Setting,
    Stages,
)
from edgeclf_runtime.errors import InputFileError

SETTING = Setting("gestures", "edgeclf", "cpu", "fp32", 2)
LATENCIES = Latencies(6, 8.5, 9.5, 9.9, 9.99, 10.0, [5, 1], [8.0, 9.0, 10.5], [[8.0, 9.0], [8.5, 8.25]])
PLAIN = Result(SETTING, LATENCIES, 117.0, 15.5, 40.0, 120.0, 75.0)
FULL = Result(
    replace(SETTING, backend="ort", streams=3, pace="paced"),
    LATENCIES, 30.0, 16.0, 50.0, 130.0, 80.0, 1.5, 0.25, Ratio(0.9, 0.8, 1.1), 12_345_678, 0.4,
)  # fmt: skip
STAGE = {"p50_us": 1.0, "p95_us": 2.0, "p99_us": 3.0, "max_us": 4.0}
REPORT = BenchReport(
    {"processor": "Cortex-A76 ☕", "cores": 4},
    "edgeclf",
    0.5,
    [PLAIN, FULL],
    [Stages("gestures", 2, 33_000, 100, {"decode": STAGE, "inference": STAGE})],
    [Limit("cpu", 2, 123.5, "ort conv 3×3")],
    [("gestures: compile fp32 on cpu", "It failed.")],
)


def test_round_trip():
    document = json.loads(json.dumps(to_document(REPORT)))
    assert from_document(document, "a.json") == REPORT
    assert to_document(from_document(document, "a.json")) == document


def test_the_fields_that_scripts_rely_on_stand_side_by_side():
    row = to_document(REPORT)["results"][1]
    assert row == {
        "model": "gestures", "backend": "ort", "device": "cpu", "precision": "fp32", "threads": 2, "streams": 3,
        "pace": "paced", "steps": 6, "p50_us": 8.5, "p95_us": 9.5, "p99_us": 9.9, "p999_us": 9.99, "max_us": 10.0,
        "counts": [5, 1], "edges_us": [8.0, 9.0, 10.5], "burst_p50_us": [[8.0, 9.0], [8.5, 8.25]],
        "frames_per_second": 30.0, "cpu_us_per_frame": 16.0, "first_us": 50.0, "load_ms": 130.0, "peak_rss_mb": 80.0,
        "energy_mj_per_frame": 1.5, "late": 0.25, "ratio": {"median": 0.9, "low": 0.8, "high": 1.1},
        "macs": 12_345_678, "share_of_limit": 0.4,
    }  # fmt: skip
    assert set(to_document(REPORT)) == {
        "machine", "baseline", "timing_overhead_us", "results", "stages", "limits", "left_out",
    }  # fmt: skip


def test_what_a_later_version_added_is_left_out():
    document = to_document(REPORT)
    document["results"][0]["phase_of_the_moon"] = 3
    assert from_document(document | {"more": {}}, "a.json") == REPORT


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["results"], None),
        (["results", 0], 3),
        (["results", 0, "p50_us"], "fast"),
        (["results", 0, "pace"], "leisurely"),
        (["results", 1, "ratio"], {"median": 1}),
        (["stages", 0, "stages"], [1]),
        (["limits", 0], {}),
        (["left_out"], [["a", "b"]]),
        (["machine"], 5),
        (["timing_overhead_us"], math.nan),
        (["results", 0, "p999_us"], math.inf),
        (["results", 0, "p50_us"], 0),
        (["results", 0, "load_ms"], 10**400),
        (["results", 0, "steps"], math.inf),
        (["results", 0, "threads"], 0),
        (["results", 0, "counts"], []),
        (["results", 0, "counts"], [1, 2, 3]),
        (["results", 0, "counts"], [0, 0]),
        (["results", 0, "counts"], [7, -1]),
        (["results", 0, "edges_us"], [8.0, 9.0]),
        (["results", 0, "edges_us"], [8.0, 8.0, 9.0]),
        (["results", 0, "edges_us"], [0.0, 8.0, 9.0]),
        (["results", 0, "burst_p50_us"], []),
        (["results", 0, "burst_p50_us"], [[]]),
        (["results", 0, "burst_p50_us"], [[1.0, 2.0], [1.0]]),
        (["results", 0, "burst_p50_us"], [[1.0, 0.0]]),
        (["results", 0, "burst_p50_us"], [[1.0, math.nan]]),
        (["results", 1, "ratio", "low"], -1),
        (["stages", 0, "stages"], {}),
        (["stages", 0, "stages", "decode"], {"p50_us": 1.0}),
        (["stages", 0, "delta_t"], 0),
        (["limits", 0, "gmacs_per_second"], 0),
    ],
)
def test_what_is_no_report(place, value):
    document = copy.deepcopy(to_document(REPORT))
    part = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(
        InputFileError, match=r"^old\.json: this is not what `edgeclf bench --json` writes \(.+\); meas"
    ):
        from_document(document, "old.json")


def test_facts_of_a_later_version_that_are_no_words_are_left_out():
    document = to_document(REPORT)
    document["machine"]["cores"] = {"fast": 4}
    assert from_document(document, "a.json").machine == {"processor": "Cortex-A76 ☕"}


def test_a_file(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(to_document(REPORT)))
    assert read_document(path) == REPORT


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "this is no JSON"),
        (b"\xff\xfe", "this is no JSON"),
        (b"[" * 100_000, "this is nested too deeply"),
        (json.dumps(to_document(replace(REPORT, timing_overhead_us=math.nan))).encode(), "NaN is no number"),
        (b'{"results": 1e999}', "this is not what"),
    ],
)
def test_files_that_hold_no_report(tmp_path, content, why):
    path = tmp_path / "old.json"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=rf"^{path}: .*{why}.*`edgeclf bench"):
        read_document(path)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(InputFileError, match=rf"^{path}: the results cannot be read \(.+\)\.$"):
            read_document(path)


@pytest.mark.parametrize("document", [[], {}, None, 3, "text", {"passed": True}])
def test_other_documents(document):
    with pytest.raises(InputFileError, match=r"old\.json: this is not what `edgeclf bench"):
        from_document(document, "old.json")
