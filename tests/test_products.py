"""A product is the same whichever library works it out."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headviz.pursuit.engine.matmul import rows_times_rows
from headviz.pursuit.engine.precision import products_in

LARGE = torch.randn(300, 100), torch.randn(200, 100)
"""Large enough for the other library."""


@settings(max_examples=40)
@given(
    rows=st.integers(1, 100),
    others=st.integers(1, 1000),
    columns=st.integers(1, 300),
    layout=st.sampled_from(["plain", "turned", "spread"]),
)
@example(rows=100, others=1000, columns=300, layout="plain")
@example(rows=1, others=300, columns=20, layout="plain")
def test_it_is_the_product_up_to_rounding(rows, others, columns, layout):
    generator = torch.Generator().manual_seed(rows * others * columns)
    x = torch.randn(rows, columns, generator=generator)
    y = torch.randn(others, columns, generator=generator)
    if layout == "turned":
        y = y.T.contiguous().T
    if layout == "spread":
        y = torch.stack([y, y], 1)[:, 0]
    found = rows_times_rows(x, y)
    exact = x.double() @ y.double().T
    scale = x.double().norm(dim=1)[:, None] * y.double().norm(dim=1)
    assert ((found - exact).abs() <= 1e-6 * scale + 1e-12).all()


def test_float64_stays_float64():
    x, y = (side.double() for side in LARGE)
    assert rows_times_rows(x, y).equal(x @ y.T)


def test_without_the_other_library_it_is_the_plain_product(monkeypatch):
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    x, y = LARGE
    assert rows_times_rows(x, y).equal(x @ y.T)


def test_bfloat16_factors_stay_the_callers_choice():
    x, y = LARGE
    with products_in("bfloat16"):
        assert rows_times_rows(x, y).equal(x @ y.T)


def test_what_is_learned_keeps_its_gradient():
    x, y = LARGE
    learned = x.clone().requires_grad_()
    rows_times_rows(learned, y).sum().backward()
    torch.testing.assert_close(learned.grad, y.sum(0).expand_as(x), rtol=1e-4, atol=1e-4)
