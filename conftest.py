"""The surroundings of every test and of every chapter run as a test (the same as in tools/sync.py)."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import nbval.plugin
import pytest
from chapters import ENVIRONMENT, ROOT, compare_where_data_is
from costs import seconds_of
from library import library

os.environ.update(ENVIRONMENT)
os.environ.pop("MPLBACKEND", None)  # notebooks choose their own

LIBRARY = "VIT_EDU_TEST_LIBRARY"  # the variable that names the installed wheel's folder to all workers
LONG = "test_imagenet", "test_processes", "test_cifar10", "test_explorer", "test_pages", "test_training"  # start first


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Before any worker starts: the package as it is installed, which the chapters run with."""
    sanitizer = getattr(config.option, "nbval_sanitize_with", None)
    if sanitizer and not Path(sanitizer).exists():  # pytest was started in another folder
        config.option.nbval_sanitize_with = str(ROOT / sanitizer)
    if getattr(config.option, "nbval", False) and LIBRARY not in os.environ:
        config.library_folder = tempfile.mkdtemp()
        os.environ[LIBRARY] = str(library(Path(config.library_folder)))


def pytest_unconfigure(config):
    """The installed wheel goes as it came."""
    if folder := getattr(config, "library_folder", None):
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop(LIBRARY, None)


class AsInColab(nbval.plugin.RunningKernel):
    """A chapter's kernel: an empty folder, and of this project the installed wheel alone."""

    def __init__(self, kernel_name, cwd=None, startup_timeout=60):
        self.folder = tempfile.mkdtemp()
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.environ[LIBRARY]
        try:
            super().__init__(kernel_name, cwd=self.folder, startup_timeout=startup_timeout)
        finally:
            del os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before

    def stop(self):
        super().stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)


nbval.plugin.RunningKernel = AsInColab


def place(item) -> tuple[int, float]:
    """The longest first: when two workers share the tests, none is left alone with a long one."""
    if item.path.suffix == ".ipynb":
        return 1, -(seconds_of(item.path) or 0)
    return (0, LONG.index(item.path.stem)) if item.path.stem in LONG else (2, 0)


def pytest_collection_modifyitems(items):
    compare_where_data_is(items)
    places = {path: place(next(item for item in items if item.path == path)) for path in {item.path for item in items}}
    items.sort(key=lambda item: places[item.path])
