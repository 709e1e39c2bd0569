from __future__ import annotations

import logging
import math
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from edgeclf.data.sequential import VideoInfo
from edgeclf.data_module import ClassificationDataModule
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel
from edgeclf.video import demo_images, write_h264
from edgeclf_runtime.errors import MissingPackageError, UsageError

GREEN, RED, GREY = (60, 190, 105), (235, 80, 70), (105, 110, 120)
LABELS = ("background", "left", "right")


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def batch_of(labels: list[list[int]], channels: int = 2, size: tuple[int, int] = (8, 12)) -> dict[str, Any]:
    """A batch whose frames are all zeros but for one pixel."""
    steps, rows = len(labels), len(labels[0])
    inputs = torch.zeros(steps, rows, channels, *size)
    inputs[..., 0, 0] = 1
    ends = tuple(10_000 * (k + 1) for k in range(steps))
    return {
        "inputs": inputs,
        "labels": torch.tensor(labels),
        "mask_keep_memory": torch.zeros(rows, 1, 1, 1),
        "frame_is_labeled": torch.tensor(labels) >= 0,
        "video_infos": [VideoInfo(f"rec{row}.h5", 0, steps, 0, ends) for row in range(rows)],
    }


def always(label: int) -> Any:
    return lambda batch: 5.0 * torch.nn.functional.one_hot(torch.full(batch["labels"].shape, label), 3)


# --- pictures


def test_colours_say_what_is_right() -> None:
    """A prediction of class 1 for rows labelled 1, 2 and not at all; the fourth row shows nothing."""
    batch = batch_of([[1, 2, -1, -1]])
    batch["video_infos"][3] = VideoInfo("", 0, 0, 0)
    (picture,) = demo_images([batch], always(1), LABELS, 9)
    half, height = picture.shape[1] // 2, picture.shape[0] // 2
    corners = [picture[2, 2], picture[2, half + 2], picture[height + 2, 2], picture[height + 2, half + 2]]
    assert [tuple(map(int, corner)) for corner in corners] == [GREEN, RED, GREY, (12, 14, 20)]
    (unpredicted,) = demo_images([batch], None, LABELS, 9)
    assert tuple(map(int, unpredicted[2, 2])) == GREY
    assert picture.shape == unpredicted.shape


def test_the_text_says_label_prediction_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    draw = "PIL.ImageDraw.ImageDraw.text"
    monkeypatch.setattr(draw, lambda _self, _at, text, **_kwargs: written.append(text))
    (picture,) = demo_images([batch_of([[1, 2]])], always(1), LABELS, 9)
    share = math.exp(5) / (math.exp(5) + 2)
    assert written == [
        "10 ms  rec0", "is left", f"✓ says left  {share:.0%}", "10 ms  rec1", "is right", f"✗ says left  {share:.0%}",
    ]  # fmt: skip
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0


def test_a_long_name_stays_inside_its_tile() -> None:
    batch = batch_of([[1]])
    (short,) = demo_images([batch], None, LABELS, 9)
    batch["video_infos"] = [VideoInfo("x" * 200 + ".h5", 0, 1, 0, (10_000,))]
    (long,) = demo_images([batch], None, LABELS, 9)
    assert long.shape == short.shape
    assert (long[-60:, -5:] == (12, 14, 20)).all()
    assert not (long == short).all()


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (33, 600), (720, 1280), (1, 1)])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_pictures_have_one_even_size(size: tuple[int, int], rows: int) -> None:
    pictures = list(demo_images([batch_of([[0] * rows] * 2, 3, size)], None, LABELS, 9))
    assert len(pictures) == 2
    assert len({picture.shape for picture in pictures}) == 1
    height, width, colours = pictures[0].shape
    assert (height % 2, width % 2, colours) == (0, 0, 3)
    assert 208 <= width <= 3 * 500


def test_of_a_window_the_labelled_frame_is_shown() -> None:
    batch = batch_of([[1, 2]] * 3)
    batch["inputs"][:2] = 0
    batch["labels"] = batch["labels"][-1:]
    batch["video_infos"] = [VideoInfo("a.h5", 5, 1, 50_000, (60_000,))] * 2
    (picture,) = demo_images([batch], always(1), LABELS, 9)
    assert tuple(map(int, picture[8, 8])) == (0, 0, 0)  # events of both polarities, on white


