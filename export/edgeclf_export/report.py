"""The report: one HTML file with the KPIs of both sides and, where there is a stream, a picture of it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgeclf_export.parity import ParityReport
from edgeclf_runtime.files import written_whole
from edgeclf_runtime.outputs.event_image import event_image, image_scale
from edgeclf_runtime.streaming import StreamPrediction

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; width: 100% } th, td { text-align: right; padding: .25rem .5rem }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) { background: #f4f4f4 }
img { max-width: 100% } .passed { color: #17692b } .failed { color: #a31515; font-weight: bold }
div { overflow-x: auto }
"""


def write_report(
    path: Path, parity: ParityReport, facts: Sequence[tuple[str, str]], picture: Figure | None = None
) -> None:
    """Writes the page.

    Args:
        path: The `.html` file; needs nothing beside it.
        parity: The KPI comparison.
        facts: What stands above the table, name and value.
        picture: A figure to show.
    """
    verdict = "passed" if parity else "failed"
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{kpi.reference:.4f}</td><td>{kpi.exported:.4f}</td>"
        f"<td>{kpi.difference_text}</td><td>{kpi.tolerance:g}</td>"
        f"<td class={'passed' if kpi.passed else 'failed'}>{'passed' if kpi.passed else 'failed'}</td></tr>"
        for name, kpi in parity.kpis.items()
    )
    listed = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts)
    image = (
        "" if picture is None else f'<h2>The stream</h2><img alt="predictions over time" src="{_data_url(picture)}">'
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>edgeclf: parity {verdict}</title><style>{_STYLE}</style>"
        f'<h1>KPI parity: <span class="{verdict}">{verdict}</span></h1><div><table>{listed}</table></div>{image}'
        "<h2>KPIs</h2><p>The same recordings through the checkpoint in PyTorch and through the exported file, each "
        "with its own memory. nan: not defined on this split.</p><div><table><tr><th>KPI</th><th>PyTorch</th>"
        "<th>exported</th>"
        f"<th>difference</th><th>tolerance</th><th></th></tr>{rows}</table></div></html>"
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def stream_picture(
    frames: Sequence[NDArray[np.float32]], predictions: Sequence[StreamPrediction], labels: Sequence[str]
) -> Figure:
    """Draws a stream: event frames along the time axis, and the probability of each class under them.

    Args:
        frames: The event frame of each prediction, `[C, H, W]`.
        predictions: The stream's predictions.
        labels: Name of each output.
    """
    seconds = np.array([p.t_us for p in predictions]) / 1e6
    probabilities = np.array([p.probabilities for p in predictions])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    shown = np.linspace(0, len(frames) - 1, min(10, len(frames))).round().astype(int)
    scale = image_scale([frames[k] for k in shown])
    grid = figure.add_gridspec(2, len(shown), height_ratios=[1, 2])
    for column, k in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(event_image(frames[k], scale))
        axes.set_title(f"{seconds[k]:.1f} s\n{predictions[k].label}", fontsize=8)
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    for column, label in enumerate(labels):
        axes.plot(seconds, probabilities[:, column], label=label, color="#b0b0b0" if label == "background" else None)
    axes.set(xlabel="time in s", ylabel="probability", ylim=(0, 1.02), xlim=(seconds[0], seconds[-1]))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _data_url(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
