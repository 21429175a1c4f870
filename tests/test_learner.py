"""The learner's copies: everything of the chapters but the solutions; and they run.

What is proved how is told in tools/learner.py. The chapters themselves are executed by `pytest --nbval`.
"""

import json
import re
import zipfile

import learner
import nbformat
import pytest
from chapters import ROOT, ChapterError, code_cells, notebook_of, read, twins

WITH = [twin for twin in twins() if "{solution-start}" in twin.read_text("utf-8")]
by_chapter = pytest.mark.parametrize("twin", WITH, ids=lambda twin: twin.stem)
QUICKEST = min(
    WITH, key=lambda twin: json.loads(notebook_of(twin).read_text("utf-8"))["metadata"]["vit_edu"].get("seconds", 99)
)


def without_solutions(twin) -> list[str]:
    """A chapter's code outside its solutions, found in the text by another way than the tool's."""
    text = re.sub(r"(?ms)^:::\{solution-start\}.*?^:::\{solution-end\}$", "", twin.read_text("utf-8"))
    found = re.findall(r"(?ms)^```\{code-cell\} ipython3\n(.*?)^```$", text)
    found = [re.sub(r"\A(?:---\n.*?\n---\n|(?::[\w-]+:[^\n]*\n)+)", "", source, flags=re.S) for source in found]
    return [source.strip("\n") for source in found]


