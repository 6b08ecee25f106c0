"""A study's report as Markdown, for a person to read or attach: finding, table, side effects.

Every ratio has its interval, every edit its random heads, and every arm its line.
"""

import shlex
from collections.abc import Sequence

from headviz.studies.finding import Finding
from headviz.studies.registry import find_experiment
from headviz.studies.request import Measure, Request
from headviz.studies.study import Finished
from headviz.studies.summary import TRUTH, Row, agreements, of_measure


def report(finished: Finished, rows: Sequence[Row], finding: Finding) -> str:
    """The whole report."""
    parts = [_head(finished, finding), _tables(finished, rows), _agreement(finished)]
    parts += [_how(finished)]
    return "\n\n".join(part for part in parts if part) + "\n"


def command_of(request: Request) -> str:
    """The command that runs this study again."""
    defaults = Request(request.study, request.model)
    options = {
        "--data": request.data,
        "--concept": request.concept,
        "--words": request.words,
        "--k": ",".join(request.ks),
        "--alpha": ",".join(f"{alpha:g}" for alpha in request.alphas),
        "--arms": ",".join(request.arms),
        "--limit": request.limit,
        "--selection": request.selection if request.selection != defaults.selection else None,
        "--draws": request.draws if request.draws != defaults.draws else None,
        "--seed": request.seed or None,
        "--prompt": request.prompt,
        "--max-new-tokens": request.max_new_tokens,
        "--classifier": request.classifier,
        "--clip": request.clip,
    }
    # An option that starts with a minus needs the equals sign.
    given = [f"{name}={shlex.quote(str(v))}" for name, v in options.items() if v not in ("", None)]
    parts = ["python -m headviz study", request.study, "--model", shlex.quote(request.model)]
    return " ".join([*parts, *given])


def _head(finished: Finished, finding: Finding) -> str:
    study = finished.study
    material, plan = study.plan.material, study.plan
    lines = [
        f"# {find_experiment(study.request.study).title.capitalize()}: {plan.concept.name} in "
        f"{study.model.name}",
        "",
        f"**{finding.text}**",
        "",
        f"{len(material.evaluation)} samples of {material.name}, {material.n_inside} of them inside"
        f" the concept; heads were picked on {len(material.selection)} others. Words: "
        f"{', '.join(plan.concept.words[:12])}{' …' if len(plan.concept.words) > 12 else ''}.",
    ]
    return "\n".join([*lines, *(f"\n{note}" for note in plan.notes)])


def _tables(finished: Finished, rows: Sequence[Row]) -> str:
    parts = [
        "## Edited ÷ unedited\n\nIn brackets the 95 % bootstrap interval over samples, paired with "
        "the unedited answers; for random heads also the quartiles of the draws.",
    ]
    for measure in finished.study.plan.measures:
        parts.append(_table(measure, of_measure(rows, measure)))
    pictures = [f"![{m.what}]({m.column}-{m.part}.svg)" for m in finished.study.plan.measures[:2]]
    parts.insert(1, "\n\n".join(pictures))
    return "\n\n".join(parts)


def _table(measure: Measure, rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys((r.k, r.alpha) for r in rows))
    cells = {(r.arm, r.k, r.alpha): _cell(r) for r in rows}
    unedited = f"{rows[0].unedited:.3f} unedited, {rows[0].n} samples"
    lines = [
        f"### {measure.what[0].upper()}{measure.what[1:]} ({unedited})",
        "",
        "| arm | " + " | ".join(f"k={k}, α={alpha:g}" for k, alpha in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for arm in dict.fromkeys(r.arm for r in rows):
        lines.append(f"| {arm} | " + " | ".join(cells[arm, k, a] for k, a in columns) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    if row.ratio is None:
        return f"{row.value:.3f} (no ratio)"
    text = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
    if row.first_quarter is not None and row.third_quarter is not None:
        text += f", draws {row.first_quarter:.2f} to {row.third_quarter:.2f}"
    return text


def _agreement(finished: Finished) -> str:
    found = agreements(finished)
    if not found:
        return ""
    k = next(iter(found.values())).k
    lines = [
        "## Agreement with exhaustive ablation",
        "",
        f"Every head was left out in turn (factor 0) on {len(finished.study.plan.causal)} "
        "selection samples inside the concept; what that takes from the right answer's "
        f"log-probability is the truth. Precision and area are for its first {k} heads; by chance "
        f"the area is 0.5 and the precision {k / finished.study.model.total_heads:.2f}.",
        "",
        f"| arm | Spearman | precision at {k} | area under the curve |",
        "|---|---|---|---|",
    ]
    for arm, a in found.items():
        lines.append(f"| {arm} | {a.spearman:.2f} | {a.precision:.2f} | {a.area:.2f} |")
    order = finished.study.scores[TRUTH].flatten().argsort(descending=True)[:5].tolist()
    n_heads = finished.study.model.n_heads
    cost = finished.study.scores[TRUTH].flatten()
    first = ", ".join(f"L{i // n_heads}.H{i % n_heads} {cost[i]:.2f}" for i in order)
    return "\n".join([*lines, "", f"The first five by ablation, in nats: {first}."])


def _how(finished: Finished) -> str:
    study = finished.study
    return "\n".join(
        [
            "## How",
            "",
            f"Model {study.model.name}, revision {study.model.revision}, "
            f"{str(study.model.dtype).removeprefix('torch.')}. {len(study.cells)} cells.",
            "",
            f"    {command_of(study.request)}",
        ]
    )
