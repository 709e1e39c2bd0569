"""Event frames made of events inside an ONNX graph: `histo` and `diff`, then shrinking by area.

The frames equal those of `edgeclf_runtime.preprocessing` to float32 rounding, saturation included. They are counts of
events until the last division: float32 adds these up exactly, to 2**24 of them, as it does there.

A graph is written down as ONNX's own text, piece by piece, and its constants as arrays by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeclf_runtime.contract import EVENTS, FRAMES, Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import Diff, Histo, create_preprocessing

_PREFIX = "preprocess."
"""Of every name inside the frame graph, so that it meets none of the graph that it is joined to."""

_ORDERS = 2**32
"""More than there are events: `pixel · _ORDERS + order` sorts by pixel, and a pixel's events by their order."""

Constants = dict[str, Any]
"""Values, or arrays of them, by the name that the text calls them."""

_CONSTANTS: Constants = {
    "zero": 0, "one": 1, "two": 2, "ones": [1, 1, 1, 1], "axis_0": [0], "axis_1": [1], "minus_1": [-1],
    "no_pixel": [-1], "orders": _ORDERS, "one_event": np.float32(1), "no_shift": np.float32(0),
}  # fmt: skip

# Coordinates are cut off at the sensor's edges, and an event that this moves weighs nothing, so that no index is ever
# out of range; polarities alike. It comes before the division, since ONNX rounds -1/2 to 0.
_PIXELS = """
    x_column, y_column, p_column, t_column = Split <axis = 1> (events, ones)
    x_given = Squeeze (x_column, axis_1)
    y_given = Squeeze (y_column, axis_1)
    p_given = Squeeze (p_column, axis_1)
    x_from_0 = Max (x_given, zero)
    y_from_0 = Max (y_given, zero)
    p_from_0 = Max (p_given, zero)
    x = Min (x_from_0, last_x)
    y = Min (y_from_0, last_y)
    p = Min (p_from_0, one)
    x_fits = Equal (x, x_given)
    y_fits = Equal (y, y_given)
    p_fits = Equal (p, p_given)
    is_inside = And (x_fits, y_fits)
    is_counted = And (is_inside, p_fits)
    weight = Cast <to = 1> (is_counted)
"""
_PIXEL_OF_THE_SENSOR = """
    row_begin = Mul (y, columns)
    pixel = Add (row_begin, x)
"""
_PIXEL_OF_BLOCKS = """
    column = Div (x, block)
    row = Div (y, block)
    row_begin = Mul (row, columns)
    pixel = Add (row_begin, column)
"""

# A count that has reached the limit stays there, and may as well be cut off at the end.
_HISTO = """
    channel_begin = Mul (p, size)
    cell = Add (channel_begin, pixel)
    nothing = ConstantOfShape (cells)
    count = ScatterElements <axis = 0, reduction = "add"> (nothing, cell, weight)
    within = Min (count, highest)
"""

# Positive less negative events of every pixel, and whether that is all there is to know: a pixel can only have
# saturated where one polarity alone exceeds the limit, and where the other has nothing to add, the sum only ever moves
# towards the limit and may be cut off at the end. Where a pixel saw `all` events and the sum is `net`, its larger
# polarity has (all + |net|) / 2 of them. The events of the remaining pixels are sorted by pixel, then by order.
_DIFF = """
    p_float = Cast <to = 1> (p)
    twice_p = Add (p_float, p_float)
    sign = Sub (twice_p, one_event)
    addend = Mul (sign, weight)
    nothing = ConstantOfShape (cells)
    all = ScatterElements <axis = 0, reduction = "add"> (nothing, pixel, weight)
    sum = ScatterElements <axis = 0, reduction = "add"> (nothing, pixel, addend)
    plain = Clip (sum, lowest, highest)
    all_here = GatherElements (all, pixel)
    sum_here = GatherElements (sum, pixel)
    net_here = Abs (sum_here)
    has_both = Greater (all_here, net_here)
    twice_the_larger = Add (all_here, net_here)
    exceeds = Greater (twice_the_larger, twice_highest)
    is_in_turn = And (has_both, exceeds)
    found = NonZero (is_in_turn)
    order = Squeeze (found, axis_0)
    pixel_in_turn = GatherElements (pixel, order)
    addend_in_turn = GatherElements (addend, order)
    pixel_times = Mul (pixel_in_turn, orders)
    key = Add (pixel_times, order)
    how_many = Shape (key)
    sorted_key, sorting = TopK <largest = 0> (key, how_many)
    sorted_pixel = Div (sorted_key, orders)
    sorted_addend = GatherElements (addend_in_turn, sorting)
"""