@by_chapter
def test_all_but_the_solutions_is_there(twin):
    """The chapter's code outside the solutions, cell by cell and so up to the first solution the chapter itself."""
    made = learner.copy(twin)
    nbformat.validate(made)
    code, whole = ([cell.source.strip("\n") for _, cell in code_cells(notebook)] for notebook in (made, read(twin)))
    assert code == without_solutions(twin) and not any(cell.get("outputs") for cell in made.cells)
    first = twin.read_text("utf-8").partition(":::{solution-start}")[0].count("```{code-cell}")
    assert code[:first] == whole[:first]
    prose = "\n\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    assert "{solution-" not in prose and "{exercise-" not in prose and "{dropdown}" not in prose
    assert len(re.findall(r"^### Exercise ", prose, re.M)) == twin.read_text("utf-8").count(":::{exercise-start}")
    assert prose.count("the learner's copy of") == 1
    opening = r"(?ms)^:::\{solution-start\}[^\n]*\n(?::class:[^\n]*\n)?:::\n(.*?)^(?:```|:::)"
    for solution in re.findall(opening, twin.read_text("utf-8")):
        assert not solution.strip() or solution.strip() not in prose
    assert "(assets/" not in prose
    used = re.findall(r"\(attachment:([\w.-]+)\)", prose)
    assert set(used) == {name for cell in made.cells for name in cell.get("attachments", {})}


@by_chapter
def test_what_is_left_after_the_first_solution_runs(twin, tmp_path, monkeypatch, capsys):
    """With the earlier cells that it rests on; stubs and empty answers say calmly that they are not done yet."""
    earlier, after = learner.needed(read(twin))
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for source in earlier:
        exec(compile(source, "earlier", "exec"), names)
    capsys.readouterr()
    for source in after:
        exec(compile(source, "left", "exec"), names)
    told = capsys.readouterr().out.splitlines()
    assert all(re.match("not (written|answered) yet: ", line) for line in told), told
    assert len(told) == sum(len(re.findall(r"^check\(", source, re.M)) for source in after)


def test_the_quickest_copy_runs_whole(tmp_path, quick_kernels):
    """As a reader runs it, in a kernel of its own and an empty folder."""
    import sync

    made = learner.copy(QUICKEST)
    sync.execute(made, QUICKEST.name, tmp_path, ROOT)
    assert all(cell.get("execution_count") for _, cell in code_cells(made))


def test_the_files(tmp_path):
    paths = learner.write(tmp_path / "made", chapters=[WITH[0].stem, WITH[1].stem])
    assert [path.name for path in paths] == [f"{WITH[0].stem}.ipynb", f"{WITH[1].stem}.ipynb", learner.ZIP]
    held = zipfile.ZipFile(paths[-1])
    for path in paths[:-1]:
        assert held.read(f"vit-edu-learner/{path.name}") == path.read_bytes()
        assert nbformat.read(path, as_version=4).metadata["kernelspec"]["name"] == "python3"
    before = paths[-1].read_bytes()
    learner.write(tmp_path / "made", chapters=[WITH[0].stem, WITH[1].stem])
    assert paths[-1].read_bytes() == before


# What would not run is noticed

CHAPTER = """# A chapter

```{{code-cell}} ipython3
import math

size = 3
```

## Exercises

:::{{exercise-start}} Predict: a thing
:label: ex-a
:::
What is it?

```{{code-cell}} ipython3
{stub}
```
:::{{exercise-end}}
:::

:::{{dropdown}} A hint
:class-container: hint
Think.
:::

:::{{solution-start}} ex-a
:class: dropdown
:::
The secret.

```{{code-cell}} ipython3
{solution}
```
More of the secret.

```{{code-cell}} ipython3
other = 1
```
:::{{solution-end}}
:::

After it.

```{{code-cell}} ipython3
{after}
```
"""


def chapter(tmp_path, stub="def f(x): ...", solution="def f(x): return x", after="size"):
    (tmp_path / "book" / "text").mkdir(parents=True)
    (tmp_path / "vit_edu").mkdir()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    twin = tmp_path / "book" / "text" / "04_name.md"
    twin.write_text(CHAPTER.format(stub=stub, solution=solution, after=after), "utf-8")
    return twin


def test_a_copy_reads_well(tmp_path):
    made = learner.copy(chapter(tmp_path))
    code = [cell.source for cell in made.cells if cell.cell_type == "code"]
    assert code == ["import math\n\nsize = 3", "def f(x): ...", "size"]
    prose = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    assert "### Exercise 4.1: Predict: a thing\nWhat is it?" in prose and "secret" not in prose and "After it." in prose
    assert "<details><summary>A hint</summary>\n\nThink.\n\n</details>" in prose and ":::" not in prose


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (dict(solution="answer = 1", after="print(answer)"), "answer"),
        (dict(solution="def answer(): pass", after="def g():\n    return [answer() for _ in range(3)]"), "answer"),
        (dict(solution="import torch.nn as nn", after="class A(nn.Module): ..."), "nn"),
        (dict(solution="for answer in range(3):\n    pass", after="f'{answer:03}'"), "answer"),
        (dict(solution="with open(__file__) as (a, answer): ...", after="lambda x=answer: x"), "answer"),
        (dict(solution="if (answer := 3): ...", after="%timeit 3\nprint(answer)"), "answer"),
        (dict(after="other"), "other"),
    ],
)
def test_a_name_that_only_a_solution_defines_is_noticed(tmp_path, parts, name):
    with pytest.raises(ChapterError, match=rf"04_name.md, cell \d+ uses {name}, which only the solution in cell \d+"):
        learner.copy(chapter(tmp_path, **parts))


@pytest.mark.parametrize(
    "parts",
    [
        dict(solution="answer = 1", after="answer = 2\nprint(answer)"),
        dict(solution="answer = 1", after="def g(answer):\n    return answer"),
        dict(solution="answer = 1", after="[answer for answer in range(3)]"),
        dict(solution="size = 4", after="print(size, math.pi, f)"),
        dict(solution="print = 4", after="print(3)"),
    ],
)
def test_a_name_that_is_there_is_no_problem(tmp_path, parts):
    learner.copy(chapter(tmp_path, **parts))


def test_what_rests_on_what(tmp_path):
    earlier, after = learner.needed(read(chapter(tmp_path, after="print(size)")))
    assert after == ["print(size)"] and earlier == ["import math\n\nsize = 3"]
    earlier, after = learner.needed(read(chapter(tmp_path / "two", after="print(3)")))
    assert after == ["print(3)"] and earlier == []


@by_chapter
def test_the_page_offers_it(site, twin):
    page = (site.folder / "book" / f"{twin.stem}.html").read_text("utf-8")
    assert f'href="../_static/learner/{twin.stem}.ipynb" download' in page
    offered = site.folder / "_static" / "learner"
    assert nbformat.read(offered / f"{twin.stem}.ipynb", as_version=4).cells and (offered / learner.ZIP).exists()
