"""Every public default of every module is the one in defaults.json, and the model's are those of the papers.

A default that was changed on purpose: `python tests/test_defaults.py` writes the table anew; read the difference.
"""

import importlib
import inspect
import json
import re
import pkgutil
from pathlib import Path

import pytest

import vit_edu

TABLE = Path(__file__).with_name("defaults.json")
MODULES = [info.name for info in pkgutil.iter_modules(vit_edu.__path__) if not info.ispkg]

# ViT-B/16 with 1,000 classes (Dosovitskiy et al., 2021, table 1); no dropout, as in fine-tuning (table 4); LayerNorm's
# epsilon in the authors' code (flax: 1e-6); a layer alone has timm's defaults: 8 heads and no bias on q, k, v.
OFF = {"attn_drop": 0.0, "flash_attention": True}
DOCUMENTED = {
    "Attention": {"n_heads": 8, "qkv_bias": False, "proj_drop": 0.0, **OFF},
    "Block": {"mlp_ratio": 4.0, "qkv_bias": False, "drop": 0.0, "drop_path": 0.0, **OFF},
    "DropPath": {"p": 0.0},
    "LayerNorm": {"eps": 1e-6},
    "MLP": {"hidden_features": None, "out_features": None, "drop": 0.0},
    "PatchEmbedding": {"img_size": 224, "patch_size": 16, "in_channels": 3, "embed_dim": 768},
    "VisionTransformer": {
        "img_size": 224, "patch_size": 16, "in_channels": 3, "num_classes": 1000, "embed_dim": 768, "depth": 12,
        "n_heads": 12, "mlp_ratio": 4.0, "qkv_bias": True, "drop_rate": 0.0, "attn_drop_rate": 0.0,
        "drop_path_rate": 0.0, "pool": "cls", "flash_attention": True, "positions": "learned", "n_registers": 0,
        "fc_norm": False, "norm_eps": 1e-6, "antialias": True,
    },
}  # fmt: skip


def defaults_of(call) -> dict:
    """The arguments of a function or class that have a default, with it."""
    return {p.name: p.default for p in inspect.signature(call).parameters.values() if p.default is not p.empty}


def public_defaults(module_name: str) -> dict[str, dict[str, str]]:
    """Each public function, class and method that the module defines, with its defaults as Python writes them."""
    module, found = importlib.import_module(f"vit_edu.{module_name}"), {}
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        calls = {name: thing} if callable(thing) else {}
        if inspect.isclass(thing):
            methods = {key: value for key, value in vars(thing).items() if inspect.isfunction(value)}
            calls |= {f"{name}.{key}": value for key, value in methods.items() if not key.startswith("_")}
        for path, call in calls.items():
            if shown := {key: re.sub(r" at 0x[0-9a-f]+", "", repr(value)) for key, value in defaults_of(call).items()}:
                found[path] = shown
    return dict(sorted(found.items()))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_default_is_the_one_in_the_table(module):
    assert public_defaults(module) == json.loads(TABLE.read_text())[module]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_models_defaults_are_those_of_the_papers(name):
    assert defaults_of(getattr(vit_edu, name)) == DOCUMENTED[name]


if __name__ == "__main__":
    table = {module: public_defaults(module) for module in MODULES}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