# A run is the events of one pixel. An event is a map `s -> clip(s + shift, low, high)`, and two of them in a row are
# such a map again: the loop puts neighbours of a run together until one map is left of each, which takes log2 of the
# longest run's length of rounds. The last map of all has no right neighbour and is its own, which is not taken then.
_IN_TURN = """
    no_pixel_and_sorted = Concat <axis = 0> (no_pixel, sorted_pixel)
    pixel_before = Slice (no_pixel_and_sorted, axis_0, minus_1)
    is_same = Equal (sorted_pixel, pixel_before)
    is_first = Not (is_same)
    first_found = NonZero (is_first)
    first = Squeeze (first_found, axis_0)
    runs = Size (first)
    is_first_int = Cast <to = 7> (is_first)
    runs_so_far = CumSum (is_first_int, zero)
    run = Sub (runs_so_far, one)
    first_of_run = GatherElements (first, run)
    count_in_turn = Size (sorted_pixel)
    position = Range (zero, count_in_turn, one)
    nth = Sub (position, first_of_run)
    lows = Expand (lowest, how_many)
    highs = Expand (highest, how_many)
    are_left = Greater (count_in_turn, runs)
    total_shift, total_low, total_high, total_nth = Loop <body = put_together (
        int64 round, bool are_left_in,
        float[maps] shift, float[maps] low, float[maps] high, int64[maps] nth_map
    ) => (
        bool are_left_out, float[pairs] shift_out, float[pairs] low_out, float[pairs] high_out, int64[pairs] nth_out
    ) {
        oddness = Mod (nth_map, two)
        is_odd = Cast <to = 9> (oddness)
        is_left = Not (is_odd)
        left_found = NonZero (is_left)
        left = Squeeze (left_found, axis_0)
        after = Add (left, one)
        map_count = Size (nth_map)
        last_map = Sub (map_count, one)
        right = Min (after, last_map)
        has_right = GatherElements (is_odd, right)
        shift_right = GatherElements (shift, right)
        low_right = GatherElements (low, right)
        high_right = GatherElements (high, right)
        by = Where (has_right, shift_right, no_shift)
        from = Where (has_right, low_right, lowest)
        to = Where (has_right, high_right, highest)
        shift_left = GatherElements (shift, left)
        low_left = GatherElements (low, left)
        high_left = GatherElements (high, left)
        nth_left = GatherElements (nth_map, left)
        shift_out = Add (shift_left, by)
        low_moved = Add (low_left, by)
        low_above = Max (low_moved, from)
        low_out = Min (low_above, to)
        high_moved = Add (high_left, by)
        high_above = Max (high_moved, from)
        high_out = Min (high_above, to)
        nth_out = Div (nth_left, two)
        pair_count = Size (nth_out)
        are_left_out = Greater (pair_count, runs)
    }> (, are_left, sorted_addend, lows, highs, nth)
    from_0 = Max (total_shift, total_low)
    in_turn = Min (from_0, total_high)
    run_pixel = GatherElements (sorted_pixel, first)
    within = ScatterElements <axis = 0> (plain, run_pixel, in_turn)
"""


def frame_model(contract: Contract, opset: int) -> onnx.ModelProto:
    """Returns the graph that makes the frame of a contract's model out of the events of a slice.

    Its input is `events`, int64 `[N, 4]`: column, row, polarity (0 or 1) and time in µs of every event, in time order;
    N may be 0. Rows that lie outside the sensor, or have another polarity, contribute nothing. Its output is `frames`,
    float32 `[1, C, H, W]`.

    Args:
        contract: Names the preprocessing, its arguments, the sensor's size and the frames'.
        opset: ONNX operator set, 16 or later: the first in which `ScatterElements` adds up.

    Raises:
        UsageError: Where there is no such graph; see `preprocessing_of`.
    """
    preprocess = preprocessing_of(contract)
    assert contract.sensor_size is not None
    width, height = contract.sensor_size
    rows, columns = preprocess.frame_size(height, width)
    channels, *wanted = contract.frame_shape
    factor = preprocess.downsampling_factor
    limit = preprocess.max_incr_per_pixel * 4.0**factor
    constants: Constants = _CONSTANTS | {
        "last_x": (columns << factor) - 1,
        "last_y": (rows << factor) - 1,
        "block": 2**factor,
        "columns": columns,
        "size": rows * columns,
        "cells": [channels * rows * columns],
        "lowest": np.float32(-limit),
        "highest": np.float32(limit),
        "twice_highest": np.float32(2 * limit),
    }
    text = _PIXELS + (_PIXEL_OF_BLOCKS if factor else _PIXEL_OF_THE_SENSOR)
    text += _HISTO if isinstance(preprocess, Histo) else _DIFF + _IN_TURN
    shrinking, weights = _shrinking((channels, rows, columns), (wanted[0], wanted[1]), limit)
    shape = ", ".join(map(str, (1, *contract.frame_shape)))
    graph = onnx.parser.parse_graph(
        f"event_frames (int64[event_count, 4] events) => (float[{shape}] frames) {{ {text} {shrinking} }}"
    )
    _add_constants(graph, constants | weights)
    _name_apart(graph, kept=(EVENTS, FRAMES))
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(
        graph, opset_imports=opsets, ir_version=onnx.helper.find_min_ir_version_for(opsets), producer_name="edgeclf"
    )


