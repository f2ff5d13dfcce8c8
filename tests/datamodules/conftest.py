"""Every test decodes into a cache of its own."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OIN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"
