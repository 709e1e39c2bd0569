from __future__ import annotations

from edgeclf_runtime.events import Events, recording
from edgeclf_runtime.sources import open_source


def test_close_takes_effect_where_there_are_no_events(write_dat, monkeypatch):
    path = write_dat("a.dat", [(t, 999, 0, 1) for t in range(200_000)])  # all of them outside the sensor
    read, counts = recording._read_into, []

    def read_and_close(*arguments):
        counts.append(read(*arguments))
        source.close()
        return counts[-1]

    source = open_source(path)
    monkeypatch.setattr(recording, "_read_into", read_and_close)
    assert list(source) == []
    assert len(counts) == 1
    assert 0 < counts[0] < path.stat().st_size


def test_batches_are_the_recordings(write_dat, assert_events):
    rows = [(t, t % 999, 0, 1) for t in range(200_000)]
    source = open_source(write_dat("a.dat", rows))
    batches = list(source)
    assert all(len(batch) for batch in batches)
    assert_events(Events.concatenate(batches), [row for row in rows if row[1] < source.sensor_size[0]])
    assert list(source.damage) == ["events outside the sensor"]
