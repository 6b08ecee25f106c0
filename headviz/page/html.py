"""Pieces of HTML. Whatever comes from a model or a person is escaped by markupsafe, here and alone.

`Markup("<b>{}</b>").format(text)` escapes the text; `Markup` itself is HTML that is safe.
"""

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from headviz.editing.measures import concept_spans
from headviz.heads.token_map import TokenMap
from headviz.inputs.concepts import ConceptTokens, WordTokens
from headviz.page.work import Status
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import LensToken, Sample, Spectrum
from headviz.session.rankings import find_way

MAX_CHIPS = 80
_DROPPED = 4  # words left out that are not folded away
_NAMED = 3  # tokens that name a head
_SHOWN = 3  # strongest samples that are not folded away
_EMPTY = Markup("")
_EFFECTS = (
    (
        "need",
        "by how many nats the concept's words lose log-probability when the head is off: .05 "
        "makes them 5 % less likely, .7 halves them. ≈: estimated, not measured",
        "needed",
    ),
    (
        "side",
        "how far everything else moves when the head is turned off: KL divergence in nats",
        "side effects",
    ),
)


def joined(parts: Iterable[str]) -> Markup:
    """The pieces one after the other."""
    return _EMPTY.join(parts)


def error(text: str) -> Markup:
    """A sentence about what did not work."""
    return Markup('<p class="hv-error" role="alert">{}</p>').format(text)


def note(text: str) -> Markup:
    """A calm sentence."""
    return Markup('<p class="hv-note">{}</p>').format(text)


def warning(text: str) -> Markup:
    """A sentence that somebody should have read before the result."""
    return Markup('<p class="hv-warning" role="status">{}</p>').format(text)


def banner(text: str, notes: Iterable[str] = (), bad: bool = False) -> Markup:
    """What the page was opened by; `bad` where that did not work."""
    return Markup('<div class="hv-banner{}" role="status"><p>{}</p>{}</div>').format(
        " bad" if bad else "", text, joined(Markup("<p>{}</p>").format(note) for note in notes)
    )


def progress(status: Status) -> Markup:
    """How far a step is, and how long it will take."""
    if status.stopping:
        return Markup('<p class="hv-progress" role="status">stopping …</p>')
    left = "" if status.seconds_left is None else f" · {_duration(status.seconds_left)} left"
    share = f" · {status.share:.0%}" if status.share else ""
    return Markup(
        '<p class="hv-progress" role="status"><progress value="{}" aria-label="done"></progress> '
        "{}{}{}</p>"
    ).format(f"{status.share:.3f}", status.what or "starting", share, left)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"


def marked(text: str, words: Iterable[str]) -> Markup:
    """The text with the concept's words in <mark>."""
    parts: list[str] = []
    at = 0
    for span in concept_spans(text, words):
        parts += [Markup.escape(text[at : span.start])]
        parts += [Markup("<mark>{}</mark>").format(text[span.start : span.stop])]
        at = span.stop
    return joined([*parts, Markup.escape(text[at:])])


def chips(tokens: ConceptTokens) -> Markup:
    """Which token each word became; a dropped word says why."""
    taken = [word for word in tokens.words if word.kept]
    dropped = [word for word in tokens.words if not word.kept]
    shown = [*taken, *(dropped if len(dropped) <= _DROPPED else ())]
    folded_away = _EMPTY
    if len(dropped) > _DROPPED:
        folded_away = Markup("<details><summary>{} words left out</summary>{}</details>").format(
            len(dropped), _chips(dropped)
        )
    kept = len(tokens.kept)
    thin = ""
    if 0 < kept < 3:
        thin = warning(
            f"Only {kept} word{'' if kept == 1 else 's'}: heads that score high may carry just "
            "that word and not a concept. Add more."
        )
    return Markup('{}<p class="hv-note">{} of {} words take part</p>{}{}').format(
        thin, kept, len(tokens.words), _chips(shown), folded_away
    )


