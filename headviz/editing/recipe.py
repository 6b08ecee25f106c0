"""A recipe is an edit as a small file: what it was made from, and what it was tried on.

The file is JSON and follows recipe.schema.json, which ships beside this module. The same content,
compressed, is the token that a share link carries. Knows nothing of pages and of loading models;
whether a recipe fits a model is asked of the loaded model (`check_fit`).
"""

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from headviz.base.errors import OptionError, RecipeError, check_unicode
from headviz.base.head import Head, check_heads
from headviz.editing.compare import Column, Comparison, Stretch
from headviz.editing.generate import Sampling
from headviz.editing.measures import concept_spans, first_difference
from headviz.editing.recipe_schema import FORMAT, check_schema, no_constant
from headviz.heads.chat import PLAIN, Chat, Span
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, known_concepts, make_concept
from headviz.models.loaded import LoadedModel
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking

MAX_BYTES = 2**20
MAX_LINK = 6000
"""Characters of a link's token: longer addresses are cut off by browsers and servers."""
_DIGITS = 4
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Scored:
    """A head's score for the recipe's concept."""

    score: float
    chance: float


@dataclass(frozen=True)
class Trial:
    """What the edit was tried on, and what came of it."""

    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    control_seed: int = 0
    pictures: tuple[str, ...] = ()
    """Names of the pictures beside the prompt; a recipe holds none of them."""
    texts: tuple[Column, ...] = ()
    """Original, edited and control; empty where nothing was generated. Without token ids."""
    earlier: tuple[Stretch, ...] = ()
    """What the answer was written under before the recipe's edit, where the knob was turned."""
    chat: Chat = PLAIN
    """How the prompt was put to the model."""

    @classmethod
    def of(
        cls, comparison: Comparison, sampling: Sampling, control_seed: int, chat: Chat = PLAIN
    ) -> "Trial":
        """The trial that gave this comparison."""
        texts = tuple(replace(column, ids=()) for column in comparison.columns)
        return cls(
            prompt=comparison.prompt,
            sampling=sampling,
            control_seed=control_seed,
            pictures=comparison.pictures,
            texts=texts,
            chat=chat,
            earlier=comparison.earlier,
        )

    def comparison(self) -> Comparison | None:
        """The three texts as they were compared, None where nothing was generated."""
        if not self.texts:
            return None
        return Comparison(self.prompt, self.texts, True, self.pictures, earlier=self.earlier)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], words: Sequence[str], where: str) -> "Trial":
        """From plain data.

        `words` are the concept's, which are counted anew in the texts; `where` is the edit's place.
        """
        check_unicode([data["prompt"]], RecipeError)
        found = data.get("texts", [])
        original = found[0]["text"] if found else ""
        texts = tuple(
            Column(
                name=item["column"],
                edit=item["edit"],
                text=item["text"],
                concept_words=len(concept_spans(item["text"], words)) if words else None,
                differs_at=first_difference(item["text"], original),
                perplexity=item.get("perplexity"),
                turned_at=tuple(item.get("turned_at", ())),
                thinking=tuple(Span("thinking", *ends) for ends in item.get("thinking", ())),
            )
            for item in found
        )
        sampling = Sampling(**data["sampling"])
        pictures = tuple(data.get("pictures", ()))
        return cls(
            prompt=data["prompt"],
            sampling=sampling,
            control_seed=data["control_seed"],
            pictures=pictures,
            texts=texts,
            chat=Chat(**data.get("chat", {})),
            earlier=tuple(_stretch(item, where) for item in data.get("earlier", ())),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as the schema has it."""
        texts = [
            {"column": c.name, "edit": c.edit, "text": c.text}
            | ({} if c.perplexity is None else {"perplexity": round(c.perplexity, _DIGITS)})
            | ({"turned_at": list(c.turned_at)} if c.turned_at else {})
            | ({"thinking": [[s.start, s.stop] for s in c.thinking]} if c.thinking else {})
            for c in self.texts
        ]
        return {
            "prompt": self.prompt,
            "sampling": asdict(self.sampling),
            "control_seed": self.control_seed,
            **({"pictures": list(self.pictures)} if self.pictures else {}),
            **({"texts": texts} if texts else {}),
            **({"earlier": [_as_dict(s) for s in self.earlier]} if self.earlier else {}),
            **({} if self.chat == PLAIN else {"chat": asdict(self.chat)}),
        }


@dataclass(frozen=True)
class Recipe:
    """An edit of one model, and where it came from as far as that is known."""

    model: str
    """As `headviz.rank` takes it."""
    revision: str
    """Of the model; empty where it is not known."""
    edit: Edit
    concept: Concept | None = None
    criterion: str | None = None
    options: Options | None = None
    scores: Mapping[Head, Scored] = field(default_factory=dict)
    """Of the edited heads, rounded to four digits."""
    prompt_set: str | None = None
    """Hash of the texts or pictures that heads were read on."""
    trial: Trial | None = None
    """What the edit was tried on; None where it was not."""

    @classmethod
    def of(cls, edit: Edit, ranking: Ranking) -> "Recipe":
        """The edit with the ranking that it was chosen from."""
        scores = {
            h.head: Scored(round(h.score, _DIGITS), round(h.chance, _DIGITS))
            for h in ranking.heads
            if h.head in edit.factors
        }
        return cls(
            model=ranking.model,
            revision=ranking.revision,
            edit=edit,
            concept=ranking.tokens.concept,
            criterion=ranking.criterion,
            options=ranking.options,
            scores=scores,
            prompt_set=ranking.prompt_set,
        )

    @classmethod
    def from_dict(cls, data: Any) -> "Recipe":
        """From plain data. Raises RecipeError, in one sentence, where it breaks the schema."""
        check_schema(data)
        check_unicode([data["model"]], RecipeError)
        factors = _factors(data["heads"])
        scores = {
            Head.parse(item["head"]): Scored(float(item["score"]), float(item["chance"]))
            for item in data["heads"]
            if {"score", "chance"} <= item.keys()
        }
        concept = _concept(data["concept"]) if "concept" in data else None
        words = concept.words if concept else ()
        return cls(
            model=data["model"],
            revision=data["revision"],
            edit=Edit(factors, data["where"]),
            concept=concept,
            criterion=data.get("criterion"),
            options=Options(**data["options"]) if "options" in data else None,
            scores=scores,
            prompt_set=data.get("prompt_set"),
            trial=Trial.from_dict(data["trial"], words, data["where"]) if "trial" in data else None,
        )

    def on(self, model: LoadedModel) -> "Recipe":
        """The same edit for this model; where made from another, without its scores and texts."""
        if self.revision in ("", model.revision):
            return replace(self, model=model.name, revision=model.revision)
        trial = self.trial and replace(self.trial, texts=())
        return Recipe(model.name, model.revision, self.edit, self.concept, trial=trial)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as the schema has it."""
        heads = [
            {"head": str(head), "factor": factor, **self._scored(head)}
            for head, factor in self.edit.factors.items()
        ]
        known: dict[str, Any] = {
            "criterion": self.criterion,
            "options": self.options and self.options.as_dict(),
            "prompt_set": self.prompt_set,
            "concept": self.concept
            and {"name": self.concept.name, "words": list(self.concept.words)},
            "trial": self.trial and self.trial.as_dict(),
        }
        return {
            "format": FORMAT,
            "model": self.model,
            "revision": self.revision,
            "where": self.edit.where,
            "heads": heads,
            **{name: value for name, value in known.items() if value is not None},
        }

    def _scored(self, head: Head) -> dict[str, float]:
        scored = self.scores.get(head)
        return {"score": scored.score, "chance": scored.chance} if scored else {}

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, name: str = "This") -> "Recipe":
        """From a file's text, called `name` in errors. Raises RecipeError."""
        try:
            return cls.from_dict(json.loads(text, parse_constant=no_constant))
        except (ValueError, RecursionError):
            raise RecipeError(f"{name} is no recipe: it is not JSON.") from None

    def save(self, path: Path | str) -> Path:
        """Write the file. Raises RecipeError where it cannot be written."""
        path = Path(path)
        try:
            path.write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{path.name} cannot be written ({error.strerror}).") from error
        return path

    @classmethod
    def load(cls, path: Path | str) -> "Recipe":
        """Read a file. Raises RecipeError where it is missing, too large or no recipe."""
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise RecipeError(f"{path.name} is too large for a recipe.")
            content = path.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise RecipeError(f"The recipe {path.name} cannot be read ({reason}).") from error
        return cls.from_json(content, path.name)

    def to_link(self) -> str:
        """The recipe as the value of a link's `?recipe=`: letters, digits, - and _ alone.

        Raises RecipeError where a link would be too long.
        """
        text = json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))
        token = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
        if len(token) > MAX_LINK:
            raise RecipeError(
                "The recipe is too long for a link; save it as a file and share that."
            )
        return token

    @classmethod
    def from_link(cls, token: str) -> "Recipe":
        """The recipe of a link. Raises RecipeError where the link is cut off or not one of ours."""
        broken = RecipeError("The link's recipe cannot be read: it is cut off or not one of ours.")
        if len(token) > MAX_LINK or not _TOKEN.fullmatch(token):
            raise broken
        try:
            packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            # A few bytes may unpack to gigabytes.
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(packed, MAX_BYTES)
        except (binascii.Error, zlib.error):
            raise broken from None
        if not unpacker.eof:
            raise broken
        return cls.from_json(text, "The link's content")


