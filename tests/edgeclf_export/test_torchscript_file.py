from __future__ import annotations

import gc
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.step_graph import contract_of
from edgeclf_export.torchscript_file import making_torchscript, save_script
from edgeclf_runtime.backends.torchscript import load_script
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.contract_file import read_contract

IMAGE = torch.linspace(-1, 1, 2 * 8 * 8).reshape(1, 2, 8, 8)


class Network(nn.Module):
    """Made of classes that other networks of the process are made of, too."""

    def __init__(self, depth: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(depth)), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Loop(nn.Module):
    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, image: Tensor) -> Tensor:
        for _ in range(2):
            image = self.step(image)
        return image


@pytest.fixture(scope="module")
def contract(checkpoints: dict[str, Path]) -> Contract:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    return contract_of(loaded, loaded.build_model())


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().requires_grad_(False).eval()


def _made(network: nn.Module) -> torch.jit.ScriptModule:
    """A traced module in a scripted one, as the format metavision has it."""
    return torch.jit.script(Loop(torch.jit.trace(network, IMAGE, check_trace=False)))


def _saved(network: nn.Module, contract: Contract, path: Path) -> bytes:
    with making_torchscript():
        script = _made(network)
    save_script(script, contract, path)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_what_the_process_made_before_does_not_show(network: Network, contract: Contract, tmp_path: Path) -> None:
    expected = _saved(network, contract, tmp_path / "first.ts")
    for depth in (1, 12, 120):  # whose numbers have as many digits, or more
        _made(Network(depth))
        with making_torchscript():
            _made(Network(depth))
        assert _saved(network, contract, tmp_path / f"after {depth}.ts") == expected


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_modules_of_one_registry_run_whatever_is_made_in_another(network: Network) -> None:
    expected = network(network(IMAGE))
    before = _made(network)
    with making_torchscript():
        within = _made(network)
        torch.testing.assert_close(before(IMAGE), expected)
    with making_torchscript():
        _made(Network(3))
    after = _made(network)
    gc.collect()
    for script in (before, within, after):
        torch.testing.assert_close(script(IMAGE), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_the_registry_of_the_process_comes_back_after_an_error(network: Network) -> None:
    """PyTorch numbers a class whose name is taken in the registry, and only such a class."""

    def fail() -> None:
        with making_torchscript():
            assert "mangle" not in _made(network)._c._type().qualified_name()
            raise ZeroDivisionError

    _made(network)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert "mangle" in _made(network)._c._type().qualified_name()


def test_file_computes_what_the_module_does_and_brings_its_contract(
    network: Network, contract: Contract, tmp_path: Path
) -> None:
    _saved(network, contract, tmp_path / "model.ts")
    script = load_script(tmp_path / "model.ts", "cpu")
    assert read_contract(tmp_path / "model.ts") == contract
    torch.testing.assert_close(script(IMAGE), network(network(IMAGE)))


def test_file_says_nothing_of_the_sources(network: Network, contract: Contract, tmp_path: Path) -> None:
    content = _saved(network, contract, tmp_path / "model.ts")
    assert str(Path(__file__).parent).encode() not in content
    with zipfile.ZipFile(tmp_path / "model.ts") as archive:
        assert archive.testzip() is None
        assert not [name for name in archive.namelist() if name.endswith((".debug_pkl", "serialization_id"))]
