from __future__ import annotations

import sys

import pytest

from edgeclf_runtime.announced import announced_names, load_announced
from edgeclf_runtime.errors import UsageError

GROUP = "edgeclf.gadget"
MODULE = """
class Rows: pass
number = 3
"""


@pytest.fixture
def install(install_package):
    """Installs a package that announces gadgets."""
    return lambda package, announced, source=MODULE: install_package(package, GROUP, announced, source)


def test_nothing_is_announced():
    assert announced_names(GROUP) == []
    assert load_announced(GROUP, "rows") is None


def test_what_is_announced_is_imported_when_it_is_asked_for(install):
    install("edgeclf_rows", {"rows": "Rows", "more": "Rows"})
    assert announced_names(GROUP) == ["more", "rows"]
    assert announced_names("edgeclf.source") == []
    assert load_announced(GROUP, "columns") is None
    assert "edgeclf_rows" not in sys.modules
    assert load_announced(GROUP, "rows") is sys.modules["edgeclf_rows"].Rows


def test_two_packages_that_announce_the_same_name_are_refused(install):
    install("edgeclf_two", {"rows": "Rows"})
    install("edgeclf_one", {"rows": "Rows"})
    message = r"Several installed packages announce a gadget called rows: edgeclf_one, edgeclf_two; keep one\."
    with pytest.raises(UsageError, match=message):
        load_announced(GROUP, "rows")


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("import not_there_at_all", "Rows", "cannot be loaded (ModuleNotFoundError: No module named 'not_there"),
        ("1 / 0", "Rows", "cannot be loaded (ZeroDivisionError"),
        (MODULE, "Columns", "cannot be loaded (AttributeError"),
        (MODULE, "number", "is of type int and makes nothing; mend that package."),
    ],
)
def test_a_package_that_cannot_be_loaded_is_told_by_name(install, source, value, message):
    install("edgeclf_broken", {"rows": value}, source)
    with pytest.raises(UsageError) as caught:
        load_announced(GROUP, "rows")
    what = f"The gadget rows, which the package edgeclf_broken announces as edgeclf_broken:{value}, "
    assert str(caught.value).startswith(what + message)