def check_fit(recipe: Recipe, model: LoadedModel) -> str | None:
    """Whether a recipe may be used on a model.

    Returns a sentence of warning where it was made for another model or revision, else None. Raises
    OptionError where the model lacks a head, or pictures for an edit that holds on them.
    """
    earlier = recipe.trial.earlier if recipe.trial else ()
    for edit in (recipe.edit, *(stretch.edit for stretch in earlier)):
        check_heads(edit.factors, model.n_layers, model.n_heads)
    if recipe.edit.where == "image" and not model.has_vision:
        raise OptionError(
            f"The recipe edits image positions and {model.name} reads no pictures. Choose a "
            "vision-language model."
        )
    if recipe.revision in ("", model.revision):
        return None
    if recipe.model != model.name:
        return (
            f"The recipe was made for {recipe.model}; in {model.name} the same heads may carry "
            "something else."
        )
    return (
        f"The recipe was made for revision {recipe.revision} of {model.name} and this is "
        f"{model.revision}: the heads may carry something else."
    )


def _factors(items: Sequence[Mapping[str, Any]]) -> dict[Head, float]:
    factors: dict[Head, float] = {}
    for item in items:
        head = Head.parse(item["head"])
        if head in factors:
            raise RecipeError(f"The recipe names head {head} twice. Leave one out.")
        factors[head] = float(item["factor"])
    return factors


def _stretch(data: Mapping[str, Any], where: str) -> Stretch:
    return Stretch(data["tokens"], Edit(_factors(data["heads"]), where))


def _as_dict(stretch: Stretch) -> dict[str, Any]:
    heads = [{"head": str(head), "factor": f} for head, f in stretch.edit.factors.items()]
    return {"tokens": stretch.tokens, "heads": heads}


def _concept(data: Mapping[str, Any]) -> Concept:
    """The preset where name and words are its own, else these words."""
    preset = known_concepts().get(data["name"])
    if preset is not None and list(preset.words) == data["words"]:
        return preset
    return make_concept(data["name"], data["words"])
