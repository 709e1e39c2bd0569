"""Ways to damage a file; each takes bytes and a generator of random numbers, and changes the bytes in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[bytearray, np.random.Generator], None]

EXTREMES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1)
NUMBERS = (b"0", b"-1", b"1", b"65535", b"99999999999999999999", b"1e999", b"nan", b"", b"3.0", b"x")
HDF5_MARKS = re.compile(
    rb"HDF\r\n|TREE|SNOD|HEAP|GCOL|OHDR|FRHP|BTHD|delta_t|mode|histo|event_|n_events|shape|data\0|geometry|indexes"
)


def place(data: bytearray, rng: np.random.Generator) -> int:
    """Returns a random index."""
    return int(rng.integers(len(data)))


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    """Flips one to some dozens of bits anywhere."""
    for _ in range(int(rng.choice([1, 2, 5, 40]))):
        data[place(data, rng)] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    """Writes a run of equal or of random bytes."""
    at, length = place(data, rng), int(rng.choice([1, 4, 16, 300]))
    run = rng.bytes(length) if rng.random() < 0.5 else bytes([int(rng.choice([0, 0x80, 0xFF]))]) * length
    data[at : at + length] = run[: len(data) - at]


def extreme_number(data: bytearray, rng: np.random.Generator) -> None:
    """Writes an extreme number where a length or a size may stand."""
    size = int(rng.choice([1, 2, 4, 8]))
    at = place(data, rng) // size * size
    value = int(rng.choice(np.array(EXTREMES, np.uint64))) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, "little")[: len(data) - at]


def truncate(data: bytearray, rng: np.random.Generator) -> None:
    """Cuts off the end."""
    del data[max(1, place(data, rng)) :]


def cut_out(data: bytearray, rng: np.random.Generator) -> None:
    """Takes a stretch out."""
    at = place(data, rng)
    del data[at : min(at + int(rng.choice([1, 2, 7, 64, 1000])), len(data) - 1)]


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    """Puts a copy of a stretch somewhere, in between or over what stands there."""
    at, to, length = place(data, rng), place(data, rng), int(rng.choice([2, 8, 64, 1000, 5000]))
    piece = data[at : at + length]
    data[to : to + (len(piece) if rng.random() < 0.5 else 0)] = piece


def header(data: bytearray, rng: np.random.Generator) -> None:
    """Damages the first bytes: a flip, another number, or a line twice or gone."""
    end = min(len(data), 200)
    kind = int(rng.integers(3))
    if kind == 0:
        data[int(rng.integers(end))] = int(rng.integers(256))
    elif kind == 1:
        found = list(re.finditer(rb"[\d.]+", data[:end]))
        if found:
            number = found[int(rng.integers(len(found)))]
            data[number.start() : number.end()] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    else:
        line = re.search(rb"%[^\n]*\n", data[int(rng.integers(end)) :])
        if line:
            at = data.index(line[0])
            data[at : at + len(line[0])] = line[0] * int(rng.choice([0, 2, 300]))


def time_words(size: int) -> Damage:
    """Returns what flips bits of time words: those with 0x8 in their highest four bits; the words have `size` bytes."""

    def flip(data: bytearray, rng: np.random.Generator) -> None:
        start = data.find(b"% end\n") + 6
        found = [at for at in range(start, len(data) - size + 1, size) if data[at + size - 1] >> 4 == 8]
        for _ in range(int(rng.choice([1, 1, 3, 10]))) if found else ():
            bit = int(rng.integers(8 * size - 4))
            data[found[int(rng.integers(len(found)))] + bit // 8] ^= 1 << bit % 8

    return flip


def hdf5_structure(data: bytearray, rng: np.random.Generator) -> None:
    """Damages the bytes beside a mark of one of HDF5's structures, or beside the name or value of an attribute."""
    marks = [mark.start() for mark in HDF5_MARKS.finditer(data)]
    for _ in range(int(rng.integers(1, 4))) if marks else ():
        at = marks[int(rng.integers(len(marks)))] + int(rng.integers(-48, 64))
        if 0 <= at < len(data):
            data[at] = int(rng.choice([0, 1, 0xFF, data[at] ^ 1 << int(rng.integers(8)), int(rng.integers(256))]))


ANY: tuple[Damage, ...] = (flip_bits, overwrite, extreme_number, truncate, cut_out, repeat)
BY_SEED: dict[str, tuple[Damage, ...]] = {
    "evt2.raw": (*ANY, header, time_words(4)),
    "evt21.raw": (*ANY, header, time_words(8)),
    "evt3.raw": (*ANY, header, time_words(2)),
    "dat.dat": (*ANY, header),
    "delta_t.h5": (*ANY, *[hdf5_structure] * 6),
    "n_events.h5": (*ANY, *[hdf5_structure] * 6),
    "plain.h5": (*ANY, *[hdf5_structure] * 6),
    "events.hdf5": (*ANY, *[hdf5_structure] * 6),
}


def mutated(seed: Path, case: int) -> bytes:
    """Returns the bytes of a seed with the damage of a case, which is always the same."""
    rng = np.random.default_rng([case, *seed.name.encode()])
    data = bytearray(seed.read_bytes())
    damages = BY_SEED[seed.name]
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        damages[int(rng.integers(len(damages)))](data, rng)
    return bytes(data)
