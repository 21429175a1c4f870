"""Kernels that start in a moment: forked from one process that has imported what the chapters import.

torch, torchvision and their like take four seconds of processor time in every kernel. The package itself is not imported
before the fork, and a chapter that forgets an import fails as it would anywhere: names are its own.
"""

import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest import mock

IMPORTED = (
    "IPython", "ipykernel.kernelapp", "ipywidgets", "matplotlib.axes", "matplotlib.backends.backend_agg", "sklearn.datasets",
    "sklearn.model_selection", "timm", "torch._dynamo", "torch.distributed", "torchvision.transforms.v2", "tqdm",
)  # fmt: skip


def serve() -> None:
    """Fork a kernel for each line of the standard input, a connection file and more as JSON; it tells its process id."""
    gc.disable()
    for name in IMPORTED:
        with suppress(ImportError):    # chapters do without what is optional
            importlib.import_module(name)
    gc.freeze()    # what is imported stays
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)    # nobody waits for a kernel
    for line in sys.stdin:
        if os.fork() == 0:
            become_a_kernel(**json.loads(line))


def become_a_kernel(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """What `python -m ipykernel_launcher` does in a process of its own."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]    # ends with its parent
    print(os.getpid(), flush=True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    IPKernelApp.launch_instance()
    sys.exit()


class Forked:
    """A kernel as jupyter_client knows processes: what it asks of a subprocess.Popen."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return None
        return 0

    wait = poll

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks kernels."""

    def __init__(self) -> None:
        around = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}    # as in every kernel
        around.pop("PYTHONPATH", None)    # each kernel has its own
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen([sys.executable, __file__], env=around, start_new_session=True, **pipes)

    def launch_kernel(self, command: list[str], env=None, cwd=None, **_) -> Forked:
        """In place of jupyter_client's function of this name."""
        asked = dict(arguments=command[command.index("-f") :], cwd=cwd or os.getcwd(), env=env or {**os.environ})
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        if not (pid := self.process.stdout.readline()):
            raise RuntimeError(f"{__file__}, which forks kernels, has ended")
        return Forked(int(pid))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


server = functools.cache(Server)    # one for each process that runs tests


@contextmanager
def forked() -> Iterator[None]:
    """Meanwhile jupyter_client's kernels are forked; as ever where a fork of a process with such libraries is no use."""
    if sys.platform != "linux":
        yield
        return
    with mock.patch("jupyter_client.provisioning.local_provisioner.launch_kernel", server().launch_kernel):
        yield


def close() -> None:
    """End what forks kernels, if it has begun."""
    if server.cache_info().currsize:
        server().close()
        server.cache_clear()


if __name__ == "__main__":
    del sys.path[0]    # this file's folder
    serve()
