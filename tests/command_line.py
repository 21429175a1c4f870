"""A module's command line, run in this process: what it prints, without the seconds that a new one imports for."""

import contextlib
import io
import runpy
import sys
from typing import NamedTuple
from unittest import mock


class Said(NamedTuple):
    """What a command left: its exit status, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def python_m(module: str, *arguments: object) -> Said:
    """`python -m MODULE ARGUMENTS`: the module runs anew as `__main__`; an exit is its status, a traceback is raised."""
    out, errors, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [module, *map(str, arguments)]),
        mock.patch.dict(sys.modules),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        sys.modules.pop(module, None)    # else runpy warns that it is imported already
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as exit:
            status = exit.code or 0
            if isinstance(status, str):    # what the interpreter does with it
                print(status, file=sys.stderr)
                status = 1
    return Said(status, out.getvalue(), errors.getvalue())
