"""Give the project its address: `python tools/address.py OWNER` (`make address OWNER=name`).

It is decided in pyproject.toml and written from there into the configuration, the README, the citation and the
chapters; the notebooks follow without being executed, since only their first cell changes.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

from chapters import ROOT, notebook_of, twins
from sync import in_step, prepared, with_outputs, write_address

OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?")


def is_placeholder(root: Path = ROOT) -> bool:
    """Whether nobody has said yet whose copy this is."""
    return "/OWNER/" in tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]


def set_owner(owner: str, root: Path = ROOT) -> list[Path]:
    """Write the address of `owner`'s copy everywhere; the files that changed."""
    if not OWNER.fullmatch(owner):
        raise ValueError(f"{owner!r} is no account's name at GitHub: letters, digits and single hyphens")
    executed = {twin: nbformat.read(notebook_of(twin), as_version=4) for twin in twins(root) if in_step(twin)}
    project = root / "pyproject.toml"
    text = project.read_text("utf-8")
    new = re.sub(r"https://github\.com/[\w-]+/vit-edu", f"https://github.com/{owner}/vit-edu", text)
    new = re.sub(r"https://[\w-]+\.github\.io/vit-edu", f"https://{owner}.github.io/vit-edu", new)
    project.write_text(new, "utf-8")
    changed = ([project] if new != text else []) + write_address(root)
    for twin, notebook in executed.items():
        nbformat.write(with_outputs(prepared(twin), notebook), notebook_of(twin))
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python tools/address.py OWNER, or --check")
    if sys.argv[1] == "--check":
        sys.exit(
            "the address is still the placeholder OWNER: run `make address OWNER=name`, commit, and publish again"
            if is_placeholder()
            else 0
        )
    try:
        print("\n".join(str(path.relative_to(ROOT)) for path in set_owner(sys.argv[1])) or "nothing to change")
    except ValueError as error:
        sys.exit(str(error))
