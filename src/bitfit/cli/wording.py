"""What the library's messages call an argument, as an option of the command line.

A message of the library names an argument as Python code between backticks, as `DataOptions(max_length=64)`, which is
--max-length 64 here.
"""

import re
from functools import partial

from bitfit.cli.options import OPTIONS

_SIGNS = re.compile(r"[\s;|&<>()$*\\^]")  # mean something else to a shell

# Python code, with "..." for a value -> what the command line has for it.
IN_SHELL = {
    **{f"DataOptions({name}=...)": f"--{name.replace('_', '-')}" for name in OPTIONS},
    "InputFile(renamed=...)": "--text, --text-pair or --tokens",
    "InputFile(answer=...)": "--answer",
    "TrainConfig(balance=...)": "--balance",
    "TrainConfig(few_shot=...)": "--few-shot",
    "TrainConfig(head_start=...)": "--head-start",
    "Checkpoints(folder=...)": "--out",
    "Checkpoints(every=...)": "--checkpoint-every",
    "Checkpoints.remove()": "--overwrite",
    "data=...": "--task",
    "delimiter=...": "--delimiter",
    "device=...": "--device",
    "encoding=...": "--encoding",
    "out=...": "--out",
    "split=...": "--split",
    "token=...": "HF_TOKEN in the environment",
}


def in_shell(text: str) -> str:
    """A message of the library with options in place of Python's arguments."""
    for code, option in IN_SHELL.items():
        before, _, after = code.partition("...")
        text = re.sub(f"`{re.escape(before)}([^`]*){re.escape(after)}`", partial(_with_value, option), text)
    return text


def _with_value(option: str, found: re.Match[str]) -> str:
    if found[1].startswith("["):  # an option for each
        return " ".join(f"{option} {each}" for each in re.findall(r"'([^']*)'", found[1]))
    value = found[1].strip("'\"")
    if value in ("", "...", "True"):  # a switch has no value
        return option
    return f"{option} '{value}'" if _SIGNS.search(value) else f"{option} {value}"
