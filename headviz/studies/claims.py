"""What a trial of rankings says: a verdict a claim, tables, and a figure.

An arm's number for a subject is the most that it takes away of it alone, over the grid of its
numbers of heads and factors: of relations by how much more of its answers is lost than of the
others', of free text the nats lost on the concept's words at a divergence of at most APART
elsewhere. Two arms are compared subject by subject.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import mean, median
from typing import TYPE_CHECKING

import torch

from headviz.studies.cells import RANDOM
from headviz.studies.figures import scatter
from headviz.studies.freetext import MORE, OTHERS_MORE, STRONGER_SIDES, Stronger
from headviz.studies.trial import LEARNT, PRUNED, SURE, HeadRole, Outcome, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRICT, LOOSE = (0.2, 0.9), (0.3, 0.85)
"""Shares of its own answers left at most, and of the others' at least: what is aimed at."""
APART = 0.3
"""Nats of divergence elsewhere that are allowed in free text."""
FEW = 5
"""Subjects below which no claim holds, only leans."""
HOLDS, LEANS, DOES_NOT = "holds here", "leans that way", "does not hold here"
_DRAWS = 2000


@dataclass(frozen=True)
class Verdict:
    """A claim, and what came of it."""

    claim: str
    verdict: str
    """One of HOLDS, LEANS, DOES_NOT."""
    numbers: str


