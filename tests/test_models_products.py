"""Float32 products by another library: as exact, chosen once, and nobody's own setting is lost."""

import copy
import pickle

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
    return lambda x, table, *_: other if MATMUL.fp32_precision == "bf16" else usual


@pytest.mark.parametrize(
    ("usual", "other", "exact", "chosen"),
    [(3, 1, True, True), (3, 1, False, False), (1, 1, True, False), (1, 3, True, False)],
    ids=["quicker", "rounds", "alike", "slower"],
)
def test_the_other_library_is_asked_where_it_is_quicker_and_exact(
    choose, monkeypatch, usual, other, exact, chosen
):
    monkeypatch.setattr(products, "_seconds", seconds_of(usual, other))
    monkeypatch.setattr(products, "_is_exact", lambda *_: exact)
    assert choose() == chosen
    assert MATMUL.fp32_precision == ("bf16" if chosen else "none")


def test_who_lets_torch_round_keeps_it(choose):
    MATMUL.fp32_precision = "bf16"
    assert not choose()
    assert MATMUL.fp32_precision == "bf16"


@pytest.fixture
def keeping(monkeypatch):
    """A large Linear and a small one, as on a processor where keeping is quicker."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this processor has no oneDNN")
    monkeypatch.setattr(products, "keeping_is_quicker", lambda: True)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(600, 500), torch.nn.Linear(500, 20, bias=False))
    assert products.keep_linears(model) == 1
    return model


def off_by(layer, x):
    exact = x.double() @ layer.weight.double().T + layer.bias.double()
    return float((layer(x) - exact).norm() / exact.norm())


@torch.no_grad()
def test_kept_weights_give_float32_products_of_any_number_of_rows(keeping):
    for shape in ((1, 600), (2, 600), (3, 1, 600), (8, 8, 600), (65, 600)):
        x = torch.randn(*shape)
        found = keeping[0](x)
        assert found.shape == (*shape[:-1], 500) and off_by(keeping[0], x) < 2e-6
    assert "_kept" in vars(keeping[0]), "no product was made with the kept weight"


def test_kept_weights_leave_gradients_as_they_were(keeping):
    x = torch.randn(3, 600, requires_grad=True)
    keeping[0](x).sum().backward()
    torch.testing.assert_close(x.grad[0], keeping[0].weight.sum(0))


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.mul_(2),
        lambda layer: setattr(layer, "weight", torch.nn.Parameter(layer.weight + 1)),
        lambda layer: layer.load_state_dict({k: -v for k, v in layer.state_dict().items()}),
    ],
    ids=["in place", "replaced", "loaded"],
)
def test_a_weight_that_was_changed_is_not_multiplied_as_it_was(keeping, change):
    x = torch.randn(3, 600)
    keeping[0](x)
    change(keeping[0])
    assert off_by(keeping[0], x) < 2e-6


@torch.no_grad()
@pytest.mark.parametrize("other", ["meta", torch.bfloat16], ids=str)
def test_a_model_that_was_moved_or_rounded_multiplies_as_ever(keeping, other):
    """As one that is lent a GPU is moved to it; the device "meta" stands for that here."""
    keeping[0](torch.randn(3, 600))
    moved = keeping[0].to(other)
    del moved._kept  # whatever is laid out from here on is seen
    x = torch.randn(3, 600).to(other)
    found = moved(x)
    assert (found.device, found.dtype) == (x.device, x.dtype) and moved._kept is None


@torch.no_grad()
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_lays_its_own_weight_out(keeping, copied):
    x = torch.randn(3, 600)
    keeping[0](x)
    other = copied(keeping)
    other[0].weight.zero_()
    assert off_by(keeping[0], x) < 2e-6 and torch.equal(other[0](x), other[0].bias.expand(3, -1))


def test_weights_are_kept_where_that_is_quicker_and_exact(monkeypatch):
    def tried(usual: float, kept: float, exact: bool) -> bool:
        clock = {products._product: kept}
        monkeypatch.setattr(products, "_seconds", lambda *args: clock.get(args[-1], usual))
        monkeypatch.setattr(products, "_is_exact", lambda *_: exact)
        products.keeping_is_quicker.cache_clear()
        return products.keeping_is_quicker()

    try:
        assert tried(3, 1, exact=True) == torch.backends.mkldnn.is_available()
        assert not tried(3, 1, exact=False) and not tried(1, 1, exact=True)
        assert products.keep_linears(torch.nn.Linear(600, 500)) == 0
    finally:
        products.keeping_is_quicker.cache_clear()
