"""What sections of a page are made of: headings, figures, tables."""

from collections.abc import Sequence

from bitfit.page.markup import Markup, element, joined


def section(title: str, *parts: str) -> Markup:
    """A section of what there is; nothing where there is nothing."""
    content = joined(parts)
    return element("section", None, element("h2", None, title), content) if content else Markup("")


def figures(*drawn: str) -> Markup:
    """Figures beside each other, as far as the page is wide."""
    content = joined(drawn)
    return element("div", {"class": "figures"}, content) if content else Markup("")


def figure(drawing: str, caption: str) -> Markup:
    """A drawing with what it shows; nothing where there is no drawing."""
    if not drawing:
        return Markup("")
    return element("figure", None, element("div", {"class": "drawing"}, drawing), element("figcaption", None, caption))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1, long: int = 0) -> Markup:
    """A table whose first columns are texts and whose others are figures; the first `long` of them hold long texts."""
    if not rows:
        return Markup("")

    def cell(name: str, number: int, content: str) -> Markup:
        style = "long" if number < long else "text" if number < texts else "number"
        return element(name, {"class": style, "dir": "auto" if number < texts else None}, content)

    def line(name: str, row: Sequence[str]) -> Markup:
        return element("tr", None, joined(cell(name, number, content) for number, content in enumerate(row)))

    head = element("thead", None, line("th", columns)) if any(columns) else Markup("")
    body = element("tbody", None, joined(line("td", row) for row in rows))
    return element("div", {"class": "table stacked" if long else "table"}, element("table", None, head, body))


def paragraph(*parts: str, style: str | None = None) -> Markup:
    """A paragraph."""
    return element("p", {"class": style}, *parts)


def code(text: str) -> Markup:
    """Lines to copy."""
    return element("pre", None, element("code", None, text))


def items(lines: Sequence[str], style: str | None = None) -> Markup:
    """A list."""
    return element("ul", {"class": style}, joined(element("li", None, line) for line in lines)) if lines else Markup("")
