"""Reads a page as a browser would: its elements, their attributes, and its text."""

from html.parser import HTMLParser

INLINE = {"em", "strong", "span", "bdi", "code"}
EMPTY = {"meta", "rect", "line", "circle", "polyline"}
ALLOWED = EMPTY | {
    *("html", "head", "title", "style", "body", "main", "header", "footer", "section", "div", "h1", "h2", "p", "em"),
    *("strong", "span", "bdi", "ul", "li", "figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td"),
    *("pre", "code", "svg", "text"),
}


class Page(HTMLParser):
    """What is on a page; an element that is left open or closed twice is a mistake."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.pieces: list[str] = []
        self.codes: list[str] = []  # blocks of lines to copy
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        """All text but the style, with single blanks, and one between blocks."""
        return " ".join("".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in INLINE:
            self.pieces.append(" ")
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.codes.append(data)
        if "style" not in self._open:
            self.pieces.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def check_harmless(html: str) -> Page:
    """The page, if it runs nothing, fetches nothing and has nothing but what a report is made of."""
    page = Page(html)
    assert set(page.tags) <= ALLOWED, set(page.tags) - ALLOWED
    names = {name for _, name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"href", "src", "xlink:href", "style"})
    assert page.tags.count("style") == 1
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes
    return page
