"""An ask: everything that an answer on the page depends on, as one small piece of plain data.

The browser holds it, changes it and sends it; an answer carries the ask that it belongs to, so that
nobody takes it for the answer to another one. Knows nothing of gradio.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.editing.compare import Comparison, Stretch
from headviz.editing.generate import MAX_NEW_TOKENS, Sampling, usual_stop
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, known_concepts, make_concept

LOWEST, HIGHEST = -3.0, 8.0
"""Factors that the page's sliders reach."""
MOST_HEADS = 32
"""Heads that the page edits at a time."""
MAX_PROMPT, MAX_SYSTEM = 20_000, 10_000  # characters


@dataclass(frozen=True)
class Ask:
    """What one press of a button or move of a slider asks for."""

    model: str
    prompt: str
    """With a CLIP model: the classes to choose from."""
    edit: Edit
    concept: Concept | None = None
    """Its words are counted."""
    sampling: Sampling = field(default_factory=Sampling)
    control_seed: int = 0
    """Which random heads the control has."""
    pictures: tuple[str, ...] = ()
    """Hashes of the pictures, each of which is asked about by itself."""
    earlier: tuple[Stretch, ...] = ()
    """What the answer was written under before, where the knob was turned while it came."""
    chat: Chat = PLAIN
    """How the prompt is put to a model with a chat template."""

    @property
    def words(self) -> tuple[str, ...]:
        """Of the concept."""
        return self.concept.words if self.concept else ()

    @classmethod
    def of(cls, recipe: Recipe, prompt: str = "", pictures: tuple[str, ...] = ()) -> "Ask":
        """The ask that a recipe stands for; `prompt` where the recipe has none."""
        trial = recipe.trial or Trial(prompt, Sampling(stop=usual_stop(prompt)))
        return cls(
            model=recipe.model,
            prompt=trial.prompt,
            edit=recipe.edit,
            concept=recipe.concept,
            sampling=trial.sampling,
            control_seed=trial.control_seed,
            pictures=pictures,
            earlier=trial.earlier,
            chat=trial.chat,
        )

    @classmethod
    def from_dict(cls, data: Any) -> "Ask":
        """From what a browser sent. Raises OptionError or ConceptError for what cannot be."""
        try:
            return cls._of(data)
        except (KeyError, TypeError, ValueError, AttributeError):  # no browser of ours sends that
            raise OptionError("The page sent no question that can be read; load it anew.") from None

    @classmethod
    def _of(cls, data: Any) -> "Ask":
        where = str(data["where"])
        prompt = str(data["prompt"])
        if len(prompt) > MAX_PROMPT:
            raise OptionError(f"The prompt has {len(prompt)} characters; {MAX_PROMPT} at most.")
        earlier = [_stretch(one, where) for one in list(data.get("earlier", ()))[:MAX_NEW_TOKENS]]
        return cls(
            model=str(data["model"]),
            prompt=prompt,
            edit=_edit(data["heads"], where),
            concept=_concept(data.get("concept")),
            sampling=_sampling(data, prompt),
            control_seed=_whole(data["control_seed"], "seed of the control", 0, 2**32),
            pictures=tuple(map(str, data.get("pictures", ()))),
            earlier=tuple(earlier),
            chat=_chat(data.get("chat")),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        concept = self.concept and {"name": self.concept.name, "words": list(self.concept.words)}
        return {
            "model": self.model,
            "prompt": self.prompt,
            "where": self.edit.where,
            "heads": _heads(self.edit),
            "earlier": [{"tokens": s.tokens, "heads": _heads(s.edit)} for s in self.earlier],
            "concept": concept,
            "tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature,
            "seed": self.sampling.seed,
            "control_seed": self.control_seed,
            "pictures": list(self.pictures),
            "chat": asdict(self.chat),
        }

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    def under(self, shown: Comparison) -> "Ask":
        """The same with the knob where it was while this was written."""
        return replace(self, edit=shown.edit, earlier=shown.earlier)

    def without_pictures(self) -> "Ask":
        """The same about no picture."""
        return replace(self, pictures=())


def _heads(edit: Edit) -> dict[str, float]:
    return {str(head): factor for head, factor in edit.factors.items()}


def _edit(heads: Mapping[str, Any], where: str) -> Edit:
    factors = {Head.parse(str(h)): _factor(h, f) for h, f in dict(heads).items()}
    if len(factors) > MOST_HEADS:
        raise OptionError(f"{len(factors)} heads are too many for the page: {MOST_HEADS}.")
    return Edit(factors, where)


def _stretch(data: Mapping[str, Any], where: str) -> Stretch:
    tokens = _whole(data["tokens"], "number of tokens", 1, MAX_NEW_TOKENS)
    return Stretch(tokens, _edit(data["heads"], where))


def _factor(head: object, value: object) -> float:
    number = float(value) if isinstance(value, int | float) else float("nan")
    if not isfinite(number) or not LOWEST <= number <= HIGHEST:
        raise OptionError(
            f"The factor {value} of {head} is beyond the page's sliders ({LOWEST:g} to "
            f"{HIGHEST:g}). Use it on the command line or in Python."
        )
    return number


def _whole(value: object, what: str, lowest: int, highest: int) -> int:
    number = float(value) if isinstance(value, int | float) else float("nan")
    if not isfinite(number) or not lowest <= number <= highest:
        raise OptionError(f"The {what} is {value}; choose a number from {lowest} to {highest}.")
    return int(number)


def _sampling(data: Mapping[str, Any], prompt: str) -> Sampling:
    temperature = data["temperature"]
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 10:
        raise OptionError(f"The temperature is {temperature}; choose a number from 0 to 10.")
    return Sampling(
        max_new_tokens=_whole(data["tokens"], "number of tokens", 1, MAX_NEW_TOKENS),
        temperature=float(temperature),
        seed=_whole(data["seed"], "seed", 0, 2**32),
        stop=usual_stop(prompt),
    )


def _chat(data: Mapping[str, Any] | None) -> Chat:
    if not data:
        return PLAIN
    system = data.get("system")
    if system is not None and len(str(system)) > MAX_SYSTEM:
        raise OptionError(
            f"The system prompt has {len(str(system))} characters; {MAX_SYSTEM} at most."
        )
    return Chat(
        template=bool(data.get("template", True)),
        system=None if system is None else str(system),
        thinking=bool(data.get("thinking", False)),
    )


def _concept(data: Mapping[str, Any] | None) -> Concept | None:
    if not data:
        return None
    words = [str(word) for word in data["words"]]
    preset = known_concepts().get(str(data["name"]))
    if preset is not None and list(preset.words) == words:
        return preset
    return make_concept(str(data["name"]), words)
