"""HDF5 event files as Prophesee's Metavision writes them: the events of a recording in the data set `CD/events`.

Source of the layout: Prophesee, "HDF5 Event File Format",
https://docs.prophesee.ai/stable/data/file_formats/hdf5.html

They are usually written with Prophesee's ECF codec, a filter that HDF5 loads from a plug-in where it finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py

from edgeclf_runtime.errors import DamagedInputError, InputFileError
from edgeclf_runtime.events import Events
from edgeclf_runtime.events.encoding import sensor_size_of
from edgeclf_runtime.events.header import Header
from edgeclf_runtime.hdf5_input import HDF5_ERRORS, hdf5_input, own_data_set, plain_attributes
from edgeclf_runtime.sources.arrays import as_events
from edgeclf_runtime.sources.checked import GivenEvents

DATA_SET = "CD/events"
ECF_FILTER = 0x8ECF
PIECE = 1 << 16  # events, 1 MB, a few chunks as Metavision makes them


class Hdf5EventSource(GivenEvents):
    """The events of an HDF5 event file; it may be read again.

    Args:
        path: The file.
        sensor_size: Width and height of the sensor, for files that do not say.

    Raises:
        InputFileError: Where the file cannot be read, or is compressed by a codec that is not installed.
        UsageError: Where the size contradicts the file.
        DamagedInputError: While it is read, where it is damaged.
    """

    def __init__(self, path: Path, sensor_size: tuple[int, int] | None = None) -> None:
        self._path = path
        try:
            with hdf5_input(path) as (file, _):
                data = _events_of(file)
                _check_filters(data, path)
                as_events(data[:0])
                texts = {name: value for name, value in plain_attributes(file).items() if isinstance(value, str)}
        except HDF5_ERRORS as error:
            raise InputFileError(
                f"{path}: the events of this HDF5 event file cannot be read ({error}); record or copy it again."
            ) from error
        header = Header(texts, length=0, cut_off=False)  # its keywords, and the values that they have in RAW files
        super().__init__(str(path), sensor_size_of(path, header, sensor_size))

    def _batches(self) -> Iterator[Events]:
        try:
            with hdf5_input(self._path) as (file, expect_numbers):
                data = _events_of(file)
                expect_numbers()
                for start in range(0, len(data), PIECE):
                    yield as_events(data[start : start + PIECE])
        except HDF5_ERRORS as error:
            raise DamagedInputError(
                f"{self._path} cannot be read on, as it is damaged ({error}); what came before has been processed."
            ) from error


def is_hdf5_event_file(path: Path) -> bool:
    """Returns whether a file holds events as Metavision stores them in HDF5."""
    try:
        with hdf5_input(path) as (file, _):
            return DATA_SET in file
    except HDF5_ERRORS:
        return False


def _events_of(file: h5py.File) -> h5py.Dataset:
    data = own_data_set(file, DATA_SET)
    if data is None or data.ndim != 1:
        raise ValueError(f"{DATA_SET} is no list of events")
    return data


def _check_filters(data: h5py.Dataset, path: Path) -> None:
    properties = data.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code, *_ = properties.get_filter(index)
        if h5py.h5z.filter_avail(code):
            continue
        if code == ECF_FILTER:
            raise InputFileError(
                f"{path} is compressed by Prophesee's ECF codec, and HDF5 does not find it here: install its plug-in "
                "(https://github.com/prophesee-ai/hdf5_ecf) and set HDF5_PLUGIN_PATH to its folder, or convert the "
                f"file where the Metavision SDK is installed: metavision_file_to_dat -i {path.name}"
            )
        raise InputFileError(
            f"{path} is compressed by the HDF5 filter {code}, and HDF5 does not find it here: set HDF5_PLUGIN_PATH to "
            "the folder of its plug-in, or write the file without it."
        )
