"""What a chapter costs its reader: the line under its title and the introduction's table, computed.

Reading: 200 words of text and 15 lines of code a minute, without what is folded (solutions, `hide-input`), rounded to
five minutes. Running: the seconds of the last execution on one processor thread. `make sync` writes both.
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import chapters

LINE = re.compile(r"\*Cost: about (?P<reading>\d+) minutes of reading, (?P<running>[\w ]+) of running")
ROAD = re.compile(r"(?<=\n\n)\| chapter \| what you will hold.*?(?=\n\n)", re.S)
SECONDS = {"some seconds": 6, "half a minute": 30, "a minute": 60}


def reading_minutes(notebook: NotebookNode) -> int:
    """Minutes to read a chapter once, solutions left folded."""
    words = lines = 0
    folded = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            shown = re.sub(r"(?s):::\{solution-start\}.*?(?::::\{solution-end\}\n:::|\Z)", "", cell.source)
            if folded:  # the rest of a solution that began in an earlier cell
                shown = shown.partition("{solution-end}")[2]
            starts, ends = cell.source.rfind("{solution-start}"), cell.source.rfind("{solution-end}")
            folded = starts > ends if max(starts, ends) >= 0 else folded
            words += len(shown.split())
        elif not folded and not {"hide-input", "remove-cell", "remove-input"} & set(cell.metadata.get("tags", [])):
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    return max(5, 5 * round((words / 200 + lines / 15) / 5))


def running_words(seconds: float) -> str:
    """Seconds in words that stay true on another machine."""
    if seconds < 90:
        return min(SECONDS, key=lambda words: abs(seconds / SECONDS[words] - 1))
    return f"{seconds / 60:.0f} minutes"


def running_seconds(words: str) -> float:
    """What `running_words` stand for."""
    return SECONDS[words] if words in SECONDS else 60 * float(words.removesuffix(" minutes"))


def seconds_of(path: Path) -> float | None:
    """How long a notebook's last execution took."""
    stored = nbformat.read(path, as_version=4) if path.exists() else {"metadata": {}}
    return stored["metadata"].get("vit_edu", {}).get("seconds")


def restated(text: str, notebook: NotebookNode, seconds: float) -> str:
    """A chapter's text with its line of cost as it should be."""
    match = LINE.search(text)
    if match is None:
        return text
    running = match["running"]
    stated = running_seconds(running) if re.fullmatch(r"some seconds|half a minute|a minute|\d+ minutes", running) else 0
    if not stated / 2 <= seconds <= stated * 2:
        running = running_words(seconds)
    line = f"*Cost: about {reading_minutes(notebook)} minutes of reading, {running} of running"
    return text[: match.start()] + line + text[match.end() :]


def road(text: str, root: Path) -> str:
    """The introduction's text with the costs of all chapters in its table, and their sum."""
    table = ROAD.search(text)
    if table is None:
        return text
    total, rows = 0, ["| chapter | what you will hold in your hands at the end | reading | running |", "| --- | --- | --- | --- |"]
    for row in table.group().split("\n")[2:]:
        cells = [cell.strip() for cell in row.strip("| ").split(" | ")]
        name = re.fullmatch(r"\{doc\}`(\w+)`", cells[0])
        if name is None:
            continue
        cost = LINE.search((root / "book" / "text" / f"{name[1]}.md").read_text("utf-8"))
        total += int(cost["reading"])
        rows.append(f"| {cells[0]} | {cells[1]} | {cost['reading']} min | {cost['running']} |")
    rows.append(f"| *in all* | | {total / 60:.0f} hours | |")
    return text[: table.start()] + "\n".join(rows) + text[table.end() :]


def problems(root: Path) -> list[str]:
    """Costs that are not what was computed or measured."""
    found = []
    for twin in chapters.twins(root):
        text = twin.read_text("utf-8")
        match = LINE.search(text)
        if match is None:
            found.append(f"{twin.name} does not state its cost: begin with `*Cost: about 5 minutes of reading, ...`")
            continue
        minutes, seconds = reading_minutes(chapters.read(twin)), seconds_of(chapters.notebook_of(twin))
        if minutes != int(match["reading"]):
            found.append(f"{twin.name} states {match['reading']} minutes of reading, counted are {minutes}: run `make sync`")
        if seconds is not None and restated(text, chapters.read(twin), seconds) != text:
            found.append(f"{twin.name} states {match['running']} of running, it took {seconds:.0f} s: run `make sync`")
        if twin.stem == "intro" and road(text, root) != text:
            found.append(f"{twin.name}: the road's table is not what the chapters state: run `make sync`")
    return found
