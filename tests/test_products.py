"""A product is the same whichever library works it out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headviz.pursuit.engine import matmul as products
from headviz.pursuit.engine.matmul import rows_times_rows
from headviz.pursuit.engine.precision import products_in


@settings(max_examples=40)
@given(
    rows=st.integers(1, 40),
    others=st.integers(1, 300),
    columns=st.integers(1, 300),
    layout=st.sampled_from(["plain", "turned", "spread"]),
    small=st.sampled_from([0, 2**20]),
)
def test_it_is_the_product_up_to_rounding(rows, others, columns, layout, small):
    generator = torch.Generator().manual_seed(rows * others * columns)
    x = torch.randn(rows, columns, generator=generator)
    y = torch.randn(others, columns, generator=generator)
    if layout == "turned":
        y = y.T.contiguous().T
    if layout == "spread":
        y = torch.stack([y, y], 1)[:, 0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(products, "_SMALL", small)
        found = rows_times_rows(x, y)
    exact = x.double() @ y.double().T
    scale = x.double().norm(dim=1)[:, None] * y.double().norm(dim=1)
    assert ((found - exact).abs() <= 1e-6 * scale + 1e-12).all()


def test_float64_stays_float64():
    x, y = torch.randn(300, 100).double(), torch.randn(200, 100).double()
    assert rows_times_rows(x, y).equal(x @ y.T)


def test_without_the_other_library_it_is_the_plain_product(monkeypatch):
    x, y = torch.randn(300, 100), torch.randn(200, 100)
    monkeypatch.setattr(products, "_SMALL", 0)
    monkeypatch.setattr(products, "_onednn", lambda: None)
    assert rows_times_rows(x, y).equal(x @ y.T)


def test_bfloat16_factors_stay_the_callers_choice(monkeypatch):
    x, y = torch.randn(300, 100), torch.randn(200, 100)
    monkeypatch.setattr(products, "_SMALL", 0)
    with products_in("bfloat16"):
        assert rows_times_rows(x, y).equal(x @ y.T)


def test_what_is_learned_keeps_its_gradient(monkeypatch):
    monkeypatch.setattr(products, "_SMALL", 0)
    x, y = torch.randn(30, 10, requires_grad=True), torch.randn(20, 10)
    rows_times_rows(x, y).sum().backward()
    assert x.grad is not None