def joined(frames: onnx.ModelProto, step: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model that makes frames by one graph and takes a step of the other with them.

    Everything but the graph is that of `step`, whose opset both must have.
    """
    model = onnx.ModelProto()
    model.CopyFrom(step)
    inputs = [*frames.graph.input, *(given for given in step.graph.input if given.name != FRAMES)]
    nodes = [*frames.graph.node, *step.graph.node]
    del model.graph.input[:], model.graph.node[:]
    model.graph.input.extend(inputs)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(frames.graph.initializer)
    model.graph.value_info.extend(frames.graph.output)
    return model


def preprocessing_of(contract: Contract) -> Histo | Diff:
    """Returns the preprocessing that a contract asks for.

    Raises:
        UsageError: Where there is no graph for it, its arguments are wrong, the sensor's size is not known, or its
            frames do not fit the model.
    """
    if contract.preprocess not in (Histo.name, Diff.name):
        raise UsageError(
            f"Frames are made of events inside the graph by {Histo.name} and {Diff.name} only, and this model takes "
            f"those of {contract.preprocess}; export it as onnx, and make its frames outside."
        )
    if contract.sensor_size is None:
        raise UsageError(
            "The checkpoint does not say what sensor its events come from, and a graph that takes events must know; "
            "give --sensor-size WIDTH HEIGHT."
        )
    width, height = contract.sensor_size
    made = create_preprocessing(
        contract.preprocess, (width, height), contract.delta_t, **dict(contract.preprocess_kwargs)
    )
    assert isinstance(made, Histo | Diff)
    rows, columns = made.frame_size(height, width)
    channels, *wanted = contract.frame_shape
    if made.channels != channels:
        raise UsageError(
            f"The preprocessing {made.name} makes frames of {made.channels} channels, and the model takes {channels}; "
            "train it again."
        )
    if wanted[0] > rows or wanted[1] > columns:
        raise UsageError(
            f"The events of a sensor of {width}×{height} (width × height) make frames of {columns}×{rows}, which would "
            f"have to be enlarged to the model's {wanted[1]}×{wanted[0]}; use a larger sensor, or train with smaller "
            "frames."
        )
    return made


def _shrinking(made: tuple[int, int, int], wanted: tuple[int, int], limit: float) -> tuple[str, Constants]:
    """Returns text that turns the counts `within` into `frames`, and its constants.

    Means of an area are what `edgeclf_runtime.preprocessing.area_resize` describes. Where an axis shrinks by a whole
    ratio, they are an average pool; elsewhere a product with zeros and ones, which sums counts exactly, on hardware
    that multiplies in few bits as well. What the sums are to be divided by goes into the one division at the end.

    Args:
        made: Channels, rows and columns of the counts.
        wanted: Rows and columns of the frames.
        limit: The count of events that makes the value 1.
    """
    pools = tuple(size // to if size % to == 0 else 1 for size, to in zip(made[1:], wanted, strict=True))
    sums = [_covered(size // pool, to) for size, pool, to in zip(made[1:], pools, wanted, strict=True)]
    covers = [covered.sum(axis=1) for covered in sums]
    divisor = limit * covers[0][:, None] * covers[1]
    if (divisor == divisor[0, 0]).all():
        divisor = divisor[0, 0]
    operations = ["Reshape ({}, picture)"]
    if max(pools) > 1:
        operations.append("AveragePool <kernel_shape = [{1}, {2}], strides = [{1}, {2}]> ({0})")
    if len(sums[0]) < sums[0].shape[1]:
        operations.append("MatMul (covered_rows, {})")
    if len(sums[1]) < sums[1].shape[1]:
        operations.append("MatMul ({}, covered_columns)")
    if np.any(divisor != 1):
        operations.append("Div ({}, divisor)")
    names = ["within", *(f"picture_{i}" for i in range(1, len(operations))), FRAMES]
    text = "".join(f"{names[i + 1]} = {code.format(names[i], *pools)}\n" for i, code in enumerate(operations))
    return text, {
        "picture": [1, *made],
        "covered_rows": sums[0].astype(np.float32),
        "covered_columns": sums[1].T.astype(np.float32),
        "divisor": divisor.astype(np.float32),
    }


def _covered(size: int, to: int) -> NDArray[np.int64]:
    """Returns a matrix `[to, size]` of ones where a value of an axis covers one of the `size` before, else zeros."""
    nth = np.arange(to, dtype=np.int64)[:, None]
    start, stop = nth * size // to, -(-(nth + 1) * size // to)
    return ((start <= np.arange(size)) & (np.arange(size) < stop)).astype(np.int64)


def _add_constants(graph: onnx.GraphProto, constants: Constants) -> None:
    """Adds those constants that the graph uses; whole numbers are int64."""
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    used = {name for part in (graph, *bodies) for node in part.node for name in node.input}
    for name in sorted(used & constants.keys()):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constants[name]), name))


def _name_apart(graph: onnx.GraphProto, kept: Sequence[str]) -> None:
    """Puts the prefix before every name of the graph but those kept, and names every node after its first output."""

    def named(name: str) -> str:
        return name if not name or name in kept else _PREFIX + name

    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = named(value.name)
    for node in graph.node:
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]
        node.name = _PREFIX + node.output[0].removeprefix(_PREFIX)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_apart(attribute.g, kept)
