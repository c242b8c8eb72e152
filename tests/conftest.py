"""What all tests share: where the real prints are, what happens where they are not, and what runs first."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a busy machine; `timeout` in pyproject.toml bounds the test.
settings.register_profile("papilar", deadline=None)
settings.load_profile("papilar")

# In memory where it can be a disk: thousands of commits would each wait for a real one.
MEMORY = Path("/dev/shm")  # noqa: S108
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("PAPILAR_DATASETS", ROOT.parent / "shared" / "datasets"))

COMPILING = ("tests/papilar/test_mirrored.py",)
"""Needs nearly every kernel: where none was compiled before, one process compiles them here."""

BESIDE = ("tests/papilar/test_store", "tests/papilar/audit/", "tests/papilar/policy/")
"""Need none, and so are for the other process meanwhile, lest it compile them as well."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put first what compiles; leave out soaks, and `datasets` tests where there are none.

    Where these are required, fail instead.
    """
    items.sort(key=lambda item: (not item.nodeid.startswith(COMPILING), not item.nodeid.startswith(BESIDE)))
    if not config.option.markexpr:
        soaks = [item for item in items if "soak" in item.keywords]
        config.hook.pytest_deselected(items=soaks)
        items[:] = [item for item in items if "soak" not in item.keywords]
    if DATASETS.is_dir():
        return
    if os.environ.get("PAPILAR_DATASETS_REQUIRED"):
        raise pytest.UsageError(f"the real prints are required, but {DATASETS} is no folder")
    missing = pytest.mark.skip(reason=f"no real prints at {DATASETS}; set PAPILAR_DATASETS")
    for item in items:
        if "datasets" in item.keywords:
            item.add_marker(missing)


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Folder of the real prints; use with `@pytest.mark.datasets`."""
    return DATASETS
