"""Methods' names taken apart."""

import pytest

from bitfit.errors import RequestError
from bitfit.methods.name import MethodName


@pytest.mark.parametrize(
    ("text", "family", "terms", "layers"),
    [
        ("bitfit", "bitfit", (), ()),
        ("bitfit[b_m2,b_q]", "bitfit", ("b_m2", "b_q"), ()),
        ("bitfit[ query ] @ 6-11", "bitfit", ("query",), ("6-11",)),
        ("bitfit[all-but-key]@last4", "bitfit", ("all-but-key",), ("last4",)),
        ("layernorm@0,2,5-7", "layernorm", (), ("0", "2", "5-7")),
        ("random-rows-columns", "random-rows-columns", (), ()),
        ("bitfit[auto:0.04%]", "bitfit", ("auto:0.04%",), ()),
    ],
)
def test_a_name_has_family_terms_and_layers(
    text: str, family: str, terms: tuple[str, ...], layers: tuple[str, ...]
) -> None:
    name = MethodName.parse(text)
    assert (name.family, name.terms, name.layers) == (family, terms, layers)


@pytest.mark.parametrize(
    "text", ["", "[b_q]", "bitfit[", "bitfit]", "bitfit[a][b]", "bitfit@", "bitfit!", "bitfit[]", "bitfit[a,,b]"]
)
def test_a_name_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        MethodName.parse(text)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("bitfit", {0, 1, 2, 3, 4, 5}),
        ("bitfit@2", {2}),
        ("bitfit@2-4", {2, 3, 4}),
        ("bitfit@last2", {4, 5}),
        ("bitfit@first1", {0}),
        ("bitfit@0,last1", {0, 5}),
    ],
)
def test_layers_are_numbered_from_zero(layers: str, expected: set[int]) -> None:
    assert MethodName.parse(layers).chosen_layers(6) == expected


@pytest.mark.parametrize("layers", ["6", "0-6", "last7", "first7", "4-2"])
def test_layers_that_are_not_there_are_refused_with_those_that_are(layers: str) -> None:
    with pytest.raises(RequestError, match="6 layers, 0 to 5"):
        MethodName.parse(f"bitfit@{layers}").chosen_layers(6)


@pytest.mark.parametrize("layers", ["x", "1-", "-1", "last", "last0", "0--2"])
def test_layers_of_another_shape_are_refused(layers: str) -> None:
    with pytest.raises(RequestError, match="Layers look like"):
        MethodName.parse(f"bitfit@{layers}")


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("bitfit[b_q,b_m2]", "bitfit[b_m2,b_q]"),
        ("bitfit[b_q,b_q]", "bitfit[b_q]"),
        ("bitfit@last2,10,9,0-3,9", "bitfit@0-3,9,10,last2"),
    ],
)
def test_the_order_of_words_and_doubles_change_nothing(text: str, spelling: str) -> None:
    assert MethodName.parse(text).text == spelling
    assert MethodName.parse(text) == MethodName.parse(spelling)


def test_words_without_a_comma_are_refused_as_written() -> None:
    with pytest.raises(RequestError, match=r"between commas; found 'b_q b_m2' in 'bitfit\[b_q b_m2\]'"):
        MethodName.parse("bitfit[b_q b_m2]")


@pytest.mark.parametrize("given", [5, None])
def test_what_is_no_text_is_refused(given: object) -> None:
    with pytest.raises(RequestError, match=f"Expected a method's name, such as 'bitfit'; found {given}"):
        MethodName.parse(given)  # type: ignore[arg-type]
