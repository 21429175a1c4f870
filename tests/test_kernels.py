"""A kernel that is forked is as one that starts anew, but for what it need not import again."""

import os
import sys
import time

import kernels
import pytest
from jupyter_client.manager import start_new_kernel

ASK = {
    "path": "__import__('sys').path",
    "folder": "__import__('os').getcwd()",
    "around": "sorted((k, v) for k, v in __import__('os').environ.items() if k not in ('JPY_PARENT_PID', '_'))",
    "names": "sorted(n for n in globals() if not n.startswith('_'))",
    "children": "__import__('subprocess').run(['true']).returncode",
    "package": "'vit_edu' in __import__('sys').modules",
    "torch": "'torch' in __import__('sys').modules",
}


def asked(folder) -> dict[str, str]:
    """What a new kernel answers, and that it ends when it is told to."""
    around = os.environ | {"PYTHONPATH": str(folder / "library")}
    manager, client = start_new_kernel(cwd=str(folder), env=around)
    try:
        told = client.execute_interactive("", user_expressions=ASK, timeout=60)["content"]["user_expressions"]
        return {name: answer["data"]["text/plain"] for name, answer in told.items()}
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        assert not manager.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
def test_a_forked_kernel_is_like_a_new_one(tmp_path):
    usual = asked(tmp_path)
    with kernels.forked():
        forked = asked(tmp_path)
    assert (usual.pop("torch"), forked.pop("torch")) == ("False", "True")
    assert forked == usual and forked["package"] == "False" and str(tmp_path / "library") in forked["path"]


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
def test_a_kernel_ends_with_what_forked_it(tmp_path):
    server = kernels.Server()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", server.launch_kernel)
        manager, client = start_new_kernel(cwd=str(tmp_path))
    assert manager.is_alive()
    server.close()
    end = time.monotonic() + 20
    while manager.is_alive():
        assert time.monotonic() < end, "the kernel goes on alone"
        time.sleep(0.1)
    client.stop_channels()
