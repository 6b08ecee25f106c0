"""How often each way of choosing heads puts a planted head first, over tiny-lm's concepts.

In the second part of its training tiny-lm was made to need some heads on purpose: for once it is
known which heads matter. They are those that the pursuit put first when a stage began, so the
pursuit has a head start in this table, which it says.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from headviz.base.assets import built_in_models
from headviz.base.errors import ModelError
from headviz.base.head import Head
from headviz.heads.capture import Progress, no_progress
from headviz.session.session import Session
from headviz.studies.arms import Selecting, in_order
from headviz.studies.built_in import TEXT_MODEL
from headviz.studies.folder import StudyFolder
from headviz.studies.qa import plan
from headviz.studies.request import Request
from headviz.studies.study import scored

COMPARED = ("pursuit", "logit-lens", "attribution", "ablation")
ASKED = 8
"""Questions of each concept that gradient and ablation read: there are many concepts."""


def planted_heads() -> dict[str, tuple[Head, ...]]:
    """Concept -> the heads that the last stage of tiny-lm's training planted.

    Raises ModelError where the model is not there or nothing was planted.
    """
    folder = built_in_models().get(TEXT_MODEL)
    file = folder / "training.json" if folder else None
    if file is None or not file.is_file():
        raise ModelError(f"{TEXT_MODEL} has no training.json that says what was planted.")
    stages = json.loads(file.read_text(encoding="utf-8")).get("stages") or [{"heads": {}}]
    heads = stages[-1]["heads"].items()
    return {concept: tuple(Head(*pair) for pair in pairs) for concept, pairs in heads}


def best_ranks(
    session: Session,
    folder: Path,
    arms: Sequence[str] = COMPARED,
    progress: Progress = no_progress,
) -> dict[str, dict[str, int]]:
    """Arm -> concept -> the rank, from 1, of the first planted head.

    Scores are kept in the folder, where a run that was stopped goes on.
    """
    model = session.model(TEXT_MODEL)
    kept = StudyFolder.open(folder, {"study": "planted", "revision": model.revision})
    planted = planted_heads()
    found: dict[str, dict[str, int]] = {arm: {} for arm in arms}
    for number, (concept, heads) in enumerate(planted.items()):
        request = Request("qa", TEXT_MODEL, concept=concept, limit=20)
        made = plan(request, model)
        selecting = Selecting(
            session,
            model,
            TEXT_MODEL,
            made.concept,
            made.material.selection,
            made.causal[:ASKED],
        )
        for arm in arms:
            progress(number / len(planted), f"{concept}: {arm}")
            order = in_order(scored(arm, selecting, kept))
            found[arm][concept] = 1 + min(order.index(head) for head in heads)
    return found


def as_markdown(ranks: Mapping[str, Mapping[str, int]], n_heads: int) -> str:
    """The table, and what to think of it."""
    concepts = list(next(iter(ranks.values())))
    planted = {concept: len(heads) for concept, heads in planted_heads().items()}
    # The first of n heads among all, drawn at random, stands at (all + 1) / (n + 1) in the mean.
    chance = statistics.mean((n_heads + 1) / (planted[concept] + 1) for concept in concepts)
    lines = [
        "# Where planted heads stand",
        "",
        f"Rank of the first planted head of each concept in tiny-lm, of {n_heads} heads; at random "
        f"it would be {chance:.0f} in the mean. The planted heads were chosen **by the pursuit** "
        "during training, so its own column only says that it still finds them; the other columns "
        "say whether ways of choosing heads that were not part of the training find them too. "
        f"Gradient and ablation read {ASKED} questions a concept.",
        "",
        "| concept (planted) | " + " | ".join(ranks) + " |",
        "|---|" + "---|" * len(ranks),
    ]
    lines += [
        f"| {concept} ({planted[concept]}) | "
        + " | ".join(str(own[concept]) for own in ranks.values())
        + " |"
        for concept in concepts
    ]
    first = [f"{sum(r == 1 for r in own.values())} of {len(concepts)}" for own in ranks.values()]
    middle = [f"{statistics.median(own.values()):g}" for own in ranks.values()]
    lines += [
        "| **first** | " + " | ".join(first) + " |",
        "| **median rank** | " + " | ".join(middle) + " |",
    ]
    return "\n".join(lines) + "\n"
