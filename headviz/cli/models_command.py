"""The commands `models` and `get`: which models are here, which can be had, and having one."""

import argparse
from typing import Any

from headviz.base.assets import TRAINED_HERE, built_in_models
from headviz.clip.load import built_in_clips
from headviz.inputs.prompt_sets import built_in_prompt_sets
from headviz.models.known import Offer, offers
from headviz.models.memory import size_text
from headviz.session.open_model import fetch_model
from headviz.session.session import Session

HELP = "the models that are here, and those that can be had"
GET_HELP = "fetch a model, to open it later without a network"


def models(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """What is here, what can be had, and what fits this machine."""
    built_in, clips, known = built_in_models(), built_in_clips(), offers()
    names = {offer.model.name for offer in known}
    rows = [_row(offer, built_in) for offer in known]
    rows += [_built_in_row(name, "") for name in built_in if name not in names]
    rows += [_built_in_row(name, "CLIP model") for name in clips if name not in names]
    here = [_here_line(row) for row in rows if row["here"]]
    lines = ["Here:", *here, "To be had with `python -m headviz get NAME`:"]
    lines += [_line(offer) for offer in known if not offer.is_here and offer.model.can_be_had]
    there = {*built_in, *clips, *(m.model.name for m in known if m.model.can_be_had)}
    if missing := [name for name in TRAINED_HERE if name not in there]:
        lines.append(f"Not trained yet: {', '.join(missing)} (python -m toyworld train NAME).")
    lines.append(
        "Any folder, .gguf file or hub name of a language model or vision-language model works "
        "too.\n* its owner asks to accept a licence on the hub first"
    )
    return rows, "\n".join(lines)


def get(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Fetch a model, and say what is here then."""
    revision = fetch_model(parsed.name, parsed.device, parsed.dtype, session.loading)
    session.loading(1.0, "")
    return {"name": parsed.name, "revision": revision}, f"{parsed.name} is here ({revision})"


def _built_in_row(name: str, kind: str) -> dict[str, Any]:
    sets = list(built_in_prompt_sets(name))
    return {"name": name, "here": True, "prompt_set": sets} | ({"kind": kind} if kind else {})


def _row(offer: Offer, built_in: Any) -> dict[str, Any]:
    model = offer.model
    sets = list(built_in_prompt_sets(model.name)) if model.name in built_in else []
    return {
        "name": model.name,
        "title": model.title,
        "kind": model.kind,
        "licence": model.licence,
        "gated": model.gated,
        "heads": model.total_heads,
        "parameters": model.parameters,
        "bytes": model.n_bytes,
        "memory": offer.memory,
        "fits": offer.fits,
        "here": offer.is_here,
        "prompt_set": sets,
    }


def _here_line(row: dict[str, Any]) -> str:
    facts = [f"{row['heads']} heads"] if "heads" in row else []
    facts += [row["kind"]] if "kind" in row else []
    facts += [f"prompt sets: {', '.join(row['prompt_set'])}"] if row["prompt_set"] else []
    return f"  {row['name']:<16} {'; '.join(facts)}".rstrip()


def _line(offer: Offer) -> str:
    model = offer.model
    fits = "fits" if offer.fits else "too large for this machine"
    name = model.name + ("*" if model.gated else "")
    return (
        f"  {name:<38} {model.total_heads:>5} heads  {model.kind:<8}  "
        f"{size_text(model.to_fetch):>7} to download, {size_text(offer.memory):>7} of memory: "
        f"{fits}"
    )
