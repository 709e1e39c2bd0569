from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgeclf_export.benchmark.figures import draw_budget, draw_histograms, draw_percentiles, draw_ratios
from edgeclf_export.benchmark.page import check_can_draw, write_bench_page
from edgeclf_runtime.benchmark.results import BenchReport, Latencies, Limit, Ratio, Result, Setting, Stages
from edgeclf_runtime.errors import MissingPackageError

PHONE, DESKTOP = 375, 1280
NASTY = "<b>rock & roll</b> $x$ 手"
BACKENDS = {"eager": 2.6, "torchscript": 2.2, "compile": 1.5, "ort": 1.03, "edgeclf": 1.0}
"""How many times as long as this runtime each takes."""


def sampled(median_us: float, seed: int, steps: int = 2400) -> np.ndarray:
    """Returns latencies as machines have them: a narrow peak, a tail, and a few steps that something came between."""
    rng = np.random.default_rng(seed)
    us = median_us * np.exp(rng.normal(0, 0.03, steps) + rng.exponential(0.02, steps))
    return us * np.where(rng.random(steps) < 0.004, rng.uniform(2, 8, steps), 1)


def summed_up(us: np.ndarray) -> Latencies:
    edges = np.geomspace(us.min() * 0.999, us.max() * 1.001, 201)
    return Latencies(
        us.size,
        *np.percentile(us, (50, 95, 99, 99.9, 100)).tolist(),
        np.histogram(us, edges)[0].tolist(),
        edges.tolist(),
        np.median(us.reshape(3, 10, -1), axis=2).tolist(),
    )


def row(setting: Setting, median_us: float, ratio: float | None, seed: int) -> Result:
    latencies = summed_up(sampled(median_us, seed))
    return Result(
        setting,
        latencies,
        frames_per_second=1e6 / median_us,
        cpu_us_per_frame=median_us * setting.threads,
        first_us=12 * median_us,
        load_ms=1800.0,
        peak_rss_mb=412.5,
        late=0.001 if setting.pace == "paced" else None,
        ratio=None if ratio is None else Ratio(ratio, 0.96 * ratio, 1.05 * ratio),
        macs=310_000_000,
        share_of_limit=0.8 / BACKENDS.get(setting.backend, 1),
    )


def report(models=("gestures",), backends=tuple(BACKENDS), threads=(1, 2), paces=("back-to-back", "paced")):
    results, stages, seed = [], [], 0
    for number, model in enumerate(models):
        for pace in paces:
            for count in threads:
                for backend in backends:
                    seed += 1
                    own = 900 * (1 + number) / count**0.7 * (1.3 if pace == "paced" else 1)
                    times = BACKENDS.get(backend, 1)
                    ratio = None if backend == backends[0] else BACKENDS.get(backends[0], 1) / times
                    setting = Setting(model, backend, "cpu", "fp32", count, pace=pace)
                    results.append(row(setting, own * times, ratio, seed))
        for count in threads:
            parts = {"decode": 60.0, "preprocess": 210.0, "inference": 900.0 * (1 + number) / count, "output": 8.0}
            spread = {
                name: {"p50_us": us, "p95_us": 1.2 * us, "p99_us": 1.6 * us, "max_us": 4 * us}
                for name, us in parts.items()
            }
            stages.append(Stages(model, count, 10_000, 400, spread))
    return BenchReport(
        machine={
            "processor": "Intel(R) Xeon(R) Processor @ 2.10GHz",
            "cores": 2,
            "quota of cores": 2.0,
            "frames": "gestures.raw, 120×160, delta_t 10 ms",
            "packages": {"onnxruntime": "1.22", "torch": "2.13.0"},
            "asked for": ["gestures.onnx", "--paced"],
        },
        baseline=backends[0],
        timing_overhead_us=0.412,
        results=results,
        stages=stages,
        limits=[Limit("cpu", count, 61.27 * count, "ort conv 3×3") for count in threads],
        left_out=[("openvino", "it is not installed; pip install 'edgeclf[openvino]'")],
    )