def _chips(words: Sequence[WordTokens]) -> Markup:
    items = []
    for word in words[:MAX_CHIPS]:
        pieces = " ".join(f"“{piece}”" for piece in word.pieces)
        if word.kept:
            item = Markup('<li class="kept" title="token {}">{} ✓</li>').format(pieces, word.word)
        else:
            item = Markup('<li title="dropped: {}: {}">{} ✗ <small>{}</small></li>').format(
                word.why, pieces, word.word, word.why
            )
        items.append(item)
    hidden = len(words) - MAX_CHIPS
    if hidden > 0:
        items.append(Markup("<li>… {} more</li>").format(hidden))
    return Markup('<ul class="hv-chips">{}</ul>').format(joined(items))


def headline(title: str, model: str, samples: str, n_heads: int | None, shipped: bool) -> Markup:
    """One line on what was chosen, which opens the choices."""
    heads = f"{n_heads} heads" if n_heads else "not ranked yet"
    origin = "shipped with the model" if shipped else "computed here"
    return Markup(
        '<h2 class="hv-headline"><button type="button" id="change" aria-expanded="false" '
        'aria-controls="choose"><b>{}</b> in <b>{}</b> <span class="hv-soft">· {} · '
        '<span title="{}">{}</span></span> <span class="hv-link">change ▾</span></button></h2>'
    ).format(title, model, samples, origin, heads)


def share_text(criterion: str, score: float) -> str:
    """A score as people read it."""
    shown = f"{score:.0%}" if find_way(criterion).is_share else f"{score:.3g}"
    return shown.replace("-", "−")


def score_text(criterion: str, score: float, chance: float) -> str:
    """A head's score beside its chance level, in words."""
    shown = share_text(criterion, score)
    what = " of its variance" if find_way(criterion).is_share else ""
    return f"{shown}{what}, chance {share_text(criterion, chance)}"


def head_name(spectrum: Spectrum) -> str:
    """What a head talks about in a few words: the first tokens that explain it."""
    names: dict[str, str] = {}
    for atom in spectrum.atoms:
        word = atom.token.strip()
        if word:
            names.setdefault(word.casefold(), word)
    return ", ".join([*names.values()][:_NAMED])


def head_title(spectrum: Spectrum, ranking: Ranking, address: str = "") -> Markup:
    """A head's number, its name in words, its address if any, and its scores for the concept."""
    ranked = next(r for r in ranking.heads if r.head == spectrum.head)
    criterion, title = ranking.criterion, ranking.tokens.concept.title
    way = find_way(criterion)
    interval = ""
    if ranked.low is not None and ranked.high is not None:
        interval = Markup(
            ' <small title="where it lies in 95 % of draws of texts and word lists">{}–{}</small>'
        ).format(share_text(criterion, ranked.low), share_text(criterion, ranked.high))
    facts = [
        ("score", way.score_is, share_text(criterion, ranked.score)),
        ("chance", way.chance_is, share_text(criterion, ranked.chance)),
        (
            "over chance",
            "score minus chance: this orders heads",
            Markup("{}{}").format(share_text(criterion, ranked.over), interval),
        ),
        ("rank", f"among the {ranking.total_heads} heads of the model", f"{ranked.rank}"),
    ]
    told = "an association. Whether the model needs the head is another question: measure it."
    if way.ask is not None:
        told = "an estimate of what is lost without the head. Measure it to know."
    elif not ranked.above_chance:
        told = "not above chance. Any list of words would explain this head as well."
    items = joined(
        Markup('<div><dt title="{}">{}</dt><dd>{}</dd></div>').format(hint, name, value)
        for name, hint, value in facts
    )
    # What is measured comes to the browser later, which fills it in (causes.js).
    items += joined(
        Markup('<div data-effect="{}" hidden><dt title="{}">{}</dt><dd></dd></div>').format(*effect)
        for effect in _EFFECTS
    )
    link = Markup(' <a class="hv-link" href="{}">link</a>').format(address) if address else ""
    return Markup(
        '<h3 id="head-title" data-head="{head}"><b>{head}</b> “{name}”{link}</h3>'
        '<p class="hv-note" data-told>{title}: {told}</p><dl class="hv-facts-list">{items}</dl>'
    ).format(
        head=str(spectrum.head),
        name=head_name(spectrum),
        title=title,
        told=told,
        items=items,
        link=link,
    )


