"""What ships of smol-vlm: its parts, without the language model. Its pictures are tiny-vlm's."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from headviz.models.joined import FRONT, TRAINED_WITH
from headviz.models.known import known_models
from toyworld.running import Run
from toyworld.smol.processor import IMAGE_TOKEN, build_processor, read_tokenizer
from toyworld.smol.schedule import SmolSchedule

_PROCESSOR = ("processor_config.json", "chat_template.jinja")


def save_parts(run: Run, language_model: Path, folder: Path) -> None:
    """Write parts/: tower and connector in float16, the whole model's small files; training.json.

    `language_model`: the folder that it was trained with.
    """
    schedule: SmolSchedule = run.schedule
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    # SmolLM2's converted weights are in float16, and a model has one format.
    weights = {name: w.half().contiguous() for name, w in run.model.state_dict().items()}
    save_file(weights, parts / FRONT, metadata={"format": "pt"})
    _write_small_files(schedule, language_model, parts)
    package = known_models()[schedule.language_model].package
    assert package is not None
    trained_with = {"name": schedule.language_model, "sha256": package.sha256}
    _write_json(parts / TRAINED_WITH, trained_with)
    aligning = min(run.step, schedule.aligning_steps)
    history = {
        "seed": schedule.seed,
        "aligning_steps": aligning,
        "steps": run.step,
        "averaged": [step for step in schedule.averaged if step <= run.step],
    }
    _write_json(folder / "training.json", history)


def _write_small_files(schedule: SmolSchedule, language_model: Path, parts: Path) -> None:
    from transformers import AutoConfig

    tokenizer = read_tokenizer(language_model)
    text: Any = AutoConfig.from_pretrained(language_model, local_files_only=True)
    config = schedule.config(text, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    config.architectures = ["LlavaForConditionalGeneration"]
    config.dtype = "float16"
    config.text_config.__dict__.pop("_name_or_path", None)
    config.save_pretrained(parts)
    ends = {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 2}
    _write_json(parts / "generation_config.json", ends)
    with tempfile.TemporaryDirectory() as made:
        build_processor(tokenizer).save_pretrained(made)
        for name in _PROCESSOR:
            shutil.copyfile(Path(made) / name, parts / name)


def _write_json(file: Path, data: Any) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
