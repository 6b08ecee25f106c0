"""docs/families.md and README's list of families: written from what the tests of the laws found.

`python -m pytest tests/test_families.py --write-families` writes both; without the option the same
tests compare them with what they find. Knows no laws: it is given what was measured.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatomy import is_abreast
from tiny_clips import KINDS, REFUSED
from torch import nn

from headviz.clip.tower import Tower
from headviz.heads.laws.report import Finding
from headviz.models.families import FAMILIES, TEXT_MODELS, UNSUITED, VISION_FAMILIES
from headviz.models.loaded import LoadedModel

NAMES = {
    "llama": "Llama 2 and 3",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "qwen2": "Qwen2 and Qwen2.5",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3-MoE",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 (text)",
    "phi3": "Phi-3",
    "phi": "Phi (1 and 2)",
    "gpt2": "GPT-2",
    "gpt_neo": "GPT-Neo",
    "gptj": "GPT-J",
    "gpt_neox": "GPT-NeoX and Pythia",
    "opt": "OPT",
    "bloom": "BLOOM",
    "falcon": "Falcon",
    "mpt": "MPT",
    "olmo2": "OLMo 2",
    "smollm3": "SmolLM3",
    "granite": "Granite",
    "cohere": "Cohere",
    "stablelm": "StableLM",
    "gpt_oss": "GPT-OSS",
    "deepseek_v2": "DeepSeek V2",
    "deepseek_v3": "DeepSeek V3",
    "glm4": "GLM 4",
    "qwen3_next": "Qwen3-Next",
    "lfm2": "LFM2",
    "jamba": "Jamba",
    "llava": "LLaVA",
    "llava_next": "LLaVA-NeXT",
    "llava_onevision": "LLaVA-OneVision",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "gemma3": "Gemma 3",
    "paligemma": "PaliGemma",
    "idefics3": "Idefics 3",
    "smolvlm": "SmolVLM",
    "internvl": "InternVL",
    "mistral3": "Mistral 3",
    "mllama": "Llama 3.2 Vision",
    "blip-2": "BLIP-2",
    "instructblip": "InstructBLIP",
    "kosmos-2": "Kosmos-2",
    "vision-encoder-decoder": "Vision encoder-decoder",
    "pix2struct": "Pix2Struct",
    "florence2": "Florence-2",
    "class-token": "class token",
    "mean-of-patches": "mean over patches",
    "norm-after-mean": "mean over patches, then the norm",
    "custom-block": "open_clip's own attention",
    "attentional-pool": "CLIP towers pooled by attention",
    "layer-scale": "CLIP towers with a scale on what attention writes",
    "normed-attention": "CLIP towers with a norm on what attention writes",
    "resnet": "CLIP's ResNets",
}
"""config.model_type -> the name that people know; others are called by their type."""
TITLE = """# Families

Written by `python -m pytest tests/test_families.py --write-families` from what its tests measured;
without the option they compare this file with what they find. Each family is tried on a tiny model
of the real class with random weights, loaded the usual way, in float32 on a CPU. *Worst* is the
largest deviation that any law had, as a share of the largest number, at most 1e-04; laws that allow
none had none. What the laws say: `python -m headviz check MODEL`, which measures them on any model.
"""
SECTIONS = {
    "text": "Language models",
    "pictures": "Vision-language models",
    "clip": "Image towers of CLIP models (open_clip)",
    "discovered": "Classes without a row: discovered, or refused",
}
OPENING, CLOSING = "<!-- families -->", "<!-- end of families -->"
"""What README's list of families stands between."""


@dataclass(frozen=True)
class Row:
    """A family, as the tests found it."""

    section: str
    """One of SECTIONS."""
    kind: str
    """config.model_type."""
    made_of: str
    """transformers' class; empty where none was made."""
    special: str
    worst: tuple[float, str] | None
    """The largest deviation of all laws, and whose; None for a refused class."""
    state: str
    """`proven`, or `refused: ` and the reason."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As they stand in the table, without the number."""
        name = NAMES.get(self.kind, self.kind)
        return name, f"`{self.kind}`", self.made_of, self.special, self.state

    def __str__(self) -> str:
        *first, state = self.cells
        number = f"{self.worst[0]:.0e} ({self.worst[1]})" if self.worst else ""
        return f"| {' | '.join([*first, number, state])} |"


