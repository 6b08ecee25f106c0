"""The lines of Python that give a result of the page again: ranking, spectrum, comparison.

Each is a whole program, run in headviz's folder or where headviz is installed. Files that a person
uploaded are named as they were called; they have to lie beside the program. Knows no page.
"""

from collections.abc import Sequence
from dataclasses import fields
from pprint import pformat

from headviz.base.head import Head
from headviz.editing.compare import Stretch
from headviz.editing.find import Search
from headviz.editing.generate import Sampling
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, known_concepts
from headviz.inputs.prompt_sets import PromptSet, find_prompt_set, known_prompt_sets
from headviz.pursuit.options import Options

_INLINE = 4000  # characters of texts that a snippet holds
_WIDTH = 92


def ranking_snippet(
    model: str,
    concept: Concept,
    prompt_set: PromptSet,
    criterion: str,
    options: Options,
    usual: Options,
) -> str:
    """A program that prints the first ten heads; `usual` are the model's own options."""
    before, read = _reading(model, prompt_set)
    words = repr(concept.name) if _is_preset(concept) else _literal(list(concept.words))
    scored = [f"criterion={criterion!r}"] if criterion != "somp" else []
    call = _call("headviz.rank", [repr(model), words, *read, *scored, *_choices(options, usual)])
    return _program(
        before,
        f"ranking = {call}",
        "for h in ranking.heads[:10]:",
        '    print(f"{h.rank:>3}  {h.head}  score {h.score:.3f}  chance {h.chance:.3f}")',
    )


def spectrum_snippet(
    model: str, head: Head, prompt_set: PromptSet, steps: int, options: Options, usual: Options
) -> str:
    """A program that prints what a head talks about."""
    before, read = _reading(model, prompt_set)
    arguments = [repr(model), repr(str(head)), *read, f"steps={steps}", *_choices(options, usual)]
    return _program(
        before,
        f"spectrum = {_call('headviz.spectrum', arguments)}",
        "for atom in spectrum.atoms:",
        '    print(f"{atom.token!r:<16} weight {atom.weight:.3f}  explained {atom.explained:.3f}")',
    )


def comparison_snippet(
    model: str,
    prompt: str,
    edit: Edit,
    concept: Concept | None,
    sampling: Sampling,
    pictures: Sequence[str] = (),
    earlier: Sequence[Stretch] = (),
    control_seed: int = 0,
    chat: Chat = PLAIN,
) -> str:
    """A program that prints original, edited and control, and how fluent each is."""
    place = [f"where={edit.where!r}"] if edit.where != "everywhere" else []
    arguments = [repr(model), _literal(prompt), "edit"]
    if concept is not None:
        words = _literal(list(concept.words))
        if _is_preset(concept):
            words = f"headviz.find_concept({concept.name!r}).words"
        arguments.append(f"words={words}")
    if settings := _different(sampling, Sampling()):
        arguments.append(f"sampling={_call('headviz.Sampling', settings)}")
    if control_seed:
        arguments.append(f"control_seed={control_seed}")
    if chat != PLAIN:
        arguments.append(f"chat={_call('headviz.Chat', _different(chat, PLAIN))}")
    if pictures:
        arguments.append(f"images={_literal(list(pictures))}")
    if earlier:
        arguments.append("earlier=earlier")
    return _program(
        [
            *(["# The pictures have to lie beside this program."] if pictures else []),
            *_earlier(earlier, place),
        ],
        f"edit = {_call('headviz.Edit.parse', [_literal(str(edit)), *place])}",
        f"result = {_call('headviz.compare', arguments)}",
        "for column in result.columns:",
        '    print(f"[{column.name}] perplexity {column.perplexity or 0:.2f}: {column.text}")',
    )


def _earlier(earlier: Sequence[Stretch], place: Sequence[str]) -> list[str]:
    """Lines that say what held before the edit, where the knob was turned."""
    if not earlier:
        return []
    parts = (
        f"    headviz.Stretch({s.tokens}, "
        f"{_call('headviz.Edit.parse', [_literal(str(s.edit)), *place])}),"
        for s in earlier
    )
    return ["# The knob was turned while the answer was written.", "earlier = [", *parts, "]"]


