"""Pieces of HTML. Every text that comes from a model or a person is escaped here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from headviz.base.head import Head
from headviz.editing.compare import Column, Comparison
from headviz.editing.measures import concept_spans
from headviz.inputs.concepts import ConceptTokens
from headviz.pursuit.criteria import find_criterion
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import LensToken, Sample

TITLES = {"original": "Original", "edited": "Edited", "control": "Random control"}
_MEANING = {
    "original": "the model as it is",
    "edited": "with your heads scaled",
    "control": "with as many random heads of the same layers scaled alike",
}
MAX_CHIPS = 80
NO_HEADS = "no attention heads in this layer"
_PROMPT_SHOWN = 90  # characters


def marked(text: str, words: Iterable[str]) -> str:
    """The text, escaped, with the concept's words in <mark>."""
    parts, at = [], 0
    for span in concept_spans(text, words):
        word = escape(text[span.start : span.stop])
        parts += [escape(text[at : span.start]), f"<mark>{word}</mark>"]
        at = span.stop
    return "".join([*parts, escape(text[at:])])


def chips(tokens: ConceptTokens) -> str:
    """Which token each word became; a dropped word says why."""
    items = []
    for word in sorted(tokens.words, key=lambda w: not w.kept)[:MAX_CHIPS]:
        pieces = " ".join(f"“{piece}”" for piece in word.pieces)
        if word.kept:
            title = f"token {pieces}"
            items.append(f'<li class="kept" title="{escape(title)}">{escape(word.word)} ✓</li>')
        else:
            title = f"dropped: {word.why}: {pieces}"
            note = f"<small>{escape(word.why)}</small>"
            items.append(f'<li title="{escape(title)}">{escape(word.word)} ✗ {note}</li>')
    hidden = len(tokens.words) - MAX_CHIPS
    if hidden > 0:
        items.append(f"<li>… {hidden} more</li>")
    summary = f"{len(tokens.kept)} of {len(tokens.words)} words take part"
    return f'<p class="hv-note">{summary}</p><ul class="hv-chips">{"".join(items)}</ul>'


def score_text(criterion: str, score: float, chance: float) -> str:
    """A head's score beside its chance level, in words."""
    if find_criterion(criterion).is_share:
        return f"{score:.0%} of its variance, chance {chance:.0%}"
    return f"score {score:.3g}, chance {chance:.3g}"


def heat_map(ranking: Ranking, chosen: Collection[Head], opened: Head | None) -> str:
    """Layer × head as a grid of buttons, darker for a higher score."""
    scores = ranking.scores
    top = max(scores.nan_to_num(0.0).max().item(), 1e-9)
    n_layers, n_heads = scores.shape
    first = min(ranked.head for ranked in ranking.heads)
    rows = []
    for layer in range(n_layers):
        cells = [f'<span class="hv-layer" role="rowheader">L{layer}</span>']
        if scores[layer].isnan().all():
            cells.append(f'<span class="hv-none">{NO_HEADS}</span>')
            rows.append(f'<div class="hv-row" role="row">{"".join(cells)}</div>')
            continue
        for index in range(n_heads):
            head = Head(layer, index)
            score, chance = scores[layer, index].item(), ranking.chance[layer, index].item()
            told = f"{head}: {score_text(ranking.criterion, score, chance)}"
            marks = " chosen" * (head in chosen) + " opened" * (head == opened)
            focus = 0 if head == (opened or first) else -1
            cells.append(
                f'<button class="hv-cell{marks}" style="--s:{max(score, 0) / top:.3f}" '
                f'data-layer="{layer}" data-head="{index}" tabindex="{focus}" '
                f'title="{told}" aria-label="{told}"></button>'
            )
        rows.append(f'<div class="hv-row" role="row">{"".join(cells)}</div>')
    most = f"{top:.0%}" if find_criterion(ranking.criterion).is_share else f"{top:.3g}"
    legend = f'<p class="hv-legend"><span>0</span><i></i><span>{most}</span></p>'
    label = f"{n_layers} layers by {n_heads} heads"
    return (
        f'<div class="hv-map" role="grid" aria-label="{label}" '
        f'style="--n:{n_heads};--rows:{n_layers}">'
        f"{''.join(rows)}</div>{legend}"
    )


def samples(strongest: Sequence[Sample], words: Iterable[str]) -> str:
    """The texts that drive a head most, with the share of its variance each causes."""
    words = list(words)
    rows = [
        f'<li><b title="share of the head\'s variance">{s.share:.1%}</b> '
        f"{marked(s.text, words)}</li>"
        for s in strongest
    ]
    return f'<ol class="hv-samples">{"".join(rows)}</ol>'


def lens(tokens: Sequence[LensToken]) -> str:
    """The logit lens: tokens that the head's mean write raises most."""
    rows = [
        f"<li><code>{escape(t.token)}</code> <small>{t.logit:+.2f}</small></li>" for t in tokens
    ]
    return f'<ul class="hv-lens">{"".join(rows)}</ul>'


def column(
    prompt: str, shown: Column, words: Iterable[str], done: bool, fit: float | None = None
) -> str:
    """One of the three texts, its concept words marked, and what was measured on it."""
    facts = []
    if shown.concept_words is not None:
        plural = "" if shown.concept_words == 1 else "s"
        facts.append(f"<b>{shown.concept_words}</b> concept word{plural}")
    if shown.name != "original":
        at = shown.differs_at
        facts.append("same as the original" if at is None else f"differs from word {at}")
    if shown.perplexity is not None:
        hint = "how surprised the unedited model is by this text: 1 is not at all"
        facts.append(f'<span title="{hint}">perplexity {shown.perplexity:.1f}</span>')
    if fit is not None:
        hint = "how well the text fits the picture, as CLIP sees it: the cosine of the two"
        facts.append(f'<span class="hv-fit" title="{hint}">CLIP {fit:.3f}</span>')
    text = marked(shown.text, words) or ("<i>(the model says nothing)</i>" if done else "")
    caret = "" if done else '<i class="hv-caret"></i>'
    edit = f'<p class="hv-edit">{escape(shown.edit)}</p>' if shown.edit else ""
    asked = f'<span class="hv-prompt" title="{escape(prompt)}">{escape(_end_of(prompt))}</span>'
    return (
        f'<section class="hv-column {shown.name}"><h4 title="{_MEANING[shown.name]}">'
        f'{TITLES[shown.name]}</h4>{edit}<p class="hv-text">{asked}{text}{caret}</p>'
        f'<p class="hv-facts">{" · ".join(facts)}</p></section>'
    )


def _end_of(prompt: str) -> str:
    """The last words of a long prompt; the whole one stands above the columns."""
    if len(prompt) <= _PROMPT_SHOWN:
        return prompt
    return "… " + prompt[-_PROMPT_SHOWN:].partition(" ")[2]


def columns(
    shown: Comparison, words: Iterable[str], fit: Mapping[str, float] | None = None
) -> list[str]:
    """The three columns' HTML; `fit` is how well each fits its picture."""
    words, fit = list(words), fit or {}
    return [column(shown.prompt, c, words, shown.done, fit.get(c.name)) for c in shown.columns]


def empty_column(name: str) -> str:
    """A column before anything was generated."""
    return (
        f'<section class="hv-column {name}"><h4>{TITLES[name]}</h4>'
        f'<p class="hv-note">{_MEANING[name]}</p></section>'
    )
