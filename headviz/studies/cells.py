"""The grid of a study: settings (arm, k, α, draw) × shards of data, one cell each.

A cell is known by its content: the model, the edit, the samples and all that the answer depends on.
Two arms that choose the same heads share their cells, and a grid that grows keeps what it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headviz.base.head import Head
from headviz.base.store import key_of
from headviz.editing.control import matched_control
from headviz.heads.edits import NO_EDIT, Edit
from headviz.studies.samples import Material, Sample, StudyError

FORMAT = 1
UNEDITED, RANDOM = "unedited", "random"


@dataclass(frozen=True, order=True)
class Setting:
    """One edit of the grid, by how its heads were chosen."""

    arm: str
    k: int
    """Heads that are edited."""
    alpha: float
    draw: int = 0
    """Which of the random draws; 0 for all other arms."""


BASE = Setting(UNEDITED, 0, 1.0)


@dataclass(frozen=True)
class Shard:
    """Some samples, or some ordinary texts, that are run together."""

    task: str
    """`answers` are generated; of `ordinary` texts the perplexity is measured."""
    number: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Cell:
    """One setting on one shard."""

    key: str
    setting: Setting
    edit: Edit
    shard: Shard

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what was run, without the samples themselves."""
        return {
            **asdict(self.setting),
            "edit": str(self.edit),
            "task": self.shard.task,
            "shard": self.shard.number,
            "samples": [sample.key for sample in self.shard.samples],
        }


def head_counts(wanted: Sequence[str], total: int) -> tuple[int, ...]:
    """Numbers of heads from `8` or `2%`. Raises StudyError for one that is not 1 to `total`."""
    counts = []
    for text in wanted:
        number = text.strip()
        try:
            share = number.endswith("%")
            k = _share(float(number[:-1]), total) if share else int(number)
        except (ValueError, OverflowError):
            raise StudyError(
                f"{number!r} is no number of heads. Write a count or a share, e.g. 8 or 2%."
            ) from None
        if not 1 <= k <= total:
            raise StudyError(f"k is {number}, which is {k} heads; choose 1 to {total}.")
        counts.append(k)
    return tuple(dict.fromkeys(counts))


def _share(percent: float, total: int) -> int:
    """So many percent of all heads, one at least of what is more than nothing."""
    return max(round(percent / 100 * total), int(percent > 0))


def settings_of(
    orders: Mapping[str, Sequence[Head]],
    ks: Sequence[int],
    alphas: Sequence[float],
    draws: int,
    size: tuple[Sequence[int], int],
) -> dict[Setting, Edit]:
    """Every setting and its edit: the unedited model first, then the arms.

    Args:
        orders: arm -> all heads, the highest first; the first arm is what random heads are matched
            to. The arm `random` has no order of its own.
        ks: numbers of heads.
        alphas: factors.
        draws: random draws a (k, α).
        size: the numbers of the model's layers with heads, and the heads of each.

    Raises:
        OptionError: where too few heads are left for a random draw.
    """
    found: dict[Setting, Edit] = {BASE: NO_EDIT}
    for k in ks:
        for alpha in alphas:
            for arm, order in orders.items():
                if arm != RANDOM:
                    found[Setting(arm, k, alpha)] = Edit.of(order[:k], alpha)
            if RANDOM in orders:
                chosen = next(order for arm, order in orders.items() if arm != RANDOM)[:k]
                for draw in range(draws):
                    heads = matched_control(chosen, *size, seed=draw)
                    found[Setting(RANDOM, k, alpha, draw)] = Edit.of(heads, alpha)
    return found


def shards_of(material: Material, size: int) -> list[Shard]:
    """The evaluation samples by length, so that little is padded, and the ordinary texts."""
    by_length = sorted(material.evaluation, key=lambda s: (len(s.prompt), s.key))
    texts = sorted(material.ordinary, key=lambda s: (len(s.prompt), s.key))
    return [
        Shard(task, number, tuple(samples[start : start + size]))
        for task, samples in (("answers", by_length), ("ordinary", texts))
        for number, start in enumerate(range(0, len(samples), size))
    ]


def grid(
    settings: Mapping[Setting, Edit], shards: Sequence[Shard], depends_on: Mapping[str, Any]
) -> list[Cell]:
    """All cells, shard by shard. `depends_on`: model, revision and whatever else answers need."""
    return [
        Cell(
            key_of(
                kind="cell",
                version=FORMAT,
                edit=str(edit),
                task=shard.task,
                samples=[sample.key for sample in shard.samples],
                answers=[list(sample.answers) for sample in shard.samples],
                **depends_on,
            ),
            setting,
            edit,
            shard,
        )
        for shard in shards
        for setting, edit in settings.items()
    ]
