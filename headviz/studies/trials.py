"""`study relations` and `study freetext`: their subjects, the run, and the files that it leaves."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from headviz.base.progress import Progress, no_progress
from headviz.session.session import Session
from headviz.studies import freetext, relations
from headviz.studies.claims import Tried, as_csv, dots, report, verdicts
from headviz.studies.figures import files as figure_files
from headviz.studies.folder import StudyFolder
from headviz.studies.trial import (
    LEARNT,
    PRUNED,
    HeadRole,
    Ladder,
    Outcome,
    Subject,
    Trial,
    roles,
)

MODEL = "smollm2-135m"
FIRST_DRAWS = 3
"""Random sets of every subject before any gets the others."""


@dataclass(frozen=True)
class Kind:
    """One of the trials."""

    title: str
    subjects_of: Callable[[Session, Trial, Progress], tuple[tuple[Subject, ...], tuple[str, ...]]]
    arms: tuple[str, ...]
    """Those that are run if none is named."""


TRIALS: Mapping[str, Kind] = {
    "relations": Kind(
        "relations of a real model",
        relations.subjects_of,
        (
            "pursuit",
            "raw",
            "logit-lens",
            "attribution",
            "lift",
            "ablation",
            "pruned",
            "learnt",
            "random",
        ),
    ),
    # Single heads cost a pass over long texts each: ablation only where it is asked for.
    "freetext": Kind(
        "a real model's own stories",
        freetext.subjects_of,
        ("pursuit", "raw", "logit-lens", "attribution", "lift", "pruned", "learnt", "random"),
    ),
}
"""Name -> the trial."""


def run_trial(
    session: Session, trial: Trial, out: Path, progress: Progress = no_progress
) -> tuple[Tried, list[str]]:
    """Run, or go on with, a trial; the report is written anew after what is new.

    Raises HeadvizError, in one sentence, for anything that does not fit.
    """
    kind = TRIALS[trial.study]
    subjects, notes = kind.subjects_of(session, trial, progress)
    model = session.model(trial.model)
    config = {**asdict(trial), "revision": model.revision, "dtype": str(model.dtype)}
    folder = StudyFolder.open(out, config)
    outcomes: dict[str, list[Outcome]] = {}
    found_roles: dict[str, list[HeadRole]] = {}
    stronger: dict[str, list[freetext.Stronger]] = {}
    files: list[str] = []
    all_stages = stages(trial)
    for number, stage in enumerate(all_stages):
        ladder, before = Ladder(stage, model, subjects, folder), folder.n_kept
        for subject, done in ladder.run(progress):
            outcomes[subject.name] = done
            if "ablation" in stage.arms:
                found_roles[subject.name] = roles(subject, ladder.kept(subject))
            # With the first stage that has all numbers of heads.
            if trial.study == "freetext" and stage.ks == trial.ks:
                stronger[subject.name] = freetext.stories(session, trial, ladder, subject)
            # Between two stages some subjects have more than others: no report of that. And a stage
            # that was run before has less to say than the report that is there.
            is_old = stage is not all_stages[-1] and folder.n_kept == before
            if is_old or (number and subject is not subjects[-1]):
                continue
            tried = Tried(
                stage,
                model.name,
                model.revision,
                model.total_heads,
                ladder.ks,
                tuple(chain.from_iterable(outcomes.values())),
                dict(found_roles),
                tuple(chain.from_iterable(stronger.values())),
                {one.name: one.sizes for one in subjects},
                notes,
                len(subjects),
            )
            files = _write(tried, folder)
    return tried, files


def stages(trial: Trial) -> list[Trial]:
    """The trial in stages that each go over all subjects, what is cheap and says most first.

    A run that ends early then has something to say of every subject.
    """
    scoring = tuple(arm for arm in trial.arms if arm not in ("ablation", PRUNED, LEARNT))
    cheap = tuple(arm for arm in trial.arms if arm != "ablation")
    few = replace(trial, draws=min(FIRST_DRAWS, trial.draws))
    middle = replace(few, ks=trial.ks[len(trial.ks) // 2 :][:1], alphas=trial.alphas[:1])
    wanted = [replace(middle, arms=scoring), replace(middle, arms=cheap), replace(few, arms=cheap)]
    # Random heads go with the first arm's: every stage has to begin with it.
    found = [stage for stage in wanted if stage.arms[:1] == trial.arms[:1]]
    return [*dict.fromkeys([*found, trial])]


def _write(tried: Tried, folder: StudyFolder) -> list[str]:
    files = {
        "summary.csv": as_csv(tried.outcomes).encode(),
        "report.md": report(tried, command_of(tried.trial)).encode(),
        **figure_files({"dots": dots(tried)}),
    }
    for name, content in files.items():
        folder.write_bytes(name, content)
    return ["config.json", *files]


def command_of(trial: Trial) -> str:
    """The command that runs this trial again."""
    parts = ["python -m headviz study", trial.study, f"--model {shlex.quote(trial.model)}"]
    parts += [f"--data {shlex.quote(Path(trial.data).name)}"] if trial.data else []
    usual = Trial(trial.study, trial.model)
    options = {
        "--k": (",".join(trial.ks), ",".join(usual.ks)),
        "--alpha": tuple(",".join(f"{a:g}" for a in one.alphas) for one in (trial, usual)),
        "--arms": (",".join(trial.arms), ",".join(TRIALS[trial.study].arms)),
        "--limit": (trial.limit, usual.limit),
        "--draws": (trial.draws, usual.draws),
    }
    parts += [f"{name}={own}" for name, (own, default) in options.items() if own != default]
    return " ".join(parts)


def result_of(tried: Tried, files: list[str]) -> dict[str, Any]:
    """Plain data for JSON."""
    return {
        "study": tried.trial.study,
        "model": tried.model,
        "verdicts": [asdict(one) for one in verdicts(tried)],
        "best": {
            arm: {subject: tried.best(arm, subject) for subject in tried.subjects}
            for arm in tried.arms
        },
        "stronger": [asdict(one) for one in tried.stronger],
        "left_out": list(tried.notes),
        "files": files,
    }
