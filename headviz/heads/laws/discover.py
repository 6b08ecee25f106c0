"""The structure of a model whose class has no row in FAMILIES: guessed, then held against the laws.

A guess is read off a short forward pass: which projection's input falls silent slice by slice with
the heads, which norm comes last, what stands between attention and the residual stream. None is
used before every law holds on it; where one does not, the model is refused with the law and the
number. Knows no class names.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from headviz.base.errors import ModelError
from headviz.base.shapes import Tensor
from headviz.heads.laws.fixture import Fixture, NotMeasurable
from headviz.heads.laws.instrument import hooked
from headviz.heads.laws.laws import LAWS
from headviz.heads.laws.report import measure
from headviz.models.families import Family, output_weight
from headviz.models.load import Described
from headviz.models.loaded import LoadedModel

DISCOVERED = "structure discovered, checked by the laws"


def discover(model: Any, described: Described) -> LoadedModel:
    """The model with the structure that was found in it, once every law holds.

    Raises ModelError, saying what was not found, or naming the law that is broken and the number.
    """
    config = model.config.get_text_config()
    kind = config.model_type
    layers = _layers(model, kind, getattr(config, "num_hidden_layers", None))
    if not getattr(config, "num_attention_heads", None):
        raise _refused(kind, "its config names no attention heads")
    if model.get_output_embeddings() is None:
        raise _refused(kind, "it has no unembedding")
    projections = _candidates(model, attrgetter(layers)(model), config.num_attention_heads)
    with_norm = Family(layers, "", _last_norm(model, kind, layers))
    found = _with_heads(kind, [replace(with_norm, projection=p) for p in projections], described)
    found = _on_the_way(found, described)
    for finding in measure(Fixture.of(found)):
        if finding.verdict != "pass":
            number = finding.note if finding.measured is None else f"{finding.measured:.2g}"
            raise _refused(
                kind,
                f"of what was found in it (projection {found.family.projection}, norm "
                f"{found.family.final_norm}) the law {finding.law!r} does not hold: "
                f"{finding.sentence} Measured {number}, at most {finding.limit:.0e}",
            )
    return replace(found, why=f"{found.why}; {DISCOVERED}")


def _refused(kind: str, why: str) -> ModelError:
    return ModelError(
        f"Models of type {kind!r} have no row in headviz/models/families.py, and their structure "
        f"could not be discovered: {why}."
    )


def _layers(model: Any, kind: str, n_layers: int | None) -> str:
    """The path of the list of decoder layers."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return str(path)
    raise _refused(kind, f"it has no list of {n_layers} layers")


def _candidates(model: Any, layers: nn.ModuleList, n_heads: int) -> list[str]:
    """Paths inside a layer of what may be the attention output projection, attention's first."""
    d_model = model.get_output_embeddings().weight.shape[1]
    names: dict[str, None] = {}
    for layer in layers:
        for path, module in layer.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim == 2:
                rows, columns = output_weight(module).shape
                if rows == d_model and columns % n_heads == 0:
                    names[path] = None
    return sorted(names, key=lambda path: "att" not in path)


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    flat = isinstance(weight, Tensor) and weight.ndim == 1
    return flat or "norm" in type(module).__name__.lower()


def _norms(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, part in module.named_modules():
        if next(part.children(), None) is None and _is_norm(part):
            yield path, part


@torch.inference_mode()
def _last_norm(model: Any, kind: str, layers: str) -> str:
    """The path of the norm that runs last, outside the layers."""
    ran: list[str] = []
    handles = [
        norm.register_forward_hook(lambda *_, path=path: ran.append(path))
        for path, norm in _norms(model)
        if not path.startswith(f"{layers}.")
    ]
    try:
        model(input_ids=torch.tensor([[0, 1]], device=model.device))
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise _refused(kind, "no norm runs between its layers and its unembedding")
    return ran[-1]


def _with_heads(kind: str, families: list[Family], described: Described) -> LoadedModel:
    """The first family whose projection reads heads side by side."""
    law, tried = LAWS["slices"], []
    for family in families:
        try:
            found = described(family)
            measured = law.measure(Fixture.of(found))
        except (ModelError, NotMeasurable) as reason:
            tried.append(f"{family.projection}: {reason}")
            continue
        if measured <= law.limit(found.dtype):
            return found
        tried.append(f"{family.projection}: {measured:.2g}")
    raise _refused(
        kind,
        f"the law 'slices' holds for none of its projections: {law.sentence} Measured, where at "
        f"most {law.limit(torch.float32):.0e} may be: {'; '.join(tried) or 'no projection fits'}",
    )


def _on_the_way(found: LoadedModel, described: Described) -> LoadedModel:
    """With what the attention output passes before the residual stream: a norm, a multiplier."""
    layer, call = next(iter(Fixture.of(found).calls.items()))
    _, output = call.at_projection()
    passed: list[str] = []

    def note(path: str, x: Tensor) -> None:
        if torch.equal(x, output):
            passed.append(path)

    with _listening(call.layer, note):
        call.output()
    family = replace(found.family, norm_after=passed[0] if passed else None)
    factors = [n for n, v in vars(found.layers[layer]).items() if isinstance(v, float) and v != 1]
    law = LAWS["stream"]
    for multiplier in (None, *factors):
        tried = described(replace(family, multiplier=multiplier))
        if law.measure(Fixture.of(tried)) <= law.limit(tried.dtype):
            return tried
    return described(family)


@contextmanager
def _listening(layer: nn.Module, read: Callable[[str, Tensor], Any]) -> Iterator[None]:
    """While open, `read(path, input)` sees what each norm of the layer is given."""
    with ExitStack() as stack:
        for path, norm in _norms(layer):

            def seen(args: tuple[Any, ...], _: Any, path: str = path) -> None:
                if args:
                    read(path, args[0])

            stack.enter_context(hooked(norm, seen))
        yield