def spectrum_bars(spectrum: Spectrum) -> Markup:
    """Tokens in the order picked, a bar each for the weight, and what they explain together."""
    most = max((abs(a.weight) for a in spectrum.atoms), default=1.0) or 1.0
    rows = joined(
        Markup(
            '<li><code>{}</code><span class="hv-bar" title="weight {}"><i style="--w:{}"></i>'
            "</span><small>{}</small></li>"
        ).format(
            visible(a.token), f"{a.weight:.3f}", f"{abs(a.weight) / most:.3f}", f"{a.explained:.0%}"
        )
        for a in spectrum.atoms
    )
    return Markup(
        '<h4>Spectrum</h4><p class="hv-note">The tokens that explain best what the head writes, in '
        "the order picked; the bar is a token's weight, the number what all so far explain "
        'together.</p><ol class="hv-spectrum">{}</ol>'
    ).format(rows)


def visible(token: str) -> str:
    """A token with its blanks made visible."""
    return token.strip() or token.replace(" ", "␣").replace("\n", "⏎") or "␀"


def samples(
    strongest: Sequence[Sample], words: Iterable[str], maps: Sequence[TokenMap] = ()
) -> Markup:
    """The texts that drive a head most, with the share of its variance each causes.

    `maps` say how strongly it writes at each word, as soon as that is known.
    """
    words = list(words)
    rows = [
        Markup('<li><b title="share of the head\'s variance">{}</b> {}</li>').format(
            f"{s.share:.1%}", tinted(maps[n], words) if maps else marked(s.text, words)
        )
        for n, s in enumerate(strongest)
    ]
    return folded(rows, "hv-samples")


def tinted(found: TokenMap, words: Iterable[str]) -> Markup:
    """A text whose words are the stronger in color, the stronger the head writes there."""
    spans = concept_spans("".join(found.pieces), words)
    about = {at for span in spans for at in range(span.start, span.stop)}
    most = found.strength.max().clamp_min(1e-12)
    pieces, at = [], 0
    for piece, share in zip(found.pieces, (found.strength / most).tolist(), strict=True):
        is_about = any(n in about for n in range(at, at + len(piece)))
        at += len(piece)
        pieces.append(
            Markup('<span class="hv-tint{}" style="--t:{}" title="{}">{}</span>').format(
                " about" if is_about else "", f"{share:.2f}", f"{share:.0%} of the strongest", piece
            )
        )
    return joined(pieces)


def folded(rows: Sequence[str], name: str) -> Markup:
    """A list whose first rows are seen, the others after a click."""
    first = Markup('<ol class="{}">{}</ol>').format(name, joined(rows[:_SHOWN]))
    if len(rows) <= _SHOWN:
        return first
    return Markup(
        '{}<details><summary>{} more</summary><ol class="{}" start="{}">{}</ol></details>'
    ).format(first, len(rows) - _SHOWN, name, _SHOWN + 1, joined(rows[_SHOWN:]))


def lens(tokens: Sequence[LensToken]) -> Markup:
    """The logit lens: tokens that the head's mean write raises most."""
    rows = joined(
        Markup("<li><code>{}</code> <small>{}</small></li>").format(
            visible(t.token), f"{t.logit:+.2f}"
        )
        for t in tokens
    )
    return Markup(
        "<details><summary>Logit lens, for comparison</summary>"
        '<p class="hv-note">Tokens that the head\'s mean write raises most.</p>'
        '<ul class="hv-lens">{}</ul></details>'
    ).format(rows)


def table(header: Mapping[str, str], rows: Iterable[Sequence[str]], name: str) -> Markup:
    """A table: column -> what it means, and cells."""
    head = joined(
        Markup('<th scope="col" title="{}">{}</th>').format(hint, column)
        for column, hint in header.items()
    )
    body = joined(
        Markup("<tr>{}</tr>").format(joined(Markup("<td>{}</td>").format(cell) for cell in row))
        for row in rows
    )
    return Markup('<table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
        name, head, body
    )
