"""MP4 files, picture by picture.

Written with PyAV (`av`, extra `video`): BSD-3-Clause, releases every few months (18.1.0 is pinned), wheels for Linux on
x86-64 and aarch64, macOS and Windows, no program needed beside them. Its wheels bring FFmpeg with libx264, which is
under the GPL; it is the user who installs them, and edgeclf ships neither.
"""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.closing import Closing
from edgeclf_runtime.errors import EdgeclfError, MissingPackageError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

_FRAGMENT_S = 2
"""Length of the pieces that the file consists of."""


def check_video_package() -> None:
    """Raises a `MissingPackageError` where a package that makes videos is not installed."""
    try:
        import av  # noqa: F401 - both are asked for only where a video is
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"Videos need the package {error.name}, which is not installed: pip install 'edgeclf[video]'."
        ) from error


class Mp4Writer(Closing):
    """Writes pictures as H.264 video; a context manager that closes it.

    The file consists of pieces of two seconds that are whole in themselves. So memory does not grow with it, and what
    was written before a kill or on a disk that got full can be played.

    Args:
        path: The file to write, in place; its folder is there.
        size: Rows and columns of the pictures, both even.
        rate: Pictures a second.
        called: What errors call the file; `path` unless given.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction, called: str | Path | None = None) -> None:
        import av

        self._called = called or path
        # FFmpeg's other way, an index of all of the file, is kept in memory and written at the end.
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container: OutputContainer | None = av.open(str(path), "w", format="mp4", container_options=options)
        # By the codec's name FFmpeg takes the encoder that it has, libx264 in the wheels.
        self._stream = self._container.add_stream("h264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "yuv420p"  # what every player shows
        self._stream.codec_context.gop_size = math.ceil(_FRAGMENT_S * rate)
        self._stream.codec_context.max_b_frames = 0  # they would make the first picture late

    def write(self, picture: NDArray[np.uint8], at: int) -> None:
        """Writes a picture.

        Args:
            picture: `[rows, columns, 3]`, red, green, blue.
            at: When it is shown, counted in pictures at the video's rate from its start; more than the one before.

        Raises:
            EdgeclfError: Where it cannot be written.
        """
        import av

        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = at
        self._encode(frame)

    def close(self) -> None:
        """Writes what is left, and closes the file; more than once does no harm.

        Raises:
            EdgeclfError: Where it cannot be written, unless that was said before.
        """
        if self._container is not None:
            self._encode(None)
            try:
                self._close()
            except OSError as error:
                raise self._not_written(error) from error

    def _encode(self, frame: VideoFrame | None) -> None:
        """Writes what the encoder makes of a picture, or of the end."""
        assert self._container is not None
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._close()
            raise self._not_written(error) from error

    def _close(self) -> None:
        container, self._container = self._container, None
        assert container is not None
        container.close()

    def _not_written(self, error: OSError) -> EdgeclfError:
        return EdgeclfError(
            f"{self._called}: the video could not be written to its end ({error.strerror}); make room, and start again."
        )
