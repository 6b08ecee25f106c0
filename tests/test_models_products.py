"""Float32 products by another library: as exact, chosen once, and nobody's own setting is lost."""

import pytest
import torch

from headviz.models import products

MATMUL = torch.backends.mkldnn.matmul


@pytest.fixture
def choose():
    """`choose_products` as in a new process; afterwards all is as it was."""
    before = MATMUL.fp32_precision
    MATMUL.fp32_precision = "none"
    products.choose_products.cache_clear()
    yield products.choose_products
    products.choose_products.cache_clear()
    MATMUL.fp32_precision = before


def test_whatever_is_chosen_products_stay_those_of_float32(choose):
    choose()
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(700, 300, generator=generator)
    for rows in (1, 2, 3, 60, 640):
        x = torch.randn(rows, 300, generator=generator)
        exact = x.double() @ table.double().T
        found = torch.nn.functional.linear(x, table)
        assert (found - exact).norm() < 2e-6 * exact.norm()


def seconds_of(usual: float, other: float):
    """Stands for the clock: what a product takes by the usual library, and by the other one."""
    return lambda x, table: other if MATMUL.fp32_precision == "bf16" else usual


@pytest.mark.parametrize(
    ("usual", "other", "exact", "chosen"),
    [(3, 1, True, True), (3, 1, False, False), (1, 1, True, False), (1, 3, True, False)],
    ids=["quicker", "rounds", "alike", "slower"],
)
def test_the_other_library_is_asked_where_it_is_quicker_and_exact(
    choose, monkeypatch, usual, other, exact, chosen
):
    monkeypatch.setattr(products, "_seconds", seconds_of(usual, other))
    monkeypatch.setattr(products, "_is_exact", lambda x, table: exact)
    assert choose() == chosen
    assert MATMUL.fp32_precision == ("bf16" if chosen else "none")


def test_who_lets_torch_round_keeps_it(choose):
    MATMUL.fp32_precision = "bf16"
    assert not choose()
    assert MATMUL.fp32_precision == "bf16"
