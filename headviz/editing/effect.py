"""What a head does to a concept: what the model loses without it, and what else moves.

On texts with continuations (given answers, or what the model says itself): at every position whose
next token begins a word of the concept, the loss is by how much that token's log-probability falls
under an edit, in nats, averaged over these positions; at the others the side effect is the
divergence KL(unedited ‖ edited) of the next token's distribution, in nats, averaged likewise. Where
more of a concept is wanted, the question is another: at every position where one of its words might
come, the log-probability of all its words together. Both numbers come with intervals over texts.
Estimated by one backward pass for all heads at once (attribution
patching: Nanda 2023; Syed et al. 2023), or measured by really turning heads; the measurement
decides. Knows nothing of how heads were chosen.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

import torch

from headviz.base.errors import OptionError, PromptError
from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.editing.passages import Passage, begins_word
from headviz.heads.capture import Progress, no_progress
from headviz.heads.edits import Edit, factor_table
from headviz.heads.forward import batch_of
from headviz.heads.pooling import Lock, batches
from headviz.heads.replay import Replay
from headviz.models.loaded import LoadedModel

BATCH_TOKENS = {"cpu": 640, "cuda": 16384}
"""Tokens of a batch at most, padding counted: a stop waits for one batch."""
OTHERS = 512
"""Positions beside the concept at which the side effect is measured, at most."""
_MOST_LOGITS = 2**26  # numbers kept of the unedited distributions: a quarter of a gibibyte
_DRAWS = 200
LIKELY = 0.01
"""From this probability of a concept's words on, up to one less it, more of it can be wanted."""
SHARE = 0.95  # of the bootstrap draws that an interval holds


@dataclass(frozen=True, eq=False)
class Measured:
    """What one edit does, text by text; the sums of its parts."""

    lost: Float[Tensor, " text"]
    """Sum over the concept's positions of the fall in log-probability, in nats."""
    n_lost: Float[Tensor, " text"]
    moved: Float[Tensor, " text"]
    """Sum over the other positions of KL(unedited ‖ edited), in nats."""
    n_moved: Float[Tensor, " text"]

    def effect(self) -> "Effect":
        """The means, with intervals over texts."""
        generator = torch.Generator().manual_seed(0)
        n = len(self.lost)
        drawn = torch.randint(n, (_DRAWS, n), generator=generator)
        need = _mean_and_edges(self.lost, self.n_lost, drawn)
        side = _mean_and_edges(self.moved, self.n_moved, drawn)
        return Effect(*need, *side, int(self.n_lost.sum()))


