"""A picture of a stream: event frames over time, and what the classifier made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgeclf.figures import class_colours, new_figure, short
from edgeclf_runtime.outputs.event_image import event_image, image_scale
from edgeclf_runtime.streaming import StreamPrediction

FRAMES_SHOWN = 5


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
    figure = new_figure(5.6, 4.2)
    shown = np.linspace(0, len(frames) - 1, min(FRAMES_SHOWN, len(frames))).round().astype(int)
    scale = image_scale([frames[k] for k in shown])
    grid = figure.add_gridspec(2, len(shown), height_ratios=[1, 1.8])
    for column, k in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(event_image(frames[k], scale), interpolation="none")
        axes.set_title(f"{seconds[k]:.1f} s\n{short(predictions[k].label, 14)}", fontsize=9)
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    for column, (label, colour) in enumerate(zip(labels, class_colours(labels), strict=True)):
        axes.plot(seconds, probabilities[:, column], label=short(label), color=colour)
    axes.set(xlabel="time in s", ylabel="probability", ylim=(0, 1.02))
    axes.margins(x=0)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9, columnspacing=1.2)
    return figure
