"""Fixtures shared by all tests: where the real prints are, and what happens where they are not."""

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out `datasets` tests where there are none; fail instead where they are required."""
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
