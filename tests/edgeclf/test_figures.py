from __future__ import annotations

import pytest

from edgeclf.figures import class_colours, new_figure, panels, short


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("rock", "rock"),
        ("exactly eighteen..", "exactly eighteen.."),
        ("a rather long gesture's name", "a rather…re's name"),
        ("costs $5", r"costs \$5"),
        ("bytes \udcff", "bytes ?"),
    ],
)
def test_names_fit(name, fits):
    found = short(name)
    assert found == fits
    assert len(found.replace("\\", "")) <= 18


def test_a_shortened_name_with_dollars_is_drawn_as_it_is():
    figure = new_figure(2, 1)
    figure.text(0, 0.5, short("$x$ " * 10))
    figure.canvas.draw()  # a formula cut in two would be refused here


@pytest.mark.parametrize("others", [1, 9, 10, 30])
def test_classes_have_colours_of_their_own_and_only_the_background_is_grey(others):
    labels = [*(f"class {i}" for i in range(others)), "background"]
    colours = class_colours(labels)
    assert len(set(colours)) == len(labels)
    greys = [label for label, (red, green, blue) in zip(labels, colours, strict=True) if red == green == blue]
    assert greys == ["background"]


def test_there_are_colours_for_any_number_of_classes():
    assert len(class_colours([f"class {i}" for i in range(300)])) == 300


@pytest.mark.parametrize(("count", "grid"), [(2, (1, 2)), (4, (1, 4)), (7, (2, 4)), (10, (2, 5)), (20, (4, 5))])
def test_panels_stand_in_a_grid(count, grid):
    figure, axes = panels(count, 2, 3)
    assert len(axes) == count
    assert axes[0].get_gridspec().get_geometry() == grid
    assert figure.get_size_inches().tolist() == [2 * grid[1], 3 * grid[0]]
