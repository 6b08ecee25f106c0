"""The spectra of all heads, a layer at a time, each layer kept on disk as soon as it is done.

A run that was stopped has lost nothing but the layer it was in: the next one reads the others.
"""

from collections.abc import Callable
from contextlib import suppress

from headviz.base.errors import CacheError
from headviz.base.head import Head
from headviz.base.shapes import Tensor
from headviz.base.store import Store, key_of
from headviz.heads.capture import HeadActivations, Progress, no_progress
from headviz.models.loaded import LoadedModel
from headviz.pursuit.criteria import precompute_model
from headviz.pursuit.dictionary import vocabulary_atoms, vocabulary_labels
from headviz.pursuit.engine.precomputed import PrecomputedHeads
from headviz.pursuit.engine.somp import BUDGET, How, pursue_precomputed
from headviz.pursuit.options import Options
from headviz.pursuit.spectrum import Spectrum, describe, mean_logits

Found = dict[str, Tensor]
"""`picks`, `weights` and `explained` of a layer's heads, each (head, step)."""


def all_spectra(
    model: LoadedModel,
    activations: HeadActivations,
    steps: int = 20,
    options: Options | None = None,
    store: Store | None = None,
    progress: Progress = no_progress,
    budget: int = BUDGET,
    precomputed: PrecomputedHeads | None = None,
) -> dict[Head, Spectrum]:
    """The spectrum of every head over all texts.

    Args:
        model: the model.
        activations: its heads' signals.
        steps: tokens to pick for each head.
        options: choices that the spectra depend on.
        store: where finished layers are kept and found; None keeps nothing.
        progress: called after every step of every layer; may raise Cancelled.
        budget: bytes of working memory beside heads and vocabulary.
        precomputed: `precompute_model(model, activations, options.centre)`, if the caller has it.
    """
    options = Options(**{**(options or Options()).as_dict(), "steps": steps})
    heads = precomputed or precompute_model(model, activations, options.centre)
    atoms = vocabulary_atoms(model, options.normalise, options.fold_norm)
    labels = vocabulary_labels(model)
    spectra: dict[Head, Spectrum] = {}
    for place, layer in enumerate(model.head_layers):

        def watch(share: float, place: int = place, layer: int = layer) -> None:
            done = (place + share) / len(model.head_layers)
            progress(done, f"spectra of layer {layer + 1} of {model.n_layers}")

        def pursue_layer(place: int = place, watch: Callable[[float], None] = watch) -> Found:
            group = heads.group(place * model.n_heads, (place + 1) * model.n_heads)
            found = pursue_precomputed(group, atoms, steps, How(budget=budget), watch)
            return {"picks": found.picks, "weights": found.weights, "explained": found.explained}

        watch(0.0)
        key = _key(model, activations, options, layer)
        found = _find_or_make(store, key, pursue_layer)
        logits = mean_logits(activations.z[layer], model.head_weights(layer), atoms)
        for index in range(model.n_heads):
            head = Head(layer, index)
            row = (found["picks"][index], found["weights"][index], found["explained"][index])
            spectra[head] = describe(model, activations, head, options, labels, row, logits[index])
    progress(1.0, "spectra of all heads")
    return spectra


def _key(model: LoadedModel, activations: HeadActivations, options: Options, layer: int) -> str:
    return key_of(
        kind="spectra",
        model=model.name,
        revision=model.revision,
        dtype=model.number_format,
        prompt_set=activations.prompt_set,
        n_samples=activations.n_samples,
        pooling=activations.pooling,
        options=options.as_dict(),
        layer=layer,
    )


def _find_or_make(store: Store | None, key: str, make: Callable[[], Found]) -> Found:
    kept = store.get(key) if store else None
    if kept is not None:
        return kept[0]
    made = make()
    if store:
        with suppress(CacheError):  # it is kept to save time only: the run goes on
            store.put(key, made, {"kind": "spectra"})
    return made
