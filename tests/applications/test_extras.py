"""What an application says where a library is missing."""

import pytest

from bridgejax.applications._extras import require


def test_a_missing_library_costs_one_sentence():
    with pytest.raises(ImportError, match=r'needs no_such_library: pip install "bridgejax\[apps\]"$'):
        require("no_such_library")
    with pytest.raises(ImportError, match="needs no_such_library"):
        require("no_such_library.part")
    assert require("json").__name__ == "json"


def test_what_a_library_lacks_itself_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_library'"):
        require("half_there")
