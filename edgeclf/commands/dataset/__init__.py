"""`edgeclf dataset`: make data sets in Metavision's layout."""

from __future__ import annotations

import click

from edgeclf.commands.dataset.events import events_command
from edgeclf.commands.dataset.nmnist import nmnist_command
from edgeclf.commands.dataset.synth import synth_command


@click.group()
def dataset() -> None:
    """Make data sets in Metavision's layout.

    Example: edgeclf dataset synth gestures --seed 1
    """


dataset.add_command(synth_command)
dataset.add_command(nmnist_command)
dataset.add_command(events_command)