def find_snippet(model: str, concept: Concept, search: Search, texts: str | PromptSet) -> str:
    """A program that searches for an edit and prints it beside its rivals."""
    words = repr(concept.name) if _is_preset(concept) else _literal(list(concept.words))
    before: list[str] = []
    if isinstance(texts, str):
        read = [f"prompt_set={texts!r}"]
    else:
        before, read = _reading(model, texts)
    asked = [
        f"heads={search.heads}",
        f"towards={search.towards!r}",
        f"side_effects={search.side_effects:g}",
    ]
    came, sign = ("lost", "") if search.towards == "weaker" else ("gained", "-")
    told = f"{came} {{{came}:.2f}} nats, elsewhere {{moved:.2f}}"
    return _program(
        before,
        f"found = {_call('headviz.find', [repr(model), words, *asked, *read])}",
        'edits = {"found": found.found, **found.rivals}',
        "for name, one in edits.items():",
        f"    {came}, moved = {sign}one.effect.need, one.effect.side",
        f'    print(f"{{name:<12}} {told}: {{one.edit}}")',
        f"{came}, moved = {sign}found.random_need, found.random_side",
        f'print(f"random       {told}")',
    )


def zero_shot_snippet(
    model: str, classes: Sequence[str], edit: Edit, pictures: Sequence[str]
) -> str:
    """A program that prints what a CLIP model takes pictures for, on average over them."""
    asked = [repr(model), _literal(list(pictures)), _literal(list(classes)), "edit"]
    return _program(
        ["# The pictures have to lie beside this program."],
        f"edit = {_call('headviz.Edit.parse', [_literal(str(edit))])}",
        f"found = {_call('headviz.zero_shot', asked)}",
        "for answer in found.answers:",
        "    shares = answer.probabilities.mean(0).tolist()",
        "    print(answer.name, {c: round(p, 3) for c, p in zip(found.classes, shares)})",
    )


def _reading(model: str, prompt_set: PromptSet) -> tuple[list[str], list[str]]:
    """Lines before the call, and the arguments of the call, that give the prompt set again."""
    asked = prompt_set.texts[0] if prompt_set.pictures else ""
    prompt = [f"prompt={_literal(asked)}"] if asked else []
    known = known_prompt_sets(model, bool(prompt_set.pictures))
    if prompt_set.name in known:
        built_in = find_prompt_set(prompt_set.name, model, bool(prompt_set.pictures), asked)
        if built_in.digest == prompt_set.digest:
            usual = prompt_set.name == next(iter(known))
            return [], [*([] if usual else [f"prompt_set={prompt_set.name!r}"]), *prompt]
    if prompt_set.pictures:
        return (
            ["# Name your folder or .zip of pictures here."],
            [f"prompt_set={prompt_set.name!r}", *prompt],
        )
    if sum(map(len, prompt_set.texts)) > _INLINE:
        return ["# Name your own file here."], [f"prompt_set={prompt_set.name + '.txt'!r}"]
    texts = _call(
        "headviz.make_prompt_set", [repr(prompt_set.name), _literal(list(prompt_set.texts))]
    )
    return [f"texts = {texts}"], ["prompt_set=texts"]


def _is_preset(concept: Concept) -> bool:
    return known_concepts().get(concept.name) == concept


def _choices(options: Options, usual: Options) -> list[str]:
    if options == usual:
        return []
    return [f"options={_call('headviz.Options', _different(options, Options()))}"]


def _different(chosen: Options | Sampling | Chat, usual: Options | Sampling | Chat) -> list[str]:
    """The arguments that differ from the usual ones."""
    return [
        f"{f.name}={getattr(chosen, f.name)!r}"
        for f in fields(chosen)
        if getattr(chosen, f.name) != getattr(usual, f.name)
    ]


def _call(name: str, arguments: Sequence[str]) -> str:
    """The call on one line if it fits, else an argument a line."""
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= _WIDTH - 10 and "\n" not in line:
        return line
    rows = "".join("    " + a.replace("\n", "\n    ") + ",\n" for a in arguments)
    return f"{name}(\n{rows})"


def _literal(value: str | list[str]) -> str:
    return pformat(value, width=_WIDTH - 12, compact=True)


def _program(before: Sequence[str], *lines: str) -> str:
    return "\n".join(["import headviz", "", *before, *lines, ""])