@dataclass(frozen=True)
class Effect:
    """What an edit costs the concept, and what else it moves."""

    need: float
    """Mean fall of the log-probability of the concept's words, in nats; negative if they rise."""
    need_low: float
    """The 95 % interval over texts."""
    need_high: float
    side: float
    """Mean KL divergence elsewhere, in nats."""
    side_low: float
    side_high: float
    n_positions: int
    """Words of the concept, or places where one might come, that it was measured on."""

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Effect":
        """From its fields in order, as they are kept."""
        need, need_low, need_high, side, side_low, side_high, n_positions = numbers
        return cls(need, need_low, need_high, side, side_low, side_high, int(n_positions))

    def as_dict(self) -> dict[str, float]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Part:
    """One batch of passages: what is scored in it, and what the unedited model says there."""

    replay: Replay
    at: Bool[Tensor, "row position"]
    """Positions whose next token is scored."""
    tokens: Int[Tensor, " scored"]
    own: Bool[Tensor, " scored"]
    """Where the next token begins a word of the concept, or might."""
    row: Int[Tensor, " scored"]
    """Which of the part's texts each belongs to."""
    n_texts: int
    base: Float[Tensor, "scored vocab"]
    """Log-probabilities without an edit."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Passages read once, on which any number of edits are measured."""

    model: LoadedModel
    parts: tuple[Part, ...]
    words: tuple[str, ...]
    """Empty where the own tokens are given answers rather than words of a list."""
    lock: Lock = nullcontext
    """Held for each forward pass, and by whoever else runs the model."""
    together: Int[Tensor, " word"] | None = None
    """Tokens whose probabilities count as one; None: the token that stands at each place."""

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        passages: Sequence[Passage],
        words: Sequence[str],
        progress: Progress = no_progress,
        lock: Lock = nullcontext,
    ) -> "Reader":
        """Read the passages without an edit.

        Raises PromptError where no word of the concept is said in any of them.
        """
        marks = marked(model, passages, words)
        kept = _kept_others(model, marks)
        parts: list[Part] = []
        read, total = 0, len(passages)
        most = BATCH_TOKENS.get(model.device.type, 4096)
        for rows in batches([len(one.prompt.ids) for one in passages], most):
            progress(read / total, f"reading without an edit, text {read + 1} of {total}")
            read += len(rows)
            with lock():
                part = _read(
                    model,
                    [passages[row] for row in rows],
                    [marks[row] for row in rows],
                    [kept[row] for row in rows],
                )
            parts.append(part)
        return cls(model, tuple(parts), tuple(words), lock)

    def batches(self) -> tuple["Reader", ...]:
        """One reader for each batch of texts in which a word of the concept is said."""
        own = [part for part in self.parts if bool(part.own.any())]
        return tuple(replace(self, parts=(part,)) for part in own)

    def where_likely(self, ids: Int[Tensor, " word"]) -> "Reader":
        """The same texts, asked where any of these tokens might come, for all of them together.

        A text says few words of a concept, and could say many more.
        """
        parts = []
        for part in self.parts:
            share = part.base[:, ids].logsumexp(1).exp()
            parts.append(replace(part, own=(share > LIKELY) & (share < 1 - LIKELY)))
        return replace(self, parts=tuple(parts), together=ids)

    def measure(self, edit: Edit, progress: Progress = no_progress) -> Measured:
        """What the edit does to these texts. Edits of places other than everywhere are refused."""
        if edit.where != "everywhere":
            raise OptionError("The effect is measured for edits that hold everywhere.")
        sums = [_sums(part, now, self.together) for part, now in self.under(edit, progress)]
        return Measured(*(torch.cat(column).cpu() for column in zip(*sums, strict=True)))

    def under(
        self, edit: Edit, progress: Progress = no_progress
    ) -> Iterator[tuple[Part, Float[Tensor, "scored vocab"]]]:
        """Each part with the log-probabilities that the edit leaves."""
        table = factor_table(self.model, [edit])
        for number, part in enumerate(self.parts):
            progress(number / len(self.parts), "measuring what the edit does")
            with self.lock(), torch.no_grad():
                now = part.replay.logits(rows_of(table, part), part.at).log_softmax(1)
            yield part, now

    def estimate(self, progress: Progress = no_progress) -> Float[Tensor, "layer head"]:
        """The loss without each head to first order, in nats: attribution patching.

        The derivative of the words' mean log-probability by each head's factor, at factor 1.
        """
        slopes, counts = self.slopes(progress)
        return slopes.sum(0) / counts.sum()

    def slopes(
        self, progress: Progress = no_progress
    ) -> tuple[Float[Tensor, "row layer head"], Float[Tensor, " row"]]:
        """The same row by row: sums over the concept's words, and how many words there are.

        A row is a text; of texts that are packed into one row, they are all of them together.
        """
        found, counts = [], []
        for number, part in enumerate(self.parts):
            progress(number / len(self.parts), "estimating what each head does")
            if not bool(part.own.any()):
                continue
            with self.lock(), torch.inference_mode(False), torch.enable_grad():
                size = (len(part.at), self.model.n_layers, self.model.n_heads)
                table = torch.ones(size, device=self.model.device, requires_grad=True)
                first = self.model.head_layers[0]
                now = part.replay.logits(table, part.at, first).log_softmax(1)
                value = likelihood(now[part.own], self.together, part.tokens[part.own]).sum()
                (slope,) = torch.autograd.grad(value, table)
            in_row = part.at.nonzero()[:, 0][part.own]
            found.append(slope.float().cpu())
            counts.append(in_row.bincount(minlength=len(part.at)).float().cpu())
        return torch.cat(found), torch.cat(counts)