def opened(open_page, folder, what: BenchReport, width: int = DESKTOP):
    write_bench_page(folder / "page.html", what)
    return open_page(folder / "page.html", width)


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory):
    """A page with everything on it."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_bench_page(path, report())
    return path


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_is_whole_and_fits_the_screen(open_page, whole_page, width):
    seen = open_page(whole_page, width)
    assert seen.console == []
    assert seen.requests == []
    assert seen.overflow <= 0
    # Two pictures for each pace and number of threads, one of ratios for each pace, and two of the budget.
    assert len(seen.pictures) == 2 * (2 * 2 + 1) + 2
    assert all(width > 100 and height > 100 for width, height in seen.pictures)


def test_the_page_says_what_was_measured_where_and_how(open_page, whole_page):
    text = open_page(whole_page).text
    assert text.startswith("edgeclf bench\n")
    for said in (
        "Intel(R) Xeon(R) Processor @ 2.10GHz",
        "onnxruntime 1.22, torch 2.13.0",
        "gestures.onnx, --paced",
        "gestures, back-to-back",
        "gestures, paced",
        "2.60 (2.50 to 2.73)",
        "eager, 2 threads",
        "peak MB",
        "0.0600 / 0.0960",
        "ort conv 3×3",
        "61.3",
        "80.0 %",
        "it is not installed; pip install 'edgeclf[openvino]'",
        "in 3 processes of its own",
        "each of 10 rounds",
        "takes 0.412 µs",
    ):
        assert said in text
    order = ["Intel", "gestures, back-to-back", "gestures, paced", "The budget", "The limit", "Left out", "How it was"]
    assert sorted(order, key=text.index) == order


def test_a_row_has_the_percentiles_of_its_steps(open_page, whole_page):
    text = open_page(whole_page).text
    rows = [line.split("\t") for line in text[: text.index("gestures, paced")].splitlines()]
    cells, costs = (row[1:] for row in rows if row[0] == "torchscript, 2 threads")
    number = next(
        i for i, one in enumerate(report().results) if (one.setting.backend, one.setting.threads) == ("torchscript", 2)
    )
    us = sampled(900 / 2**0.7 * BACKENDS["torchscript"], 1 + number)
    expected = np.percentile(us, (50, 95, 99, 99.9, 100)) / 1000
    assert [float(cell) for cell in cells[:5]] == pytest.approx(expected.tolist(), rel=0.01)
    assert cells[5:] == ["1.18 (1.13 to 1.24)", "2400"]
    assert costs[-2:] == ["412", "36.4 %"]


def test_what_nothing_is_known_of_has_no_column_and_no_section(open_page, tmp_path):
    what = report(threads=(1,), paces=("back-to-back",), backends=("edgeclf",))
    alone = [replace(result, share_of_limit=None) for result in what.results]
    bare = replace(what, results=alone, stages=(), limits=(), left_out=())
    seen = opened(open_page, tmp_path, bare)
    for heading in ("energy", "\tlate", "limit", "times as fast", "The budget", "Left out", "at a glance"):
        assert heading not in seen.text
    assert len(seen.pictures) == 2
    energy = replace(what, results=[replace(result, energy_mj_per_frame=3.21) for result in what.results])
    assert "energy mJ" in opened(open_page, tmp_path, energy).text


def test_many_models_stand_under_headings_of_their_own_and_at_a_glance(open_page, tmp_path):
    what = report(models=("first", "second", "third"), threads=(1,), paces=("back-to-back",))
    text = opened(open_page, tmp_path, what).text
    order = ["Medians at a glance", "first, back-to-back", "second, back-to-back", "third, back-to-back", "The budget"]
    assert sorted(order, key=text.index) == order


def test_names_that_are_hard_to_show(open_page, tmp_path):
    what = report(models=(NASTY, "a_very_long_name_of_a_model_" * 8), threads=(1,), backends=("eager", NASTY))
    seen = opened(open_page, tmp_path, what, PHONE)
    assert f"{NASTY}, paced" in seen.text
    assert seen.console == []
    assert seen.overflow <= 0
    assert all(width > 0 for width, _ in seen.pictures)


def test_a_histogram_shows_every_step_and_its_peak_is_the_median():
    us = {"narrow": sampled(1000, 1), "wide": sampled(4000, 2)}
    figure = draw_histograms({name: summed_up(of) for name, of in us.items()}, dict.fromkeys(us, (0, 0, 0)))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    outlines = [patch for patch in axes.patches if not patch.get_fill()]
    for outline, of in zip(outlines, us.values(), strict=True):
        shares, edges, _ = outline.get_data()
        assert shares.sum() == pytest.approx(100)
        assert edges[shares.argmax()] < np.median(of) / 1000 * 1.05
        assert edges[shares.argmax() + 1] > np.median(of) / 1000 * 0.95
        expected = 100 * np.histogram(of / 1000, edges)[0] / of.size
        assert np.abs(np.cumsum(shares) - np.cumsum(expected)).max() < 2  # interpolated within the bins that were kept


def test_a_percentile_curve_goes_through_the_percentiles():
    us = sampled(1000, 3)
    figure = draw_percentiles({"it": summed_up(us)}, {"it": (0, 0, 0)})
    ((nines, ms),) = (line.get_data() for line in figure.axes[0].lines)
    for percent in (50, 90, 99, 99.9):
        found = np.interp(-np.log10(1 - percent / 100), nines, ms)
        assert found == pytest.approx(np.percentile(us, percent) / 1000, rel=0.05)
    assert ms[-1] == pytest.approx(us.max() / 1000, rel=0.02)
    assert (np.diff(ms) >= 0).all()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["0", "50", "90", "99", "99.9"]


@pytest.mark.parametrize("same", [[812.0], [812.0] * 30])
def test_steps_that_all_take_the_same_time_can_be_drawn(same):
    latencies = Latencies(len(same), *same[:1] * 5, [0, len(same), 0], [800, 810, 820, 830], [[812.0]])
    for draw in (draw_histograms, draw_percentiles):
        draw({"it": latencies}, {"it": (0, 0, 0)}).canvas.draw()


@pytest.mark.parametrize("name", ["ort", "torchscript fp16", "metavision fp16 CUDAExecutionProvider", "W" * 60])
def test_a_legend_stays_within_its_picture(name):
    names = [f"{name}{i}" for i in range(6)]
    colours = dict.fromkeys(names, (0, 0, 0))
    figure = draw_percentiles(dict.fromkeys(names, summed_up(sampled(1000, 4))), colours)
    figure.canvas.draw()
    box, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    assert figure.axes[0].get_window_extent().height > whole.height / 3


def test_ratios_have_their_intervals_and_one_is_marked():
    figure = draw_ratios([("a", Ratio(2.0, 1.8, 2.4), (0, 0, 0)), ("b", Ratio(0.5, 0.4, 0.6), (0, 0, 0))], "eager")
    axes = figure.axes[0]
    whiskers = [collection.get_segments()[0] for collection in axes.collections]
    assert np.allclose([segment[:, 0] for segment in whiskers], [[1.8, 2.4], [0.4, 0.6]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    low, high = axes.get_xlim()
    assert low < 0.4
    assert high > 2.4
    assert [1, 1] in [list(line.get_xdata()) for line in axes.lines]


def test_the_stages_of_a_frame_add_up_to_its_share_of_delta_t():
    stages = report(threads=(1,)).stages[0]
    figure = draw_budget([("gestures", stages)], of_delta_t=True)
    ends = {round(patch.get_y(), 2): patch.get_x() + patch.get_width() for patch in figure.axes[0].patches}
    for (_, end), percentile in zip(sorted(ends.items()), ("p50_us", "p99_us"), strict=True):
        assert end == pytest.approx(sum(stage[percentile] for stage in stages.stages.values()) / 100)
    assert figure.axes[0].get_xlim()[1] >= 100


def test_without_matplotlib_the_command_can_say_so_before_it_measures(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"matplotlib.*pip install 'edgeclf\[report\]'"):
        check_can_draw()


def test_a_device_can_make_the_page(tmp_path):
    """No torch is loaded for it, and no Matplotlib before there is something to draw."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from edgeclf_export.benchmark.page import write_bench_page\n"
        "from edgeclf_runtime.benchmark.results import *\n"
        "assert 'matplotlib' not in sys.modules\n"
        "latencies = Latencies(2, 1.5, 2, 2, 2, 2, [1, 1], [1, 1.5, 2], [[1.5]])\n"
        "result = Result(Setting('m', 'edgeclf', 'cpu', 'fp32', 1), latencies, 1, 1, 1, 1, 1)\n"
        "write_bench_page(Path(sys.argv[1]), BenchReport({}, 'edgeclf', 0.1, [result]))\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, tmp_path / "page.html"], check=True)
    assert (tmp_path / "page.html").stat().st_size > 1000
