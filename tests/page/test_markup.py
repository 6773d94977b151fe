"""Whatever is not markup is shown, never obeyed."""

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from bitfit.page.markup import Markup, element, escaped, foreign, joined
from tests.page.reading import Page

ANY_TEXT = st.text(st.characters(), max_size=60)  # surrogates and signs without a shape among them


@given(ANY_TEXT)
@example("</p><script>alert(1)</script>")
@example('" onload="alert(1)')
@example("&lt;b&gt; &amp; \u202e\ud800\x00\r\n")
def test_a_text_stays_inside_its_element_and_its_attribute(text: str) -> None:
    html = element("p", {"title": text}, text)
    page = Page(html)
    assert page.tags == ["p"]
    assert [name for _, name, _ in page.attributes] == ["title"]
    shown = "".join(page.pieces[:-1])  # a blank ends a block
    assert page.attributes[0][2] == shown == escaped_back(text)
    html.encode("utf-8")


def escaped_back(text: str) -> str:
    """What is to be seen of a text."""
    return Page(element("p", None, escaped(text))).pieces[0] if text else ""


@given(ANY_TEXT)
def test_no_sign_turns_the_direction_or_has_no_shape(text: str) -> None:
    for letter in escaped(text):
        assert letter in "\t\n" or unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(letter) not in ("RLE", "LRE", "RLO", "LRO", "PDF", "LRI", "RLI", "FSI", "PDI")


def test_markup_is_not_escaped_again_and_letters_of_any_writing_stay() -> None:
    inner = element("em", None, "a < b")
    assert joined([inner, " & ", inner]) == "<em>a &lt; b</em> &amp; <em>a &lt; b</em>"
    assert isinstance(joined([inner]), Markup)
    for text in (
        "שלום",
        "日本語",
        "👩‍👩‍👧",
        "نمی‌دانم",
    ):  # the last two are joined, or kept apart, by a sign without a shape
        assert escaped(text) == text


def test_a_long_text_is_shortened_and_set_apart() -> None:
    assert foreign("x" * 9, 5) == "<bdi>xxxx…</bdi>"
    assert foreign("xxxxx", 5) == "<bdi>xxxxx</bdi>"


def test_attributes_that_are_none_are_left_out_and_numbers_are_short() -> None:
    assert element("rect", {"x": 1.0, "y": 0.33333, "class": None, "z": 0}) == '<rect x="1" y="0.33" z="0"/>'
