"""CONTRIBUTING's tree, made from the first line of each file's docstring; `make tree` writes it."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "bitfit"
GUIDE = ROOT / "CONTRIBUTING.md"
HEADING = "## The tree\n"
# From the ground up: a folder imports only those before it. The folders inside data/ count as one.
FOLDERS = ["backbone", "runtime", "data", "methods", "delta", "inference", "training", "page", "experiment"]
FOLDERS += ["integrations", "serve", "cli"]


def tree() -> str:
    """Every file of the package with one line, as an indented block."""
    return "\n".join(["    src/bitfit/", *_lines(PACKAGE, 1)]) + "\n"


def _lines(folder: Path, depth: int) -> Iterator[str]:
    files = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.name != "__init__.py")
    files += sorted(path for path in folder.glob("*.toml"))
    for path in [folder / "__init__.py", *files] if depth == 1 else files:
        yield _line(path.name, _purpose(path), depth)
    folders = [path for path in folder.iterdir() if (path / "__init__.py").exists()]
    for inner in sorted(folders, key=lambda path: FOLDERS.index(path.name) if depth == 1 else path.name):
        yield _line(f"{inner.name}/", _purpose(inner / "__init__.py"), depth)
        yield from _lines(inner, depth + 1)


def _purpose(path: Path) -> str:
    """What a file is for: the first sentence of its docstring, without what it refuses to know."""
    if path.suffix == ".toml":
        return "the table itself" if "arch" in path.name else "the figures themselves"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].partition("; ")[0].rstrip(".:")


def _line(name: str, purpose: str, depth: int) -> str:
    return f"{'    ' + '  ' * depth + name:<30}{purpose}".rstrip()


def written() -> str:
    """The block that the guide has now."""
    section = GUIDE.read_text(encoding="utf-8").split(HEADING, 1)[1].split("\n## ", 1)[0]
    return "".join(f"{line}\n" for line in section.splitlines() if line.startswith("    "))


if __name__ == "__main__":
    text = GUIDE.read_text(encoding="utf-8")
    GUIDE.write_text(text.replace(written(), tree()) if written() else text, encoding="utf-8")
