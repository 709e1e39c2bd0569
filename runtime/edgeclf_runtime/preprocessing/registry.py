"""Preprocessings by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing.base import Preprocessing
from edgeclf_runtime.preprocessing.diff import Diff
from edgeclf_runtime.preprocessing.histo import Histo

PreprocessingFactory = Callable[..., Preprocessing]
"""Called with `sensor_size` (width, height) and `delta_t` in µs, and the preprocessing's own arguments, all by name."""

_FACTORIES: dict[str, PreprocessingFactory] = {Histo.name: Histo, Diff.name: Diff}


def preprocessing_names() -> tuple[str, ...]:
    """Returns the names of the preprocessings that there are, in the order of their registration."""
    return tuple(_FACTORIES)


def register_preprocessing(name: str, factory: PreprocessingFactory) -> None:
    """Makes a preprocessing available by name, for `create_preprocessing` and all that is built on it.

    Args:
        name: Its name; it goes into checkpoints, tensor files and exported models.
        factory: What makes it, usually its class; see `PreprocessingFactory`. The names of its parameters are the
            arguments that users may give.

    Raises:
        UsageError: Where another preprocessing has that name: files made with the one would be read with the other.
    """
    if _FACTORIES.get(name, factory) is not factory:
        raise UsageError(f"There is a preprocessing called {name} already; register yours by another name.")
    _FACTORIES[name] = factory


def effective_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a preprocessing's own arguments, those that `arguments` leaves out with their defaults.

    What it does not take is left out. For a name that is not registered here, `arguments` as they are.
    """
    factory = _FACTORIES.get(name)
    if factory is None:
        return dict(arguments)
    return {
        key: arguments.get(key, parameter.default)
        for key, parameter in inspect.signature(factory).parameters.items()
        if key not in ("sensor_size", "delta_t")
    }


def create_preprocessing(name: str, sensor_size: tuple[int, int], delta_t: int, **arguments: Any) -> Preprocessing:
    """Returns a preprocessing for one stream.

    Args:
        name: Its name; see `preprocessing_names`.
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs.
        **arguments: Its own arguments.

    Raises:
        UsageError: Where there is none of that name, or it does not take these arguments or their values.

    Examples:
        >>> histo = create_preprocessing("histo", sensor_size=(640, 480), delta_t=10_000, downsampling_factor=1)
        >>> histo.channels, histo.frame_size(480, 640)
        (2, (240, 320))
    """
    factory = _FACTORIES.get(name)
    if factory is None:
        raise UsageError(
            f"There is no preprocessing called {name}; there are {', '.join(_FACTORIES)}. One of your own must be "
            "registered with register_preprocessing first."
        )
    if min(sensor_size) < 1:
        raise UsageError(f"A sensor of {sensor_size[0]}×{sensor_size[1]} (width × height) has no pixels.")
    if delta_t < 1:
        raise UsageError(f"A slice of {delta_t} µs holds no events; delta_t must be 1 µs or more.")
    signature = inspect.signature(factory)
    try:
        # Before the call, so that a TypeError from inside a user's factory stays what it is.
        signature.bind(sensor_size=sensor_size, delta_t=delta_t, **arguments)
    except TypeError as error:
        own = [key for key in signature.parameters if key not in ("sensor_size", "delta_t")]
        raise UsageError(
            f"The preprocessing {name} does not take these arguments ({error}); it takes {', '.join(own) or 'none'}."
        ) from error
    return factory(sensor_size=sensor_size, delta_t=delta_t, **arguments)
