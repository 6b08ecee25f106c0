"""The three answers as HTML: what each says, which word changed, and how far that can be trusted.

The piece carries the ask that it belongs to, so that the page can tell whether it still holds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from markupsafe import Markup

from headviz.editing.compare import Column, Comparison
from headviz.editing.measures import concept_spans
from headviz.heads.chat import Span
from headviz.heads.edits import Edit
from headviz.page.ask import Ask
from headviz.page.html import joined

TITLES = {"original": "Original", "edited": "Edited", "control": "Random control"}
MEANING = {
    "original": "the model as it is",
    "edited": "with your heads turned",
    "control": "with as many random heads of the same layers turned alike: what any heads would do",
}
_PERPLEXITY = (
    "perplexity: how surprised the unedited model is by this text; 1 is not at all, a broken text "
    "has a large one"
)
_WORDS = re.compile(r"\s+|\S+")


@dataclass(frozen=True)
class Change:
    """The first word in which a text leaves the original."""

    before: str
    """Of the original; empty where that has ended."""
    after: str
    number: int
    """Of the word, from 1."""


def first_change(text: str, original: str) -> Change | None:
    """Where the text leaves the original, None where both are the same.

    The first word that is another one; where only marks around words differ, those are shown.
    """
    words, others = text.split(), original.split()
    for bare in (_bare, str):
        after, before = [bare(word) for word in words], [bare(word) for word in others]
        for number in range(max(len(after), len(before))):
            here, there = after[number : number + 1], before[number : number + 1]
            if here != there:
                return Change("".join(there), "".join(here), number + 1)
    return None


def _bare(word: str) -> str:
    return word.strip(".,;:!?\"'()") or word


def words_marked(
    text: str, other: str, words: Iterable[str], turns: Mapping[int, str] | None = None
) -> Markup:
    """The text; what differs from the other one and the concept's words are marked.

    `turns`: place in the text -> what the knob was turned to there.
    """
    spans = concept_spans(text, words)
    about = {at for span in spans for at in range(span.start, span.stop)}
    parts = list(_WORDS.finditer(text))
    own = [m for m in parts if not m[0].isspace()]
    differing = _differing([_bare(m[0]) for m in own], [_bare(word) for word in other.split()])
    changed = {m.start() for number, m in enumerate(own) if number in differing}
    first = min(changed, default=-1)
    pieces: list[str] = []
    for m in parts:
        shown = _with_turns(m[0], m.start(), turns or {})
        kinds = ["changed"] if m.start() in changed else []
        kinds += ["first"] if m.start() == first else []
        kinds += ["about"] if any(at in about for at in range(m.start(), m.end())) else []
        if kinds:
            pieces.append(Markup('<mark class="{}">{}</mark>').format(" ".join(kinds), shown))
        else:
            pieces.append(shown)
    at_end = {at: told for at, told in (turns or {}).items() if at >= len(text)}
    return joined([*pieces, *map(_turn, at_end.values())])


def _with_turns(piece: str, start: int, turns: Mapping[int, str]) -> Markup:
    """A piece of the text from there on, with the marks of turns that fall into it."""
    here = {at - start: told for at, told in turns.items() if start <= at < start + len(piece)}
    ends = [0, *here, len(piece)]
    parts = [Markup.escape(piece[a:b]) for a, b in pairwise(ends)]
    marks = [*map(_turn, here.values()), Markup()]
    return joined(part + mark for part, mark in zip(parts, marks, strict=True))


def _turn(told: str) -> Markup:
    return Markup(
        '<span class="hv-turn" role="note" aria-label="from here on {told}">{told}</span>'
    ).format(told=told)


def turned_to(edit: Edit, before: Edit) -> str:
    """What the knob was turned to, in a few signs."""
    factors = edit.factors
    moved = [head for head in factors if factors[head] != before.factors.get(head)]
    if len(set(factors.values())) == 1:
        told = f"α = {next(iter(factors.values())):g}"
    elif len(moved) == 1:
        told = f"{moved[0]} = {factors[moved[0]]:g}"
    else:
        told = f"α = {min(factors.values(), default=1):g} to {max(factors.values(), default=1):g}"
    return told.replace("-", "−")


def _differing(words: Sequence[str], others: Sequence[str]) -> set[int]:
    """Numbers of the words that the others do not have at that place."""
    matcher = SequenceMatcher(None, others, words, autojunk=False)
    return {
        number
        for kind, _, _, begin, end in matcher.get_opcodes()
        if kind != "equal"
        for number in range(begin, end)
    }


def parted(one: Column) -> tuple[str, str]:
    """What a text says, and what it thinks first; where it only thinks, that is all it says."""
    said, thought, at = "", "", 0
    for span in one.thinking:
        said += one.text[at : span.start]
        thought += one.text[span.start : span.stop]
        at = span.stop
    said = (said + one.text[at:]).strip()
    return (said, thought) if said or not thought else (thought, "")


def answers(
    ask: Ask,
    shown: Comparison,
    state: str,
    fit: Mapping[str, float] | None = None,
    more: str = "",
) -> Markup:
    """The three columns.

    `state` is running, done or stopped; `fit` how well each text fits its picture; `more` what
    stands below.
    """
    columns = joined(
        column(one, shown, ask, state, (fit or {}).get(one.name)) for one in shown.columns
    )
    return whole(ask, columns, state, more)


def whole(ask: Ask, columns: str, state: str, more: str = "") -> Markup:
    """Columns with what they belong to."""
    return Markup(
        '<section class="hv-answers" aria-label="Answers" data-state="{}" data-ask="{}">'
        '<div class="hv-columns">{}</div>{}</section>'
    ).format(state, ask.to_json(), columns, more)


def column(
    one: Column, shown: Comparison, ask: Ask, state: str, fit: float | None = None
) -> Markup:
    """One of the three texts, and what was measured on it."""
    original, edited = shown.columns[0], shown.columns[min(1, len(shown.columns) - 1)]
    other = edited if one is original else original
    ended = state != "running"
    # While it is written, the original is compared with nothing: the others lag behind it.
    beside = other if ended or one is not original else one
    said, thought = parted(one)
    text = words_marked(said, parted(beside)[0], ask.words, _turns(one, ask))
    if thought:
        thinks = Markup('<span class="hv-thinking" title="what the model thinks first">{}</span>')
        text = thinks.format(thought) + text
    if not one.text and ended:
        text = Markup("<i>(the model says nothing)</i>")
    caret = "" if ended or one.ended else Markup('<i class="hv-caret"></i>')
    return Markup(
        '<article class="hv-column {name}"{open}><h3 title="{meaning}">{title}</h3>'
        '<div class="hv-text" tabindex="0" role="group" aria-label="{title}">{text}{caret}</div>'
        '{change}<p class="hv-facts">{facts}</p>{moved}</article>'
    ).format(
        name=one.name,
        meaning=MEANING[one.name],
        title=TITLES[one.name],
        text=text,
        caret=caret,
        change=_change(one, original),
        facts=_facts(one, ask, fit),
        open="" if ended or one.ended else Markup(" data-open"),
        moved=_moved(one, ask) if ended else "",
    )


def _turns(one: Column, ask: Ask) -> dict[int, str]:
    """Place in the text as it is shown -> what the knob was turned to there."""
    edits = [*(stretch.edit for stretch in ask.earlier), ask.edit]
    told = [turned_to(edit, before) for before, edit in pairwise(edits)]
    apart = one.thinking if parted(one)[1] else ()  # what it thinks stands before what it says

    def place(at: int) -> int:
        before = [one.text[span.start : min(span.stop, at)] for span in apart if span.start < at]
        return at - sum(map(len, before))

    said = "".join(one.text[n] for n in _outside(apart, len(one.text)))
    lead = len(said) - len(said.lstrip())
    return {max(0, place(at) - lead): text for at, text in zip(one.turned_at, told, strict=False)}


def _outside(spans: Sequence[Span], length: int) -> list[int]:
    """Numbers of the characters in none of the spans."""
    return [n for n in range(length) if not any(span.start <= n < span.stop for span in spans)]


def _moved(one: Column, ask: Ask) -> Markup:
    """That the edited text was written under more than one edit, and how to have it under one."""
    if one.name != "edited" or not ask.earlier:
        return Markup()
    return Markup(
        '<p class="hv-moved">The knob was turned while this was written. '
        '<button type="button" class="hv-open" data-anew>Write it anew at {}</button></p>'
    ).format(turned_to(ask.edit, Edit()))


def _change(one: Column, original: Column) -> Markup:
    if one is original:
        return Markup('<p class="hv-change">{}</p>').format(MEANING["original"])
    change = first_change(parted(one)[0], parted(original)[0])
    # The original may have been written before: a text that still grows does not end there.
    if change is None or not (one.ended or change.after):
        so_far = "" if one.ended else " so far"
        return Markup('<p class="hv-change same">the same as the original{}</p>').format(so_far)
    return Markup(
        '<p class="hv-change"><del>{}</del> → <ins>{}</ins> <small>word {}</small></p>'
    ).format(change.before or "(end)", change.after or "(end)", change.number)


def _facts(one: Column, ask: Ask, fit: float | None) -> Markup:
    facts: list[str] = []
    if one.concept_words is not None and ask.concept is not None:
        facts.append(
            Markup(
                '<span title="how many words of the concept the text says">{} of “{}”</span>'
            ).format(
                f"{one.concept_words} word{'' if one.concept_words == 1 else 's'}", ask.concept.name
            )
        )
    if one.perplexity is not None:
        facts.append(
            Markup('<span title="{}">perplexity {}</span>').format(
                _PERPLEXITY, f"{one.perplexity:.1f}"
            )
        )
    if fit is not None:
        facts.append(
            Markup(
                '<span class="hv-fit" title="how well the text fits the picture, as CLIP sees it: '
                'the cosine of the two">CLIP {}</span>'
            ).format(f"{fit:.3f}")
        )
    return Markup(" · ").join(facts)


def nothing(ask: Ask | None, text: str) -> Markup:
    """Three columns before anything was asked."""
    columns = joined(
        Markup(
            '<article class="hv-column {}"><h3>{}</h3><p class="hv-note">{}</p></article>'
        ).format(name, title, MEANING[name])
        for name, title in TITLES.items()
    )
    if ask is None:
        return Markup('<section class="hv-answers" data-state="none">{}</section>').format(text)
    return Markup(
        '<section class="hv-answers" aria-label="Answers" data-state="none">'
        '<div class="hv-columns">{}</div></section>'
    ).format(columns)
