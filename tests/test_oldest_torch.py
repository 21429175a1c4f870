"""The oldest torch that works: said at import, and every name we take from torch is known to it.

`torch_names.txt` lists what the oldest torch has, a module a line: all public names of the modules that everybody
uses, and of others those that `vit_edu` takes. It was made with that torch: `python tests/test_oldest_torch.py` there
writes it anew, and names what is missing. What came later stands in LATER, each with a line of ours that asks for it.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest
import torch

import vit_edu

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_name("torch_names.txt")
WHOLE = ["torch", "torch.nn", "torch.nn.functional", "torch.Tensor", "torch.linalg", "torch.random"]
LATER = {
    "torch.optim.Muon": 'hasattr(torch.optim, "Muon")',  # torch 2.9
    "torch.utils.tensorboard.SummaryWriter": 'find_spec("tensorboard") is None',  # a package of its own
}


def dotted(node: ast.AST) -> list[str]:
    """["torch", "nn", "Linear"] of `torch.nn.Linear`; nothing for other expressions."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def names_in(source: str) -> set[str]:
    """Every name of torch that a module uses, in full: `nn.Linear` is torch.nn.Linear."""
    tree, alias, found = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "torch":
                    alias[name.asname or "torch"] = name.name if name.asname else "torch"
                    found.add(name.name)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch":
            for name in node.names:
                alias[name.asname or name.name] = f"{node.module}.{name.name}"
                found.add(alias[name.asname or name.name])
    for node in ast.walk(tree):
        parts = dotted(node)
        if parts and parts[0] in alias:
            found.add(".".join([alias[parts[0]], *parts[1:]]))
    return found


def used() -> dict[str, list[str]]:
    """Each name of torch with the files of `vit_edu` that use it."""
    names: dict[str, list[str]] = {}
    for path in sorted((ROOT / "vit_edu").rglob("*.py")):
        for name in names_in(path.read_text("utf-8")):
            names.setdefault(name, []).append(path.name)
    return names


def exists(name: str) -> bool:
    """Whether this torch has the name."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_oldest_torch_has_every_name():
    """Where this fails, a newer name came in: use an older one, or ask for it first and note it in LATER."""
    lines = (line.split(": ") for line in LIST.read_text("utf-8").splitlines())
    known = {"torch"} | {f"{module}.{name}" for module, names in lines for name in names.split()}
    assert {name: files for name, files in used().items() if name not in known | set(LATER)} == {}


@pytest.mark.parametrize("name", LATER)
def test_what_came_later_is_asked_for_first(name):
    for file in used()[name]:
        source = next((ROOT / "vit_edu").rglob(file)).read_text("utf-8")
        assert LATER[name] in source


def test_names_are_found():
    source = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\nnn.Linear(F.gelu, torch.a.b).c"
    wanted = {"torch", "torch.nn", "torch.nn.functional", "torch.nn.Linear", "torch.nn.functional.gelu", "torch.a.b"}
    assert wanted <= names_in(source) and exists("torch.nn.functional.gelu") and not exists("torch.nn.Nothing")


@pytest.mark.parametrize("version", ["2.5.1", "1.13.0+cu117", "2.0.0a0+git123"])
def test_an_older_torch_is_refused_at_import(version, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    words = f"vit_edu needs torch 2.6 or newer, and this is {version}: run `pip install --upgrade torch`"
    with pytest.raises(ImportError, match=re.escape(words)):
        importlib.reload(vit_edu)


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", "3.0.0.dev20270101", "2.10.0a0+nv25.10"])
def test_a_newer_torch_is_taken(version, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    importlib.reload(vit_edu)


if __name__ == "__main__":
    missing = {name for name in used() if not exists(name)}
    there = set(used()) - missing - {"torch"}
    there |= {f"{m}.{name}" for m in WHOLE for name in dir(eval(m)) if not name.startswith("_")}
    modules: dict[str, list[str]] = {}
    for name in sorted(there):
        modules.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
    LIST.write_text("".join(f"{module}: {' '.join(names)}\n" for module, names in modules.items()), "utf-8")
    print("missing here:", ", ".join(sorted(missing)) or "nothing")
