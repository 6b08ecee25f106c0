"""Spectra of all heads are those of each head, and a stopped run has lost next to nothing."""

import pytest

from headviz.base.errors import Cancelled
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.heads.capture import capture
from headviz.pursuit import all_spectra as spectra
from headviz.pursuit.all_spectra import all_spectra
from headviz.pursuit.options import Options
from headviz.pursuit.spectrum import head_spectrum

pytest_plugins = ["loaded"]


@pytest.fixture(scope="module")
def activations(llama, texts):
    return capture(llama, texts)


@pytest.fixture
def pursued(monkeypatch):
    """How many layers were pursued."""
    layers = []
    run = spectra.pursue_precomputed

    def counted(*inputs, **more):
        layers.append(1)
        return run(*inputs, **more)

    monkeypatch.setattr(spectra, "pursue_precomputed", counted)
    return layers


def test_the_spectra_of_all_heads_are_those_of_each(llama, activations):
    found = all_spectra(llama, activations, 4, Options(centre=False))
    assert list(found) == [Head(x, y) for x in range(llama.n_layers) for y in range(llama.n_heads)]
    for head, spectrum in found.items():
        own = head_spectrum(llama, activations, head, 4, Options(centre=False))
        assert [a.token for a in spectrum.atoms] == [a.token for a in own.atoms]
        assert [a.explained for a in spectrum.atoms] == pytest.approx(
            [a.explained for a in own.atoms], rel=1e-4
        )
        assert (spectrum.head, spectrum.options) == (own.head, own.options)
        assert [s.text for s in spectrum.samples] == [s.text for s in own.samples]
        assert [t.token for t in spectrum.lens] == [t.token for t in own.lens]


def test_a_stopped_run_goes_on_where_it_was(llama, activations, tmp_path, pursued):
    store = Store(tmp_path)
    seen = []

    def stop_in_the_second_layer(share, what):
        seen.append(share)
        if share > 0.9 / llama.n_layers:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        all_spectra(llama, activations, 3, store=store, progress=stop_in_the_second_layer)
    assert seen == sorted(seen)
    pursued.clear()
    whole = all_spectra(llama, activations, 3, store=store)
    assert len(pursued) == llama.n_layers - 1
    fresh = all_spectra(llama, activations, 3)
    assert whole == fresh
    pursued.clear()
    all_spectra(llama, activations, 4, store=store)
    assert len(pursued) == llama.n_layers, "another number of steps is another result"


def test_a_disk_that_takes_nothing_stops_nothing(llama, activations, tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = all_spectra(llama, activations, 2, store=Store(tmp_path / "file"))
    assert len(found) == llama.total_heads


def test_a_session_finds_them_all(session, tiny_model_folder, texts):
    name = str(tiny_model_folder("llama"))
    found = session.all_spectra(name, texts, 3)
    head = Head(1, 0)
    alone = session.spectrum(name, head, texts, 3)
    assert [a.token for a in found[head].atoms] == [a.token for a in alone.atoms]
