"""One message, two readers: Python's arguments in the library's, options of the shell on the command line."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import bitfit
from bitfit.cli import main
from bitfit.cli.wording import IN_SHELL, in_shell

LIBRARY = Path(bitfit.__file__).parent
# A page shows commands to whoever is sent it.
FILES = [path for path in sorted(LIBRARY.rglob("*.py")) if path.parent.name not in ("cli", "page")]
# Arguments that no command has, since nothing leads a command to a message that names them.
PYTHON_ONLY = {"DataOptions(name=...)"}


def texts(path: Path) -> Iterator[str]:
    """A file's strings but for its docstrings; "..." stands for what is put into one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | documents):
            yield node.value


def options(command: click.Command) -> set[str]:
    """Every option of a command and of those below it."""
    found = {option for parameter in command.params for option in parameter.opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= options(below)
    return found


def parameters(owner: str) -> set[str]:
    """What a public name takes; without one, what any function takes, and an input file."""
    functions = [name for name in bitfit.__all__ if inspect.isfunction(getattr(bitfit, name))]
    names = [owner] if owner else [*functions, "InputFile"]
    return {parameter for name in names for parameter in inspect.signature(getattr(bitfit, name)).parameters}


def test_the_library_names_no_option_of_the_shell() -> None:
    found = [(path.name, text) for path in FILES for text in texts(path) if re.search(r"(?<![\w.-])--[a-z]", text)]
    assert [text for _, text in found if "pip install" not in text] == []


def test_what_the_library_puts_between_backticks_is_known_to_the_command_line() -> None:
    between = {code for path in FILES for text in texts(path) for code in re.findall(r"`([^` ]+)`", text)}
    arguments = {re.sub(r"=[^)]*", "=...", code) for code in between if "=" in code or code.endswith(")")}
    of_any_name = {"DataOptions(...=...)", "...=..."}  # a field's; of TextFormat
    assert arguments - of_any_name <= set(IN_SHELL) | PYTHON_ONLY
    assert len(arguments) > 8
    calls = {
        name for path in FILES for name in re.findall(r"""\boption\(["'](\w+)""", path.read_text(encoding="utf-8"))
    }
    assert {f"DataOptions({name}=...)" for name in calls} <= set(IN_SHELL) | PYTHON_ONLY
    assert len(calls) > 5


@pytest.mark.parametrize("code", IN_SHELL)
def test_each_argument_is_one_of_python_and_of_a_command(code: str) -> None:
    named = re.fullmatch(r"(?:(\w+)\()?(\w+)=\.\.\.\)?", code)
    if named is None:
        owner, _, method = code.removesuffix("()").partition(".")
        assert callable(getattr(getattr(bitfit, owner), method))
    else:
        assert named[2] in parameters(named[1] or "")
    if code != "token=...":  # a secret is no option: others could read it in the list of processes
        wanted = set(re.findall(r"--[\w-]+", IN_SHELL[code]))
        assert wanted
        assert wanted <= options(main.command)


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("Lower `DataOptions(max_length=...)`.", "Lower --max-length."),
        ("out: `DataOptions(skip_bad_rows=True)`.", "out: --skip-bad-rows."),
        ("Give `delimiter=';'`, `delimiter='\\t'`.", "Give --delimiter ';', --delimiter '\\t'."),
        ("as in `encoding='latin-1'`", "as in --encoding latin-1"),
        ("Give `DataOptions(max_length=64)` or less.", "Give --max-length 64 or less."),
        ("`DataOptions(pool='mean')` or `device='cpu'`", "--pool mean or --device cpu"),
        ("""`DataOptions(text="it's")`: no such column.""", "--text it's: no such column."),
        ("a column each: `DataOptions(label=['a', 'b'])`", "a column each: --label a --label b"),
        ("`TrainConfig(few_shot='on')` needs classes", "--few-shot on needs classes"),
        ("start afresh with `Checkpoints.remove()`", "start afresh with --overwrite"),
        ("written by `Delta.save` and `bitfit train`", "written by `Delta.save` and `bitfit train`"),
        ("the column 'a`b': name it with `DataOptions(label=...)`", "the column 'a`b': name it with --label"),
    ],
)
def test_python_and_shell(python: str, shell: str) -> None:
    assert in_shell(python) == shell


def test_an_error_reads_as_python_in_python_and_as_options_on_the_command_line(
    tmp_path: Path, tiny_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "w5 w6,glad\nw7,sad\n" * 20)
    with pytest.raises(bitfit.errors.DataError) as caught:
        bitfit.train(tiny_folder, rows, options={"label": "lable"})
    assert "`DataOptions(label='lable')`: no such column. Did you mean 'label'?" in str(caught.value)
    out = str(tmp_path / "a.safetensors")
    assert main.run(["train", str(rows), "--model", tiny_folder, "--label", "lable", "--out", out]) == 4
    assert "--label lable: no such column. Did you mean 'label'?" in capsys.readouterr().err


def test_a_note_does_so_too(tmp_path: Path, tiny_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"w5 w6,{i % 4}\n" for i in range(40)))
    notes: list[str] = []

    class Notes(bitfit.Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    bitfit.train(tiny_folder, rows, epochs=1, watcher=Notes())
    assert any("(`DataOptions(kind='number')` predicts them as a number)" in note for note in notes)
    out = str(tmp_path / "a.safetensors")
    assert main.run(["train", str(rows), "--model", tiny_folder, "--epochs", "1", "--out", out]) == 0
    assert "(--kind number predicts them as a number)" in capsys.readouterr().err