@dataclass(frozen=True, eq=False)
class Tried:
    """All that a trial measured."""

    trial: Trial
    model: str
    revision: str
    n_heads: int
    ks: tuple[int, ...]
    outcomes: tuple[Outcome, ...]
    roles: Mapping[str, Sequence[HeadRole]]
    """Relation -> its heads; empty where single heads were not measured."""
    stronger: tuple[Stronger, ...]
    counts: Mapping[str, tuple[int, int]]
    """Subject -> texts that chose heads, and texts that judged."""
    notes: tuple[str, ...]
    total: int
    """Subjects that are to be tried, those still to come among them."""

    @property
    def is_text(self) -> bool:
        """Whether it was free text."""
        return self.trial.study == "freetext"

    @property
    def subjects(self) -> tuple[str, ...]:
        """Those that are done."""
        return tuple(dict.fromkeys(one.subject for one in self.outcomes))

    @property
    def arms(self) -> tuple[str, ...]:
        """Those that were run, random heads last."""
        found = dict.fromkeys(one.arm for one in self.outcomes)
        return (*(arm for arm in found if arm != RANDOM), *([RANDOM] if RANDOM in found else []))

    @property
    def draws(self) -> int:
        """Random sets that every subject has."""
        draws = Counter(o.subject for o in self.outcomes if o.arm == RANDOM)
        per_draw = len(self.ks) * len(self.trial.alphas)
        return min(draws.values(), default=0) // per_draw

    @property
    def middle(self) -> int:
        """The number of heads that single tables are of."""
        return self.ks[len(self.ks) // 2]

    def of(self, arm: str, subject: str) -> list[Outcome]:
        """The outcomes of one arm on one subject."""
        return [one for one in self.outcomes if (one.arm, one.subject) == (arm, subject)]

    def taken(self, one: Outcome) -> float:
        """What is taken away of the subject alone."""
        if self.is_text:
            return max(0.0, one.need) if one.side <= APART else 0.0
        return max(0.0, one.others - one.own)

    def best(self, arm: str, subject: str, most: int | None = None) -> float:
        """The most over the grid, up to `most` heads; of random draws the median of their bests."""
        draws: dict[int, float] = {}
        for one in self.of(arm, subject):
            if most is None or one.k <= most:
                draws[one.draw] = max(draws.get(one.draw, 0.0), self.taken(one))
        return median(draws.values()) if draws else 0.0


def verdicts(tried: Tried) -> list[Verdict]:
    """All claims that the arms allow."""
    found = [_reached(tried)] if LEARNT in tried.arms else []
    for first, second, claim in _CLAIMS:
        if {first, second} <= set(tried.arms):
            found.append(_compared(tried, claim, first, (second,)))
    rest = [a for a in tried.arms if a not in (LEARNT, RANDOM, f"{LEARNT} random")]
    if LEARNT in tried.arms and rest:
        claim = "Learnt factors take more away than the best of the other rankings"
        found.append(_compared(tried, claim, LEARNT, rest))
    if tried.roles:
        found.append(_written(tried))
    if tried.stronger:
        found.append(_brought(tried))
    return found


_CLAIMS = (
    ("pursuit", RANDOM, "The pursuit's heads over chance carry it: more is lost than with random "
     "heads of their layers (the paper's claim)"),
    ("raw", RANDOM, "The score alone finds such heads too (the paper's method to the letter)"),
    ("pursuit", "logit-lens", "The pursuit finds more than the logit lens (the paper's claim)"),
    ("pursuit", "raw", "How far the score stands over chance orders heads better than the score"),
    ("attribution", "pursuit", "Attribution finds more than the pursuit"),
    ("lift", "attribution", "Attribution finds more where that of shuffled words is taken off"),
    ("ablation", "attribution", "Single heads measured one by one find more than attribution"),
    (PRUNED, "pursuit", "Measuring what each costs finds, among the pursuit's heads, more"),
    (LEARNT, f"{LEARNT} random", "The learnt heads matter, not only their layers and factors"),
)  # fmt: skip


def _reached(tried: Tried) -> Verdict:
    """Whether a search finds a few heads that do it."""
    done = reached(tried, LEARNT, STRICT)
    share = len(done) / max(1, len(tried.subjects))
    what = (
        "lose at least 3 nats at a divergence of at most .3 elsewhere"
        if tried.is_text
        else "leave at most .20 of the answers and at least .90 of the others"
    )
    claim = f"At most 3 % of the heads {what}: factors that do so can be learnt"
    verdict = HOLDS if share >= 0.6 else LEANS if share >= 1 / 3 else DOES_NOT
    return Verdict(claim, verdict, f"{len(done)} of {len(tried.subjects)}{_named(done)}")


def reached(tried: Tried, arm: str, aim: tuple[float, float]) -> list[str]:
    """Subjects of which at most 3 % of the heads do what is aimed at, in any setting."""
    found = []
    for subject in tried.subjects:
        few = [one for one in tried.of(arm, subject) if one.k <= 0.031 * tried.n_heads]
        if any(_does(tried, one, aim) for one in few):
            found.append(subject)
    return found


def _does(tried: Tried, one: Outcome, aim: tuple[float, float]) -> bool:
    if tried.is_text:
        return one.need >= 3 and one.side <= APART
    return one.own <= aim[0] and one.others >= aim[1]


def _compared(tried: Tried, claim: str, first: str, others: Sequence[str]) -> Verdict:
    gaps = [
        tried.best(first, subject) - max(tried.best(other, subject) for other in others)
        for subject in tried.subjects
    ]
    low, high = interval(gaps)
    sure = low > 0 and len(gaps) >= FEW
    verdict = HOLDS if sure else LEANS if mean(gaps) > 0 else DOES_NOT
    ours = mean(tried.best(first, subject) for subject in tried.subjects)
    unit = " nats" if tried.is_text else ""
    numbers = (
        f"{ours:.2f}{unit} against {ours - mean(gaps):.2f} in the mean of {len(gaps)}; difference "
        f"{mean(gaps):+.2f} ({low:+.2f} to {high:+.2f})"
    )
    return Verdict(claim, verdict, numbers)


def _written(tried: Tried) -> Verdict:
    """Whether what heads write tells which are needed."""
    shares = []
    for heads in tried.roles.values():
        needed = [head for head in heads if head.role in ("primary", "secondary")]
        writing = [head for head in heads if head.writes]
        if needed and writing:
            shares.append(
                sum(head.writes for head in needed) / len(needed) - len(writing) / len(heads)
            )
    claim = "A head that surely writes the words is likelier to be needed than any other"
    if not shares:
        return Verdict(claim, DOES_NOT, "no head is surely needed by itself")
    low, high = interval(shares)
    verdict = HOLDS if low > 0 and len(shares) >= FEW else LEANS if mean(shares) > 0 else DOES_NOT
    return Verdict(
        claim,
        verdict,
        f"of the needed heads the share that writes is {mean(shares):+.2f} above that of all heads "
        f"({low:+.2f} to {high:+.2f})",
    )


def _brought(tried: Tried) -> Verdict:
    done = [one.subject for one in tried.stronger if one.arm == LEARNT and one.is_twice]
    n = len({one.subject for one in tried.stronger})
    verdict = HOLDS if len(done) >= 0.5 * n else LEANS if done else DOES_NOT
    return Verdict(
        "Learnt factors bring a concept forward: its words twice as often, perplexity at most 1.5 "
        "times",
        verdict,
        f"{len(done)} of {n}{_named(done)}",
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where 95 % of the bootstrap draws put the mean."""
    numbers = torch.tensor(list(values), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(numbers), (_DRAWS, len(numbers)), generator=generator)
    edges = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = numbers[drawn].mean(1).quantile(edges).tolist()
    return low, high


def report(tried: Tried, command: str) -> str:
    """The whole report as Markdown."""
    what = "Free text" if tried.is_text else "Relations"
    done = len(tried.subjects)
    parts = [
        f"# {what}: which ranking finds the heads that {tried.model} needs",
        _how(tried),
        *([f"**{done} of {tried.total} are done so far.**"] if done < tried.total else []),
        "## Verdicts",
        _verdict_table(verdicts(tried)),
        "![What is lost, what stays](dots.svg)",
        f"## The most that is taken away of the subject alone\n\n{_best_table(tried)}",
        f"## What was aimed at\n\n{_aim_table(tried)}",
        f"## Every setting, median of {done}\n\n{_grid_table(tried)}",
        f"## {tried.middle} heads, one by one\n\n{_single_table(tried)}",
        *([f"## What heads are\n\n{_role_table(tried)}"] if tried.roles else []),
        *([f"## Stronger\n\n{_stronger_table(tried)}"] if tried.stronger else []),
        *(["## Left out\n\n" + "\n".join(f"- {note}" for note in tried.notes)] * bool(tried.notes)),
        f"## How\n\nModel {tried.model}, revision {tried.revision}.\n\n    {command}",
    ]
    return "\n\n".join(parts) + "\n"


def _how(tried: Tried) -> str:
    sizes = ", ".join(f"{name} {s} + {j}" for name, (s, j) in tried.counts.items())
    ks = ", ".join(f"{k} ({k / tried.n_heads:.1%})".replace("%", " %") for k in tried.ks)
    alphas = ", ".join(f"{alpha:g}" for alpha in tried.trial.alphas)
    if tried.is_text:
        text = (
            "Texts are the model's own: it goes on from openings. Lost: the fall of the "
            "log-probability where a word of the concept begins, in nats. Side effect: KL from the "
            "unedited distribution elsewhere, in nats. Pursuit, raw and logit lens read the heads "
            "on the model's usual questions. Factors are learnt on more of the model's own texts: "
            f"on up to {MORE:g} times those with the concept's words, and {OTHERS_MORE} without."
        )
    else:
        text = (
            "A question stands after four worked examples of its relation; it is answered where "
            "the first token of the answer is the likeliest. Only questions that the unedited "
            "model answers are used. Own: the share of a relation's answers that an edit leaves; "
            "others: the same over questions of four other relations. Pursuit, raw and logit "
            "lens read the heads at the last word of the questions that choose heads."
        )
    return (
        f"{text} Heads are chosen on some texts and judged on others that no arm has seen "
        f"(to choose + to judge: {sizes}). {ks} of {tried.n_heads} heads, at factors {alphas}; "
        f"learnt edits have factors of their own. Random: {tried.draws} sets of the layers "
        "of the first arm's heads. Differences of two arms have a 95 % bootstrap interval over "
        f"subjects; a claim holds where all of it is above 0 and there are at least {FEW} "
        "subjects, and leans where the mean is."
    )


def _verdict_table(found: Sequence[Verdict]) -> str:
    lines = ["| claim | here | numbers |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {v.claim} | **{v.verdict}** | {v.numbers} |" for v in found)])


def _best_table(tried: Tried) -> str:
    rule = (
        f"Nats lost on the concept's words, at a KL of at most {APART:g} elsewhere"
        if tried.is_text
        else "Share of the others' answers that stays less that of its own"
    )
    head = [
        f"{rule}; over all numbers of heads and factors.",
        "",
        _row(["arm", *tried.subjects, "mean"]),
    ]
    lines = [*head, "|---|" + "---|" * (len(tried.subjects) + 1)]
    for arm in tried.arms:
        values = [tried.best(arm, subject) for subject in tried.subjects]
        lines.append(_row([arm, *(f"{v:.2f}" for v in values), f"{mean(values):.2f}"]))
    return "\n".join(lines)


def _aim_table(tried: Tried) -> str:
    if tried.is_text:
        aims = {"at least 3 nats lost at a KL of at most .3 elsewhere": STRICT}
    else:
        aims = {
            f"own at most {own:g}, others at least {kept:g}": (own, kept)
            for own, kept in (STRICT, LOOSE)
        }
    lines = ["Subjects of which at most 3 % of the heads do it, in any setting.", ""]
    lines += [_row(["arm", *aims]), "|---|" + "---|" * len(aims)]
    for arm in (arm for arm in tried.arms if RANDOM not in arm):
        found = [reached(tried, arm, aim) for aim in aims.values()]
        lines.append(_row([arm, *(f"{len(one)}{_named(one)}" for one in found)]))
    return "\n".join(lines)


def _grid_table(tried: Tried) -> str:
    columns = [(k, alpha) for k in tried.ks for alpha in tried.trial.alphas]
    words = "lost / elsewhere, nats" if tried.is_text else "own / others"
    names = [f"k={k}, α={alpha:g}" for k, alpha in columns]
    lines = [f"{words}; learnt edits have one column a number of heads.", ""]
    lines += [_row(["arm", *names]), "|---|" + "---|" * len(columns)]
    for arm in tried.arms:
        cells = []
        for k, alpha in columns:
            own = [o for o in tried.outcomes if o.arm == arm and o.k == k]
            is_first = alpha == tried.trial.alphas[0]
            here = [o for o in own if o.alpha == alpha or (o.alpha is None and is_first)]
            cells.append(_pair(tried, here) if here else "")
        lines.append(_row([arm, *cells]))
    return "\n".join(lines)


def _single_table(tried: Tried) -> str:
    alpha = tried.trial.alphas[0]
    lines = [f"At α = {alpha:g} where factors are not learnt.", ""]
    lines += [_row(["arm", *tried.subjects]), "|---|" + "---|" * len(tried.subjects)]
    for arm in tried.arms:
        cells = []
        for subject in tried.subjects:
            own = [o for o in tried.of(arm, subject) if o.k == tried.middle]
            cells.append(_pair(tried, [o for o in own if o.alpha in (alpha, None)]))
        lines.append(_row([arm, *cells]))
    return "\n".join(lines)


def _pair(tried: Tried, some: Sequence[Outcome]) -> str:
    if not some:
        return ""
    of: Callable[[str], float] = lambda name: median(getattr(one, name) for one in some)  # noqa: E731
    first, second = ("need", "side") if tried.is_text else ("own", "others")
    return f"{of(first):.2f} / {of(second):.2f}"


def _role_table(tried: Tried) -> str:
    names = ("primary", "secondary", "correlate", "interferer", "null")
    lines = [
        "The names are those of arXiv 2606.05378, computed so: a head *writes* where it surely "
        "stands above chance; it is *needed* where turning it off costs the answers at least "
        f"{SURE:g} nats and the 95 % interval over texts lies above 0. Primary: both. Secondary: "
        "needed, and does not surely write. Correlate: writes, and is not needed. Interferer: "
        f"without it the answers gain at least {SURE:g} nats, surely. Null: the rest.",
        "",
        _row(["relation", *names, "the most needed"]),
        "|---|" + "---|" * (len(names) + 1),
    ]
    for subject, heads in tried.roles.items():
        counted = Counter(head.role for head in heads)
        first = sorted(heads, key=lambda head: -head.need)[:3]
        told = ", ".join(f"{head.head} {head.need:.2f} ({head.role})" for head in first)
        lines.append(_row([subject, *(str(counted[name]) for name in names), told]))
    return "\n".join(lines)


def _stronger_table(tried: Tried) -> str:
    lines = [
        "Words of the concept in the stories, edited / unedited, and the stories' perplexity by "
        "the unedited model as a multiple of that of its own. Bold: at least twice as often at a "
        "perplexity of at most 1.5 times. Learnt factors had "
        f"{' or '.join(f'{side:g}' for side in STRONGER_SIDES)} nats elsewhere to spend, as other "
        "stories, told by the openings that heads are chosen on, said was best.",
        "",
    ]
    arms = list(dict.fromkeys(one.arm for one in tried.stronger))
    lines += [_row(["concept", *arms]), "|---|" + "---|" * len(arms)]
    for subject in dict.fromkeys(one.subject for one in tried.stronger):
        here = {one.arm: one for one in tried.stronger if one.subject == subject}
        cells = []
        for arm in arms:
            one = here[arm]
            text = f"{one.words} / {one.unedited}, × {one.perplexity:.2f}"
            cells.append(f"**{text}**" if one.is_twice else text)
        lines.append(_row([subject, *cells]))
    return "\n".join(lines)


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """All outcomes, a line each."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, [f.name for f in fields(Outcome)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in outcomes)
    return buffer.getvalue()


def dots(tried: Tried) -> "Figure":
    """A panel an arm, a dot a subject: what is lost against what else moves."""
    factors = (tried.trial.alphas[0], None)
    panels = {}
    for arm in tried.arms:
        own = [o for o in tried.outcomes if o.arm == arm and o.k == tried.middle]
        panels[arm] = [_dot(tried, one) for one in own if one.alpha in factors]
    if tried.is_text:
        names = ("KL elsewhere", "nats lost")
        return scatter(panels, names, (1.0, 6.0), ((0.0, APART), (3.0, 6.0)), tried.subjects)
    names = ("others that stay", "own that stay")
    aim = ((STRICT[1], 1.0), (0.0, STRICT[0]))
    return scatter(panels, names, (1.0, 1.0), aim, tried.subjects)


def _dot(tried: Tried, one: Outcome) -> tuple[str, float, float]:
    return (one.subject, *((one.side, one.need) if tried.is_text else (one.others, one.own)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _named(subjects: Sequence[str]) -> str:
    return f" ({', '.join(subjects)})" if subjects else ""
