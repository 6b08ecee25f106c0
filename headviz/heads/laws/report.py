"""A model held against the laws: what `python -m headviz check` prints and bug reports need.

A law that cannot be measured on a model here is told as such; it is not passed and not failed.
"""

import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
import transformers

from headviz.heads.laws.fixture import Fixture, NotMeasurable
from headviz.heads.laws.laws import LAWS, Law
from headviz.heads.laws.post_norm import surviving_share


@dataclass(frozen=True)
class Finding:
    """One law, measured."""

    law: str
    """Its name in laws.LAWS."""
    sentence: str
    measured: float | None
    """None where it cannot be measured."""
    limit: float
    """What may be measured at most."""
    seconds: float
    note: str = ""
    """Why it cannot be measured, or which error it ended in."""

    @property
    def verdict(self) -> str:
        """`pass`, `FAIL`, or `-` where it cannot be measured."""
        if self.measured is None:
            return "-"
        return "pass" if self.measured <= self.limit else "FAIL"  # nan fails


@dataclass(frozen=True)
class Report:
    """A model and all laws."""

    model: str
    revision: str
    kind: str
    """config.model_type, or open_clip."""
    summary: str
    share: float
    """See post_norm.surviving_share."""
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The laws that do not hold."""
        return tuple(finding for finding in self.findings if finding.verdict == "FAIL")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        findings = [{**asdict(f), "verdict": f.verdict} for f in self.findings]
        return {**asdict(self), **versions(), "findings": findings, "passed": not self.failed}

    def __str__(self) -> str:
        """The table that people attach to a bug report."""
        used = ", ".join(f"{name} {version}" for name, version in versions().items())
        lines = [f"{self.model} ({self.kind}, {self.revision}): {self.summary}", used, ""]
        lines += [f"{'law':<12} {'measured':>10} {'limit':>8}  {'':<4}  what it says"]
        lines += [_line(finding) for finding in self.findings]
        seconds = sum(finding.seconds for finding in self.findings)
        broken = ", ".join(finding.law for finding in self.failed)
        ended = f"broken: {broken}" if broken else "all laws hold"
        return "\n".join([*lines, "", f"{ended} · {seconds:.1f} s"])


def _line(finding: Finding) -> str:
    measured = "-" if finding.measured is None else f"{finding.measured:.1e}"
    note = f" ({finding.note})" if finding.note else ""
    return (
        f"{finding.law:<12} {measured:>10} {finding.limit:>8.0e}  {finding.verdict:<4}  "
        f"{finding.sentence}{note}"
    )


def versions() -> dict[str, str]:
    """What the numbers depend on beside the model."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    open_clip = sys.modules.get("open_clip")  # imported where a CLIP model was loaded
    return found if open_clip is None else {**found, "open_clip": open_clip.__version__}


def measure(fixture: Fixture, laws: Mapping[str, Law] = LAWS) -> Iterator[Finding]:
    """One law after the other."""
    for name, law in laws.items():
        start = perf_counter()
        measured, note = None, ""
        try:
            measured = law.measure(fixture)
        except NotMeasurable as reason:
            note = str(reason)
        seconds = perf_counter() - start
        yield Finding(name, law.sentence, measured, law.limit(fixture.model.dtype), seconds, note)


def check(fixture: Fixture, laws: Mapping[str, Law] = LAWS, kind: str = "") -> Report:
    """Every law, measured on a model; `kind` where its config does not name one."""
    model = fixture.model
    return Report(
        model.name,
        model.revision,
        kind or model.model.config.model_type,
        model.summary,
        surviving_share(model),
        tuple(measure(fixture, laws)),
    )
