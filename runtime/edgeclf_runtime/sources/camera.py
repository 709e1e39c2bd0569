"""Live cameras over USB: Prophesee EVK3 and EVK4, iniVation DAVIS 346 and DVXplorer, through `neuromorphic-drivers`.

Written and tested against the interface of `neuromorphic-drivers` 0.18 (MIT); no camera has been plugged in for it yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeclf_runtime.errors import DeviceError, MissingPackageError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.events.encoding import agreed_size
from edgeclf_runtime.sources.arrays import as_events
from edgeclf_runtime.sources.checked import GivenEvents
from edgeclf_runtime.sources.held import Held

SILENCE_S = 0.05
"""After so long without data the driver says that there is nothing."""

GAPS = "gaps, as the computer fell behind the camera"
DROPPED = "packets dropped on the way from the camera"


class CameraSource(GivenEvents):
    """The events of a camera, from the moment at which it is opened until `close`.

    Args:
        serial: The camera's serial number; '' for the first camera that is found.
        sensor_size: Width and height, if they are to be checked; the camera knows its own.

    Raises:
        MissingPackageError: Where `neuromorphic-drivers` is not installed.
        DeviceError: Where the camera is not there, is in use, or may not be opened; while it is read, where it was
            unplugged.
        UsageError: Where the size is not the camera's.
    """

    is_live = True

    def __init__(self, serial: str = "", sensor_size: tuple[int, int] | None = None) -> None:
        drivers = _drivers()
        try:
            device: Any = drivers.open(serial=serial or None, iterator_timeout=SILENCE_S)
        except RuntimeError as error:
            raise DeviceError(
                f"camera:{serial}: the camera cannot be opened ({error}); see that it is plugged in, that no other "
                "program uses it, and that its udev rules are installed (neuromorphic-drivers-install-udev-rules); "
                "`edgeclf doctor` lists the cameras."
            ) from error
        properties = device.properties()
        super().__init__(f"camera:{device.serial()}", (properties.width, properties.height))
        self._device = Held(device)
        self._gaps = self._dropped = 0
        try:
            agreed_size(self.name, self.sensor_size, sensor_size)
        except UsageError:
            self.close()
            raise

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind; what the driver says that was lost is among it."""
        lost = {GAPS: self._gaps, DROPPED: self._dropped}
        return {**super().damage, **{kind: count for kind, count in lost.items() if count}}

    @property
    def problems(self) -> list[str]:
        """What was wrong, a sentence each."""
        problems = super().problems
        if self._gaps:
            problems.append(
                f"Events of {self.name} are missing in {self._gaps} place(s), as the computer fell behind the "
                "camera: lower its event rate, or give the computer less to do."
            )
        if self._dropped:
            problems.append(f"{self._dropped} packet(s) of {self.name} were dropped on the way: check the cable.")
        return problems

    def close(self) -> None:
        """Makes the iteration end with the packet that is being waited for, and lets go of the camera."""
        super().close()
        if (device := self._device.take()) is not None:
            device.close()

    def _batches(self) -> Iterator[Events]:
        device = self._device.take()
        if device is None:
            return
        with device:
            try:
                for status, packet in device:
                    yield self._events_of(status.ring, packet)
            except RuntimeError as error:
                raise DeviceError(
                    f"{self.name} does not send any more ({error}); see that it is still plugged in."
                ) from error

    def _events_of(self, ring: Any, packet: Any) -> Events:
        """Returns a packet's events, and notes what the driver says besides; `ring` is None after a silence."""
        self._said_us = None
        if ring is None:
            return Events.empty()
        self._said_us = ring.current_t  # goes on also where no pixel sees anything
        self._dropped = ring.dropped_packets  # since the camera was opened
        if packet.polarity_events_overflow_indices is not None:
            self._gaps += len(packet.polarity_events_overflow_indices)
        return Events.empty() if packet.polarity_events is None else as_events(packet.polarity_events)


def list_cameras() -> list[str]:
    """Returns the cameras that are plugged in, a line each: the name to open it by, its model, and what is wrong.

    Raises:
        MissingPackageError: Where `neuromorphic-drivers` is not installed.
        DeviceError: Where the devices on USB cannot be listed.
    """
    try:
        found = _drivers().list_devices()
    except RuntimeError as error:
        raise DeviceError(
            f"The cameras cannot be listed ({error}); see that this machine, or this container, may use USB."
        ) from error
    return [
        f"camera:{device.serial or ''} {device.name.value}" + (f" ({device.error})" if device.error else "")
        for device in found
    ]


def _drivers() -> Any:
    try:
        import neuromorphic_drivers
    except ImportError as error:
        raise MissingPackageError(
            "Live cameras are read through neuromorphic-drivers, which is not installed here; install the extra: "
            "pip install 'edgeclf[live]'."
        ) from error
    return neuromorphic_drivers
