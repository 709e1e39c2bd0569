"""Preprocessings by name: those shipped, those registered, and those that installed packages announce."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from edgeclf_runtime.announced import announced_names, load_announced
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing.base import Preprocessing
from edgeclf_runtime.preprocessing.diff import Diff
from edgeclf_runtime.preprocessing.event_cube import EventCube
from edgeclf_runtime.preprocessing.histo import Histo
from edgeclf_runtime.preprocessing.quantized import DiffQuantized, HistoQuantized
from edgeclf_runtime.preprocessing.timesurface import MultiChannelTimeSurface, TimeSurface

PreprocessingFactory = Callable[..., Preprocessing]
"""Called with `sensor_size` (width, height) and `delta_t` in µs, and the preprocessing's own arguments, all by name."""

ENTRY_POINT_GROUP = "edgeclf.preprocessing"
"""Entry points of this group, in any installed package, are preprocessings: name, and factory as `module:object`."""

_FACTORIES: dict[str, PreprocessingFactory] = {
    factory.name: factory
    for factory in (
        Histo, Diff, TimeSurface, EventCube, MultiChannelTimeSurface, HistoQuantized, DiffQuantized,
    )
}  # fmt: skip


def preprocessing_names() -> tuple[str, ...]:
    """Returns the names of the preprocessings that there are: shipped and registered ones, then what packages announce.

    Nothing of those packages is imported for it.
    """
    return tuple(dict.fromkeys([*_FACTORIES, *announced_names(ENTRY_POINT_GROUP)]))


def register_preprocessing(name: str, factory: PreprocessingFactory) -> None:
    """Makes a preprocessing available by name, for `create_preprocessing` and all that is built on it.

    That holds in this process. What shall be found everywhere, by the command line too, is announced by an installed
    package instead, in its `pyproject.toml`::

        [project.entry-points."edgeclf.preprocessing"]
        my_frames = "my_package.frames:MyFrames"

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


def canonical_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments by the preprocessing's own names for them, without those that have no influence on its frames.

    Tensor files and checkpoints made by Metavision name some arguments otherwise (`negative_bit_length` for
    `neg_bit_len_quantized`), and state some that make no difference; see `Preprocessing.argument_aliases`.

    Args:
        name: Name of the preprocessing; where it is unknown, `arguments` come back as they are.
        arguments: Arguments by name.

    Raises:
        UsageError: Where an argument is given by two names.
    """
    factory = _find(name)
    return dict(arguments) if factory is None else _own_arguments(name, factory, arguments)


def effective_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a preprocessing's own arguments, those that `arguments` leaves out with their defaults.

    Other names for them are taken as in `canonical_arguments`. What it does not take is left out. For a name that is
    unknown here, `arguments` as they are.
    """
    factory = _find(name)
    if factory is None:
        return dict(arguments)
    given = _own_arguments(name, factory, arguments)
    return {
        key: given.get(key, parameter.default)
        for key, parameter in inspect.signature(factory).parameters.items()
        if key not in ("sensor_size", "delta_t")
    }


def create_preprocessing(name: str, sensor_size: tuple[int, int], delta_t: int, **arguments: Any) -> Preprocessing:
    """Returns a preprocessing for one stream.

    Args:
        name: Its name; see `preprocessing_names`.
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs.
        **arguments: Its own arguments, by its own names or those that `canonical_arguments` knows.

    Raises:
        UsageError: Where there is none of that name, or it does not take these arguments or their values.

    Examples:
        >>> histo = create_preprocessing("histo", sensor_size=(640, 480), delta_t=10_000, downsampling_factor=1)
        >>> histo.channels, histo.frame_size(480, 640), histo.value_range
        (2, (240, 320), (0.0, 1.0))
    """
    factory = _find(name)
    if factory is None:
        raise UsageError(
            f"There is no preprocessing called {name}; there are {', '.join(preprocessing_names())}. This runtime "
            "lacks one of your own until you bring it: call edgeclf_runtime.preprocessing.register_preprocessing in "
            "the program that uses it, or install a package that announces it by an entry point of the group "
            f"{ENTRY_POINT_GROUP}, which the command line finds as well."
        )
    if min(sensor_size) < 1:
        raise UsageError(f"A sensor of {sensor_size[0]}×{sensor_size[1]} (width × height) has no pixels.")
    if delta_t < 1:
        raise UsageError(f"A slice of {delta_t} µs holds no events; delta_t must be 1 µs or more.")
    arguments = _own_arguments(name, factory, arguments)
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


def _own_arguments(name: str, factory: PreprocessingFactory, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `arguments` by the factory's own names; see `canonical_arguments`."""
    aliases: Mapping[str, str | None] = getattr(factory, "argument_aliases", {})
    own: dict[str, Any] = {}
    for key, value in arguments.items():
        target = aliases.get(key, key)
        if target is None:
            continue
        if target in own:
            raise UsageError(
                f"The preprocessing {name} is given {target} twice, once as another name for it; drop one."
            )
        own[target] = value
    return own


def _find(name: str) -> PreprocessingFactory | None:
    """Returns the factory of that name, None where there is none.

    Installed packages are looked through only for a name that is not here yet, and only what announces it is imported.

    Raises:
        UsageError: Where two packages announce it, or what is announced cannot be loaded.
    """
    if name not in _FACTORIES:
        factory = load_announced(ENTRY_POINT_GROUP, name)
        if factory is None:
            return None
        register_preprocessing(name, factory)
    return _FACTORIES[name]