@dataclass
class Found:
    """What one run of the tests found."""

    rows: dict[str, Row] = field(default_factory=dict)

    def prove(self, section: str, model: LoadedModel, findings: Sequence[Finding]) -> None:
        """Note that every law holds on one more model of a family."""
        kind = model.model.config.model_type
        worst = worst_of(findings)
        before = self.rows.get(kind)
        special = special_of(model)
        if before:
            worst = max(before.worst, worst)
            both = filter(None, f"{before.special}, {special}".split(", "))
            special = ", ".join(dict.fromkeys(both))
        self.rows[kind] = Row(section, kind, type(model.model).__name__, special, worst, "proven")

    def prove_tower(self, kind: str, tower: Tower, findings: Sequence[Finding]) -> None:
        """Note that every law holds on an image tower."""
        made_of = type(tower.clip.model.visual).__name__
        self.rows[kind] = Row("clip", kind, made_of, "", worst_of(findings), "proven")

    def refuse(self, section: str, kind: str, made_of: str, reason: str) -> None:
        """Note that a class is refused, and why."""
        self.rows[kind] = Row(section, kind, made_of, "", None, f"refused: {reason}")


def worst_of(findings: Sequence[Finding]) -> tuple[float, str]:
    """The largest deviation, and whose."""
    return max((finding.measured, finding.law) for finding in findings)


def special_of(model: LoadedModel) -> str:
    """What needs care in a family, read off its tiny model."""
    family, config = model.family, model.model.config.get_text_config()
    projection = next(iter(model.projections.values()))
    text = TEXT_MODELS.get(config.model_type, config.model_type)
    told = {
        f"{NAMES[text].split(' (')[0]} inside" if model.has_vision else "": model.has_vision,
        "heads in some layers only": len(model.head_layers) < model.n_layers,
        "a norm follows the attention": family.norm_after,
        "the attention output is multiplied": family.multiplier,
        "attention and MLP side by side": is_abreast(model.model),
        "latent attention": hasattr(config, "kv_lora_rank"),
        "sliding windows": getattr(config, "sliding_window", None),
        "heads not d_model / n_heads wide": model.n_heads * model.d_head != model.d_model,
        "weights the other way round": not isinstance(projection, nn.Linear),
        "a bias on the projection": getattr(projection, "bias", None) is not None,
        "tied embeddings": getattr(config, "tie_word_embeddings", False),
    }
    return ", ".join(name for name, there in told.items() if there)


def table(rows: Iterable[Row]) -> str:
    """docs/families.md."""
    rows = list(rows)
    parts = [TITLE]
    for section, title in SECTIONS.items():
        parts.append(f"\n## {title}\n\n| family | type | class | special | worst | state |\n")
        parts.append("|---|---|---|---|---|---|\n")
        parts += [f"{row}\n" for row in rows if row.section == section]
    return "".join(parts)


def read_table(text: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """config.model_type -> the cells but for the number, and the number, of docs/families.md."""
    found = {}
    for line in re.findall(r"^\| (.+) \|$", text, re.MULTILINE):
        *first, number, state = line.split(" | ")
        if first[0] != "family":
            found[first[1].strip("`")] = (*first, state), number
    return found


def names(rows: Iterable[Row]) -> str:
    """README's list of families."""
    rows = list(rows)
    text, pictures = (
        [NAMES[r.kind] for r in rows if r.section == s and r.state == "proven"]
        for s in ("text", "pictures")
    )
    towers = "; ".join(NAMES[r.kind] for r in rows if r.section == "clip" and r.state == "proven")
    refused = [
        NAMES[r.kind] for r in rows if r.section in ("pictures", "clip") and r.state != "proven"
    ]
    return (
        f"{OPENING}\n\n"
        f"- **Language models:** {', '.join(text)}.\n"
        f"- **Vision-language models:** {', '.join(pictures)}.\n"
        f"- **CLIP models:** image towers of open_clip that are vision transformers ({towers}).\n"
        f"- **Refused**, with the reason: {', '.join(refused)}.\n"
        f"\n{CLOSING}"
    )


def listed(readme: str) -> str:
    """What stands in README between the marks, with them."""
    start = readme.index(OPENING)
    return readme[start : readme.index(CLOSING) + len(CLOSING)]


def write(repo: Path, rows: Iterable[Row]) -> None:
    """docs/families.md and README's list anew."""
    rows = sorted(rows, key=lambda row: _ORDER.index(row.kind) if row.kind in _ORDER else 999)
    (repo / "docs" / "families.md").write_text(table(rows), encoding="utf-8")
    readme = (repo / "README.md").read_text(encoding="utf-8")
    (repo / "README.md").write_text(readme.replace(listed(readme), names(rows)), encoding="utf-8")


_ORDER = [*FAMILIES, *VISION_FAMILIES, *UNSUITED, *KINDS, *REFUSED]
