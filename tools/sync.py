"""Bring everything in step with the chapters' texts: `python tools/sync.py [--check] [--force] [CHAPTER ...]`.

The address, the modules of `vit_edu`, then the notebooks: each chapter is executed only if its text, or a part of
the package that it uses, is not the one that its stored outputs came from. An unchanged notebook is not touched.
"""

import argparse
import configparser
import hashlib
import json
import os
import re
import sys
import time
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

import chapters
import costs
import shapes
from chapters import ADDRESS, PAGES, ROOT, ChapterError, has_data, needs_data, notebook_of, read, twins
from export import export

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}


ADDRESSED = "_config.yml", "README.md", "CITATION.cff"  # besides the chapters


def addressed(root: Path, text: str) -> str:
    """`text` with the project's address as pyproject.toml states it, the one place where it is decided."""
    urls = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    return PAGES.sub(urls["Documentation"], ADDRESS.sub(urls["Repository"], text))


def write_address(root: Path, names: list[str] = (), check: bool = False) -> list[Path]:
    """Write the address into the configuration, the README and the chapters; list the files that differed."""
    different = []
    for path in [*(root / name for name in ADDRESSED), *twins(root, names)]:
        text = path.read_text("utf-8") if path.exists() else ""
        if (new := addressed(root, text)) != text:
            different.append(path)
            if not check:
                path.write_text(new, "utf-8")
    return different


def prepared(twin: Path) -> NotebookNode:
    """The notebook of a chapter before it runs: the text's cells with lasting ids, and its digest."""
    source = read(twin)
    metadata = {key: value for key, value in source.metadata.items() if key != "jupytext"}
    metadata |= {"kernelspec": KERNEL, "language_info": LANGUAGE}
    metadata["vit_edu"] = {"digest": chapters.digest(source, twin.parents[2] / "vit_edu")}
    notebook = nbformat.v4.new_notebook(cells=source.cells, metadata=metadata)
    taken = set()
    for cell in notebook.cells:
        name, n = hashlib.sha256(cell.source.encode()).hexdigest()[:10], 1
        while (cell_id := f"{name}-{n}") in taken:
            n += 1
        taken.add(cell_id)
        cell.id = cell_id
    return notebook


def cells_of(notebook: NotebookNode) -> list:
    """What text and notebook must have in common."""

    def metadata(cell):  # without the shapes, which a run noted
        return {key: value for key, value in cell.metadata.items() if key != "vit_edu"}

    return [(cell.cell_type, cell.source, metadata(cell)) for cell in notebook.cells]


def in_step(twin: Path) -> bool:
    """Whether a chapter's notebook holds this text, executed with this package."""
    path = notebook_of(twin)
    if not path.exists():
        return False
    stored, fresh = nbformat.read(path, as_version=4), prepared(twin)
    stored.metadata.get("vit_edu", {}).pop("seconds", None)  # how long it took is no part of what it says
    return cells_of(stored) == cells_of(fresh) and stored.metadata == fresh.metadata


def shapes_of(cell: NotebookNode) -> list[str]:
    """What the run that made a code cell's outputs noted of its lines (tools/shapes.py)."""
    return cell.metadata.get("vit_edu", {}).get("shapes", [])


def keep_shapes(cell: NotebookNode, entries: list[str]) -> None:
    """Store them beside the outputs, where neither Jupyter nor Colab shows them."""
    cell.metadata.pop("vit_edu", None)
    if entries:
        cell.metadata["vit_edu"] = {"shapes": entries}


def same_code(stored: NotebookNode, fresh: NotebookNode) -> bool:
    """Whether only the text around the code has changed: the outputs are still those of this code."""
    code = [[(cell.source, cell.metadata.get("tags", [])) for _, cell in chapters.code_cells(n)] for n in (stored, fresh)]
    digests = [n.metadata.get("vit_edu", {}).get("digest") for n in (stored, fresh)]
    return code[0] == code[1] and digests[0] == digests[1]


