"""The shape of the code: who imports whom, how long files are, what is loaded unasked."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.tree import FOLDERS, tree, written

ROOT = Path(__file__).parents[1] / "src" / "bitfit"
# Each imports itself and those before it.
ORDER = ["errors", "files", "hub", "watcher", *FOLDERS, "__main__"]
# Bare `import bitfit` may load nothing but the standard library.
HEAVY = ["torch", "transformers", "numpy", "pyarrow", "sklearn", "rich", "safetensors"]
FILES = sorted(ROOT.rglob("*.py"))
MOST_LINES, MOST_CODE, MOST_PARAMETERS, MOST_LETTERS = 400, 60, 8, 105


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def folder_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> set[str]:
    """Every module of ours that a file names, whether at its top, in a function or for types alone."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & MODULES


def each_file(function):  # type: ignore[no-untyped-def]
    return pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))(function)


@each_file
def test_imports_go_upward_only(path: Path) -> None:
    here = folder_of(module_of(path))
    if not here:
        return  # bitfit/__init__.py names everything, lazily
    for module in imported(parse(path)):
        there = folder_of(module)
        assert not there or ORDER.index(there) <= ORDER.index(here), f"{here} must not import {module}"


def test_there_are_no_import_cycles() -> None:
    graph = {module_of(path): imported(parse(path)) - {module_of(path)} for path in FILES}
    graph["bitfit"] = set()
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for target in graph[module]:
                visit(target, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@each_file
def test_files_are_short_and_say_what_they_are_for(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    docstring = ast.get_docstring(parse(path))
    assert docstring
    first = docstring.splitlines()[0]
    assert first.endswith((".", ":")), f"the docstring's first line is a whole sentence, found {first!r}"
    assert len(first) <= MOST_LETTERS, f"the docstring's first line is a short sentence, found {first!r}"


def code_lines(function: ast.AST, source: list[str]) -> int:
    """Lines that hold code: no blanks, no comments, no docstring."""
    body = function.body  # type: ignore[attr-defined]
    first = body[1] if ast.get_docstring(function) and len(body) > 1 else body[0]  # type: ignore[arg-type]
    lines = source[first.lineno - 1 : function.end_lineno]  # type: ignore[attr-defined]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


@each_file
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    source = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert code_lines(node, source) <= MOST_CODE, node.name
        if folder_of(module_of(path)) == "cli":
            continue  # there every option is a parameter
        count = len(node.args.args) + len(node.args.kwonlyargs) + len(node.args.posonlyargs)
        assert count <= MOST_PARAMETERS, f"{node.name} takes {count} parameters"
        hidden = node.name.startswith("_") or node.name == "forward"
        kwarg = node.args.kwarg
        named = kwarg and kwarg.annotation and ast.unparse(kwarg.annotation).startswith("Unpack[")  # keywords by name
        assert hidden or named or not kwarg, f"{node.name} takes any keyword"


@each_file
def test_only_the_command_line_prints_and_nobody_pickles(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name != "print" or folder_of(module_of(path)) == "cli", f"line {node.lineno} prints"
            assert name not in {"torch.load", "torch.save"}, f"line {node.lineno}: a pickle"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"pickle", "joblib", "dill"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nsys.stderr.write(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import bitfit") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["delta", "--help"], ["train", "--help"]])
def test_help_answers_without_torch_and_at_once(arguments: list[str]) -> None:
    code = f"from bitfit.cli.main import run\nassert run({arguments!r}) == 0"
    assert loaded_by(code) <= {"rich"}
    seconds = []
    for _ in range(3):  # the best of three, and the processor's time: the machine may be busy
        before = os.times()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))  # of child processes, user and system
    assert min(seconds) < 0.3


def test_every_public_name_is_there() -> None:
    import bitfit

    for name in bitfit.__all__:
        assert getattr(bitfit, name) is not None
    assert set(bitfit.__all__) <= set(dir(bitfit))


def test_every_command_has_its_module() -> None:
    from bitfit.cli.main import COMMANDS

    for module, help_line in COMMANDS.values():
        assert (ROOT / Path(*module.split(".")[1:])).with_suffix(".py").exists(), module
        assert help_line.endswith(".")


def test_the_tree_in_the_guide_is_the_tree() -> None:
    assert written() == tree(), "run: make tree"
