"""The surroundings of every test and of every chapter run as a test (the same as in tools/sync.py)."""

import contextlib
import gc
import os
import shutil
import tempfile
from pathlib import Path

import kernels
import nbval.plugin
import pytest
import shapes
from chapters import ENVIRONMENT, ROOT, compare_where_data_is, has_data, needs_data
from costs import seconds_of
from library import library

gc.disable()    # imports make hundred thousands of objects that stay
os.environ.update(ENVIRONMENT)
os.environ.pop("MPLBACKEND", None)  # notebooks choose their own

LIBRARY = "VIT_EDU_TEST_LIBRARY"  # the variable that names the installed wheel's folder to all workers
LONG = (  # start first
    "test_pages", "test_imagenet", "test_carry", "test_predict_boxes", "test_explorer", "test_cifar10", "test_processes",
    "test_exercises", "test_lens", "test_widgets",
)  # fmt: skip


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
    kernels.close()
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
            with kernels.forked():
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


class Shapes(pytest.Item):
    """After a chapter's cells: what the page says of their lines' shapes is what this run has found."""

    @staticmethod
    def ask(chapter, code: str, **options) -> dict:
        return chapter.kernel.kc.execute_interactive(code, silent=True, store_history=False, timeout=60, **options)

    def runtest(self):
        cells = [cell for cell in self.parent.nb.cells if cell.cell_type == "code"]
        stored = [cell.metadata.get("vit_edu", {}).get("shapes", []) for cell in cells]
        if not any(stored):
            pytest.skip("no shapes are stored: `tools/sync.py --force` of this chapter notes them")
        if any(map(needs_data, cells)) and not has_data():
            pytest.skip("without CIFAR-10 these are the shapes of other pictures")
        told = shapes.by_cell(cells, shapes.answer(self.ask(self.parent, "", user_expressions=shapes.TOLD)))
        for number, (cell, one, other) in enumerate(zip(cells, stored, told, strict=True)):
            measured = "nbval-ignore-output" in cell.metadata.get("tags", [])
            assert shapes.alike(one, other, values=not measured), (number, [*set(one) ^ set(other)])

    def reportinfo(self):
        return self.path, None, f"{self.path.stem}: shapes"


def with_shapes(chapter):
    """Have nbval's chapters note shapes (the class stays: it names itself in its own code)."""
    setup, collect = chapter.setup, chapter.collect

    def noting(self):
        setup(self)
        Shapes.ask(self, shapes.starting(self.nb.cells))

    def cells_and_shapes(self):
        yield from collect(self)
        yield Shapes.from_parent(self, name="shapes")

    chapter.setup, chapter.collect = noting, cells_and_shapes


with_shapes(nbval.plugin.IPyNbFile)


def place(item) -> tuple[int, float]:
    """The longest first: when two workers share the tests, none is left alone with a long one."""
    if item.path.suffix == ".ipynb":
        return 1, -(seconds_of(item.path) or 0)
    return (0, LONG.index(item.path.stem)) if item.path.stem in LONG else (2, 0)


def pytest_collection_modifyitems(items):
    compare_where_data_is(items)
    places = {path: place(next(item for item in items if item.path == path)) for path in {item.path for item in items}}
    items.sort(key=lambda item: places[item.path])


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