def marked(
    model: LoadedModel, passages: Sequence[Passage], words: Sequence[str]
) -> list[tuple[bool, ...]]:
    """For each token of each continuation, whether a word of the concept begins in it.

    Raises PromptError where none does in any of them.
    """
    marks = [begins_word(model, one.continuation, words) for one in passages]
    if not any(any(mark) for mark in marks):
        raise PromptError(
            f"None of the {len(passages)} texts says a word of the concept "
            f"({', '.join(list(words)[:5])} …), so that nothing can be lost. Choose texts that "
            "do: questions answered by its words, or tasks that call for them."
        )
    return marks


def likelihood(
    rows: Float[Tensor, "own vocab"], ids: Int[Tensor, " word"] | None, tokens: Int[Tensor, " own"]
) -> Float[Tensor, " own"]:
    """Log-probability of all these ids together, or of each row's own token."""
    return rows.gather(1, tokens[:, None])[:, 0] if ids is None else rows[:, ids].logsumexp(1)


def rows_of(table: Float[Tensor, "1 layer head"], part: Part) -> Float[Tensor, "row layer head"]:
    """The same factors for every row of the batch."""
    return table.expand(len(part.at), -1, -1)


def _mean_and_edges(
    total: Float[Tensor, " text"], count: Float[Tensor, " text"], drawn: Int[Tensor, "draw text"]
) -> tuple[float, float, float]:
    """Sum over sum, and where SHARE of the draws of texts put it."""
    means = total[drawn].sum(1) / count[drawn].sum(1).clamp_min(1)
    low, high = means.quantile(torch.tensor([(1 - SHARE) / 2, (1 + SHARE) / 2])).tolist()
    return float(total.sum() / count.sum().clamp_min(1)), low, high


def _sums(
    part: Part, now: Float[Tensor, "scored vocab"], together: Int[Tensor, " word"] | None
) -> list[Float[Tensor, " row"]]:
    base, then = (likelihood(rows, together, part.tokens) for rows in (part.base, now))
    lost = base - then
    moved = (part.base.exp() * (part.base - now)).sum(1).clamp_min(0)
    own, others = part.own.float(), (~part.own).float()
    zero = lost.new_zeros(part.n_texts)
    return [
        zero.index_add(0, part.row, values) for values in (lost * own, own, moved * others, others)
    ]


def _kept_others(model: LoadedModel, marks: Sequence[Sequence[bool]]) -> list[tuple[bool, ...]]:
    """Which tokens are scored: all of the concept's, and a fixed random part of the others."""
    n_own = sum(sum(mark) for mark in marks)
    vocabulary = model.model.get_output_embeddings().weight.shape[0]
    room = max(32, min(OTHERS, _MOST_LOGITS // vocabulary - n_own))
    n_others = sum(len(mark) for mark in marks) - n_own
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(n_others, generator=generator).argsort() < room
    chosen = iter(keep.tolist())
    return [tuple(own or next(chosen) for own in mark) for mark in marks]


def _read(
    model: LoadedModel,
    passages: Sequence[Passage],
    marks: Sequence[Sequence[bool]],
    kept: Sequence[Sequence[bool]],
) -> Part:
    batch = batch_of(model, [one.prompt for one in passages], left=False)
    at, own = torch.zeros_like(batch.image), torch.zeros_like(batch.image)
    for row, (one, mark, keep) in enumerate(zip(passages, marks, kept, strict=True)):
        said = slice(one.first - 1, one.first - 1 + len(mark))
        at[row, said] = torch.tensor(keep, device=at.device)
        own[row, said] = torch.tensor(mark, device=at.device)
    row, position = at.nonzero().T
    replay = Replay.of(model, batch)
    table = torch.ones(len(at), model.n_layers, model.n_heads, device=model.device)
    with torch.no_grad():
        base = replay.logits(table, at).log_softmax(1)
    return Part(replay, at, batch.ids[row, position + 1], own[at], row, len(at), base)
