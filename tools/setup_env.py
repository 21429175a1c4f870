"""Repair one known mismatch in the virtual environment that runs this script; else do nothing.

PyPI's torchvision for Linux is built for CUDA. Beside a CPU-only torch its import fails with "operator
torchvision::nms does not exist" (pytorch/vision issues 9077 and 9085), although nothing that the book uses needs
that operator. Where precisely this happens, a file in site-packages declares the operators just before torchvision
is imported. Where torchvision imports as it should, no such file is left.
"""

import site
import subprocess
import sys
from pathlib import Path

SYMPTOM = "RuntimeError: operator torchvision::nms does not exist"
PROBE = "import torch; print(torch.version.cuda, flush=True); import torchvision"

REPAIR = '''"""Let a CUDA build of torchvision be imported beside a CPU-only torch; written by tools/setup_env.py."""
import sys


class DeclareOperators:
    """At the first import of torchvision, declare the two operators that it takes for granted; then step aside."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                for operator in "nms", "qnms":
                    if not hasattr(torch.ops.torchvision, operator):
                        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                        torch.library.define(f"torchvision::{operator}", signature)
        return None


sys.meta_path.insert(0, DeclareOperators())
'''


def probe() -> tuple[int, str, str]:
    """Import torchvision in a process of its own: (exit status, what it printed, its errors)."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def is_mismatch(status: int, printed: str, errors: str) -> bool:
    """Whether a probe failed in exactly the way that the repair is for."""
    return status != 0 and printed.split() == ["None"] and errors.strip().endswith(SYMPTOM)


def repair(folder: Path, probe=probe) -> str:
    """Make torchvision importable if the mismatch is what prevents it; say what was done, or nothing."""
    files = folder / "torchvision_on_cpu.py", folder / "torchvision_on_cpu.pth"

    def remove():
        for path in files:
            path.unlink(missing_ok=True)

    remove()  # a repair of an earlier installation would break one that needs none
    if not is_mismatch(*probe()):
        return ""
    files[0].write_text(REPAIR, "utf-8")
    files[1].write_text("import torchvision_on_cpu\n", "utf-8")
    status, _, errors = probe()
    if status != 0:
        remove()
        raise RuntimeError(f"torchvision does not import beside this torch, and the repair did not help:\n{errors}")
    return "torchvision's CUDA build made importable beside CPU-only torch"


if __name__ == "__main__":
    if message := repair(Path(site.getsitepackages()[0])):
        print(message)