def test_a_smaller_last_batch_leaves_tiles_empty() -> None:
    pictures = list(demo_images([batch_of([[0] * 4]), batch_of([[0] * 2])], None, LABELS, 9))
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[1][-2:] == (12, 14, 20)).all()


# --- the file


@pytest.mark.parametrize("name", ["ConvRNN", "Squeezenet"])
def test_a_demo_video_reads_back(tmp_path: Path, blobs: Path, hyper, name: str) -> None:
    settings: HyperParameters = hyper(name)
    module = ClassificationModel(settings.to_dict() | {"root_dir": str(tmp_path / "neu é")}).train()
    data = ClassificationDataModule(settings.to_dict(), blobs)
    batches = len(list(data.sequences("test")))
    state = {"h": torch.ones(1)}
    module._memory = state
    path = module.demo_video(data.test_dataloader(), epoch=12, fps=25)
    assert path == tmp_path / "neu é" / "videos" / "demo_epoch_012.mp4"
    assert path.read_bytes()[4:8] == b"ftyp"  # the MP4 container's first box
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.codec.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
    frames = frames_of(path)
    assert len(frames) == batches * settings.num_tbins
    still = ClassificationModel(settings.to_dict()).eval()
    still.load_state_dict(module.state_dict())
    expected = next(demo_images(data.sequences("test"), still, settings.labels, 1))
    assert frames[0].shape == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 6  # compression
    assert len(frames_of(module.demo_video(data.test_dataloader(), num_batches=1))) == settings.num_tbins
    assert module.training
    assert all(part.training for part in module.net.modules())
    assert module._memory is state


@pytest.mark.parametrize(("preprocess", "channels"), [("diff", 1), ("histo", 2)])
def test_any_preprocessing(tmp_path: Path, hyper, preprocess: str, channels: int) -> None:
    settings = replace(hyper("ConvRNN"), preprocess=preprocess, preprocess_channels=channels)
    module = ClassificationModel(settings.to_dict() | {"root_dir": str(tmp_path)})
    path = module.demo_video([batch_of([[1, 0]] * 3, channels, (48, 48))])
    assert len(frames_of(path)) == 3


def test_without_a_root_dir_it_goes_to_the_current_folder(tmp_path: Path, hyper, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = ClassificationModel(hyper("ConvRNN").to_dict()).demo_video([batch_of([[1]], 2, (48, 48))], show_pred=False)
    assert path.resolve() == tmp_path / "videos" / "demo_epoch_000.mp4"
    assert path.is_file()


@pytest.mark.parametrize("there", [True, False])
def test_showing_it_opens_it_and_says_so(tmp_path: Path, hyper, monkeypatch, caplog, there: bool) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or there)
    module = ClassificationModel(hyper("ConvRNN").to_dict() | {"root_dir": str(tmp_path)})
    with caplog.at_level(logging.INFO, logger="edgeclf"):
        path = module.demo_video([batch_of([[1]], 2, (48, 48))], show_video=True)
    assert opened == [path.as_uri()]
    assert ("opened with the desktop's viewer" if there else "no viewer to open it with") in caplog.text


# --- what goes wrong


def test_no_batch_is_a_sentence(tmp_path: Path, hyper) -> None:
    module = ClassificationModel(hyper("ConvRNN").to_dict() | {"root_dir": str(tmp_path)})
    with pytest.raises(UsageError, match="there is no batch to show"):
        module.demo_video([])
    with pytest.raises(UsageError, match="cannot show 0 frames a second"):
        module.demo_video([batch_of([[1]])], fps=0)
    assert not list(tmp_path.rglob("*"))


def test_a_failure_leaves_no_half_written_file(tmp_path: Path) -> None:
    def pictures() -> Any:
        yield np.zeros((64, 64, 3), np.uint8)
        raise UsageError("broken")

    with pytest.raises(UsageError, match="broken"):
        write_h264(tmp_path / "a.mp4", pictures(), 30)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgeclf\[video\]'"):
        write_h264(tmp_path / "a.mp4", [], 30)
