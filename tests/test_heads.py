"""Heads and factors are read as they are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headviz.base.errors import OptionError
from headviz.base.head import Head, check_heads, parse_factor, parse_factors
from headviz.heads.edits import Edit

some_heads = st.builds(Head, st.integers(0, 999), st.integers(0, 999))
some_factors = st.floats(-100, 100)


@given(some_heads)
def test_a_head_is_parsed_as_it_prints(head):
    assert Head.parse(str(head)) == head
    assert Head.parse(f" {str(head).lower()} ") == head


@given(st.dictionaries(some_heads, some_factors, max_size=5))
def test_an_edit_is_parsed_as_it_prints(factors):
    edit = Edit(factors)
    assert Edit.parse(str(edit)) == edit


@given(st.text(max_size=20))
def test_any_text_is_a_head_or_an_option_error(text):
    try:
        head = Head.parse(text)
    except OptionError as error:
        assert "\n" not in str(error)
    else:
        assert Head.parse(str(head)) == head


@pytest.mark.parametrize(
    "text", ["", "3.7", "L3", "L-1.H2", "H2.L1", "L1.H2x", "L²H1", "L1.H" + "9" * 5000]
)
def test_what_is_no_head_is_refused_with_an_example(text):
    with pytest.raises(OptionError, match=r"is no head\. Write layer and head as in L3\.H7\."):
        Head.parse(text)


@pytest.mark.parametrize("text", ["x", "", "nan", "inf", "-inf", "1e999", "1e300", "1,5", "--1"])
def test_what_is_no_finite_usable_factor_is_refused(text):
    with pytest.raises(OptionError, match=r"is no factor\. Write a number"):
        parse_factor(text)


@pytest.mark.parametrize("text", ["L1.H2", "L1.H2:3", "L1.H2=1,foo"])
def test_what_is_no_edit_is_refused_with_an_example(text):
    with pytest.raises(OptionError, match=r"is no edit\. Write head=factor"):
        parse_factors(text)


def test_blanks_and_empty_parts_are_no_matter():
    assert parse_factors(" L1.H2 = -1 ,, l0.h3=0.5,") == {Head(1, 2): -1.0, Head(0, 3): 0.5}
    assert parse_factors("") == {}
    assert math.copysign(1, parse_factor("-0")) == -1


@pytest.mark.parametrize("head", [Head(2, 0), Head(0, 4)])
def test_a_head_that_the_model_lacks_is_refused_with_the_models_size(head):
    check_heads([Head(1, 3)], n_layers=2, n_heads=4)
    with pytest.raises(OptionError, match=rf"no head {head}: .* layers 0 to 1 with heads 0 to 3"):
        check_heads([head], n_layers=2, n_heads=4)
