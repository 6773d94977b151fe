"""The allocator of the whole process is set by whoever owns the process: the command line, or a caller who asks."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTING = """
import ctypes, sys
told, library = [], ctypes.CDLL

class Noting:
    def mallopt(self, *given):
        told.append(given)
        return 1

def opened(name=None, *rest, **more):
    caller = sys._getframe(1).f_globals["__name__"]
    return Noting() if caller == "bitfit.backbone.memory" else library(name, *rest, **more)

ctypes.CDLL = opened
"""
LIBRARY = """
from tests.training.trained import trained
import bitfit
backbone, delta = trained()
bitfit.predict(backbone, delta, "w5")
assert not told, told
assert bitfit.keep_freed_memory() is bool(told)
"""
COMMAND = """
import platform
from bitfit.cli.main import main
try:
    main(["--version"])
except SystemExit:
    assert bool(told) is (platform.libc_ver()[0] == "glibc")
"""


@pytest.mark.parametrize("code", [LIBRARY, COMMAND], ids=["library", "command"])
@pytest.mark.slow
def test_the_library_leaves_the_allocator_alone_and_the_command_does_not(code: str) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", NOTING + code], check=True, cwd=root)