def with_outputs(fresh: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """The notebook `fresh` with the outputs of another one with the same code."""
    for (_, cell), (_, source) in zip(chapters.code_cells(fresh), chapters.code_cells(executed), strict=True):
        cell.outputs, cell.execution_count = source.outputs, source.execution_count
        keep_shapes(cell, shapes_of(source))
    if "seconds" in executed.metadata["vit_edu"]:
        fresh.metadata["vit_edu"]["seconds"] = executed.metadata["vit_edu"]["seconds"]
    return fresh


def with_costs(twin: Path, notebook: NotebookNode) -> NotebookNode:
    """Write what a chapter costs into its text; its executed notebook with that text."""
    text = twin.read_text("utf-8")
    if (seconds := notebook.metadata["vit_edu"].get("seconds")) is not None:
        new = costs.restated(text, notebook, seconds)
        new = costs.road(new, twin.parents[2]) if twin.stem == "intro" else new
        if new != text:
            twin.write_text(new, "utf-8")
            notebook = with_outputs(prepared(twin), notebook)
    return notebook


def spent() -> float:
    """Seconds of a processor that this process's children used: what else runs on the machine does not count."""
    try:
        import resource
    except ImportError:  # Windows counts the time that passes
        return time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Client(NotebookClient):
    """Runs a notebook, and has the kernel note the shapes meanwhile."""

    told = ()

    async def ask(self, code: str, **options) -> dict:
        return await self.kc.execute_interactive(code, silent=True, store_history=False, timeout=60, **options)

    async def async_execute_cell(self, cell, cell_index, **options):
        if cell_index == 0:
            await self.ask(shapes.starting(self.nb.cells))
        done = await super().async_execute_cell(cell, cell_index, **options)
        if cell_index == len(self.nb.cells) - 1:
            self.told = shapes.answer(await self.ask("", user_expressions=shapes.TOLD))
        return done


def execute(notebook: NotebookNode, name: str, folder: Path, library: Path) -> None:
    """Run a notebook in `folder` with the `vit_edu` of `library`, keeping no trace of when and where it ran."""
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    environment |= chapters.ENVIRONMENT | {"PYTHONPATH": str(library)}
    client = Client(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
    )
    running, started = [], spent()
    client.on_cell_start = lambda cell, cell_index: running.append(cell_index + 1)
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
        raise ChapterError(f"{name}, cell {running[-1] if running else 1}: {text}") from None
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # holds a random id
    cells = [cell for _, cell in chapters.code_cells(notebook)]
    for cell, entries in zip(cells, shapes.by_cell(cells, client.told), strict=True):
        keep_shapes(cell, entries)
    notebook.metadata["language_info"] = LANGUAGE
    notebook.metadata["vit_edu"]["seconds"] = float(f"{spent() - started:.1g}")  # about: it is rounded


def keep_measured(notebook: NotebookNode, stored: NotebookNode) -> None:
    """Where only measured times differ from the stored outputs, keep those: a run on another day is no change."""
    settings = configparser.RawConfigParser()
    settings.read(ROOT / "tests" / "nbval-sanitize.cfg", "utf-8")
    times = re.compile(settings["durations"]["regex"])

    def timeless(outputs):
        return times.sub("", json.dumps(outputs, sort_keys=True, ensure_ascii=False))

    before = {cell.get("id"): cell for cell in stored.cells if cell.cell_type == "code"}
    was = stored.metadata.get("vit_edu", {})
    unchanged = notebook.metadata["vit_edu"]["digest"] == was.get("digest")
    seconds = notebook.metadata["vit_edu"].get("seconds", 0)
    if was.get("seconds", 0) / 2 <= seconds <= 2 * was.get("seconds", 0):
        notebook.metadata["vit_edu"]["seconds"] = was["seconds"]
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code" and cell.id in before):
        measured = unchanged and "nbval-ignore-output" in cell.metadata.get("tags", [])
        was = before[cell.id]
        if measured or timeless(cell.outputs) == timeless(was.outputs):
            cell.outputs = was.outputs
        if shapes.alike(shapes_of(cell), shapes_of(was), values=not measured):
            keep_shapes(cell, shapes_of(was))


def renewed(twin: Path, root: Path, force: bool) -> NotebookNode:
    """A chapter's notebook with the outputs of its code: executed, unless only its text has changed."""
    path, notebook = notebook_of(twin), prepared(twin)
    stored = nbformat.read(path, as_version=4) if path.exists() else None
    if stored and same_code(stored, notebook) and not force:
        return with_outputs(notebook, stored)
    print(f"executing {twin.stem} ...", flush=True)
    if any(map(needs_data, notebook.cells)) and not has_data():
        raise ChapterError(f"{twin.name}: its outputs show CIFAR-10: set VIT_EDU_DATA to its folder")
    execute(notebook, twin.name, path.parent, root)
    if stored:
        keep_measured(notebook, stored)
    return notebook


def sync(root: Path = ROOT, names: list[str] = (), force: bool = False, check: bool = False) -> list[str]:
    """Bring the chapters (all, or `names`) in step, or with `check` only tell what is not; say what was done."""
    verb = "out of step" if check else "written"
    done = [f"{path.relative_to(root)}: {verb}" for path in write_address(root, names, check)]
    done += [f"{path.relative_to(root)}: {verb}" for path in export(root, names, check)]
    failures = []
    for twin in sorted(twins(root, names), key=lambda twin: twin.stem == "intro"):  # it states what all others cost
        path = notebook_of(twin)
        stated = twin.stem != "intro" or costs.road(text := twin.read_text("utf-8"), root) == text
        if in_step(twin) and stated and not force:
            continue
        if not check:
            try:
                notebook = renewed(twin, root, force)
            except ChapterError as error:
                failures.append(str(error))
                continue
            nbformat.write(with_costs(twin, notebook), path)
        done.append(f"{path.relative_to(root)}: {verb}")
    if failures:
        raise ChapterError("\n\n".join(failures))
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("chapters", nargs="*", help="for example 02_attention; all if none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is out of step")
    parser.add_argument("--force", action="store_true", help="execute unchanged chapters, too")
    options = parser.parse_args()
    try:
        done = sync(ROOT, options.chapters, options.force, options.check)
    except ChapterError as error:
        sys.exit(f"{error}")
    print("\n".join(done) or "everything is in step")
    return 1 if done and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
