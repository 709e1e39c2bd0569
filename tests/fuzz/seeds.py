"""Makes the seed corpus: small files of every format that is read, of random events.

    python tests/fuzz/seeds.py

writes them to `tests/fuzz/seeds/`. They are kept in the repository, so that a case of the harness stays the same case
when a writer changes; make them anew only where a format is added.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from edgeclf.data.raw_writer import WrittenFormat, write_recording
from edgeclf_runtime.events import Events
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

FOLDER = Path(__file__).parent / "seeds"
SENSOR = (64, 48)


def some_events(count: int, duration: int, seed: int) -> Events:
    """Returns random events, among them rows of neighbours at the same time, which become vectors."""
    rng = np.random.default_rng(seed)
    rows = count // 4
    t = np.repeat(np.sort(rng.integers(0, duration, rows)), 4)
    x = (rng.integers(0, SENSOR[0] - 8, rows)[:, None] + [0, 1, 3, 5]).ravel()
    y, p = np.repeat(rng.integers(0, SENSOR[1], rows), 4), np.repeat(rng.integers(0, 2, rows), 4)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def main() -> None:
    """Writes the corpus."""
    FOLDER.mkdir(exist_ok=True)
    formats: tuple[tuple[WrittenFormat, str], ...] = (
        ("EVT2", "evt2.raw"),
        ("EVT2.1", "evt21.raw"),
        ("EVT3", "evt3.raw"),
        ("DAT", "dat.dat"),
    )
    for number, (format, name) in enumerate(formats):
        write_recording(FOLDER / name, [some_events(1600, 400_000, number)], SENSOR, format)
    frames = np.random.default_rng(9).integers(0, 5, (6, 2, 12, 16)).astype(np.float32) / 5
    made = {"preprocess_kwargs": {"max_incr_per_pixel": 5}, "sensor_size": SENSOR}
    write_tensor_file(FOLDER / "delta_t.h5", frames, TensorAttributes("histo", 10_000, **made))
    write_tensor_file(
        FOLDER / "n_events.h5",
        frames,
        TensorAttributes("histo", 0, store_as_uint8=True, mode="n_events", n_events=100, **made),
        [100, 200, 300, 400, 500, 600],
        lambda: {"request": "fuzz"},
    )
    with h5py.File(FOLDER / "plain.h5", "w") as file:  # neither in chunks nor compressed
        data = file.create_dataset("data", data=frames)
        stated = {"events_to_tensor": b"histo", "delta_t": 10_000, "event_input_height": 48, "event_input_width": 64}
        data.attrs.update(stated)
    events = some_events(400, 400_000, 8)
    kind = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
    records = np.zeros(len(events), kind)
    for name in "xypt":
        records[name] = getattr(events, name)
    with h5py.File(FOLDER / "events.hdf5", "w") as file:  # as Metavision writes them, but without its codec
        file.attrs.update({"geometry": "64x48", "format": "EVT3", "version": "1.0"})
        file.create_dataset("CD/events", data=records, chunks=(64,))
        file.create_dataset("CD/indexes", data=np.zeros(2, [("id", "<u8"), ("ts", "<i8")]))


if __name__ == "__main__":
    main()
