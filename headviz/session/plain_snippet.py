"""An edit in plain transformers: a program with a ten-line hook and no headviz at all.

It prints what the edited column of the page says: the same prompt, template, factors and end of
text, and with a temperature the same noise.
"""

from collections.abc import Sequence
from pprint import pformat
from typing import Any

from headviz.base.assets import CHECKOUT, built_in_models
from headviz.editing.generate import Sampling
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import Edit
from headviz.heads.forward import end_ids
from headviz.heads.prompts import rendered
from headviz.models.converted import converted_folder
from headviz.models.joined import KIND, parts_of
from headviz.models.loaded import LoadedModel

_LOAD = """\
import torch
from transformers import {maker}, {reader}
{pillow}
name = {source!r}{told}
{variable} = {reader}.from_pretrained(name)
model = {maker}.from_pretrained(name, dtype={dtype}).eval()

"""
_INPUTS = """\
inputs = tokenizer({text}, return_tensors="pt"{special}){device}
"""
_INPUTS_SEEN = """\
pictures = [Image.open(file).convert("RGB") for file in {pictures}]
inputs = processor(
    text=[{text}],
    images=[pictures],
    return_tensors="pt",{special}
){device}
"""
_HOOK = """\
factors = {factors}  # projection -> head -> factor
width = {width}  # of a head


def hook(module, args):
{place}    heads = args[0].clone()
    for head, factor in factors_of[module].items():
        heads[{at}, head * width : (head + 1) * width] *= factor
    return (heads, *args[1:])


factors_of = {{model.get_submodule(name): rows for name, rows in factors.items()}}
for module in factors_of:
    module.register_forward_pre_hook(hook)

"""
_NOISE = """\
noise = torch.Generator().manual_seed({seed})


def shared_noise(ids, logits):
    uniform = torch.rand(logits.shape[1], generator=noise, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
    return logits.cpu().double() / {temperature!r} + gumbel


"""
_GENERATE = """\
answer = model.generate(
    **inputs,
    max_new_tokens={n_tokens},
    do_sample=False,
    eos_token_id={ends},
    pad_token_id={pad},{more}
)
new = answer[0, inputs["input_ids"].shape[1] :]
print({variable}.decode(new, skip_special_tokens=True))
"""
_PLACES = {
    "everywhere": "",
    "prompt": "    if args[0].shape[1] == 1:  # a word of the answer\n        return None\n",
    "generated": "    if args[0].shape[1] > 1:  # the prompt\n        return None\n",
}


def plain_snippet(
    model: LoadedModel,
    prompt: str,
    edit: Edit,
    sampling: Sampling,
    pictures: Sequence[str] = (),
    chat: Chat = PLAIN,
) -> str:
    """A program that prints the edited answer, for a model that was loaded by headviz."""
    text, special = rendered(model, prompt, len(pictures), chat)
    device = "" if model.device.type == "cpu" else f'.to("{model.device}")'
    maker = "AutoModelForImageTextToText" if model.has_vision else "AutoModelForCausalLM"
    source, told = _source(model.name)
    variable = "processor" if model.has_vision else "tokenizer"
    load = _LOAD.format(
        maker=maker,
        reader="AutoProcessor" if model.has_vision else "AutoTokenizer",
        pillow="from PIL import Image\n" if model.has_vision else "",
        source=source,
        told=told,
        variable=variable,
        dtype=model.dtype,
    )
    flag = "" if special else ", add_special_tokens=False"
    if model.has_vision:
        flag = "" if special else "\n    add_special_tokens=False,"
        given = {"text": _literal(text), "special": flag, "device": device}
        inputs = _INPUTS_SEEN.format(pictures=_literal(list(pictures)), **given)
    else:
        inputs = _INPUTS.format(text=_literal(text), special=flag, device=device)
    if device:
        load = load.replace(".eval()", f"{device}.eval()")
    parts = [load, inputs, _hook(model, edit)]
    if sampling.temperature:
        parts.append(_NOISE.format(seed=sampling.seed, temperature=sampling.temperature))
    return "".join([*parts, _generate(model, sampling, variable)])


def _source(name: str) -> tuple[str, str]:
    """Where plain transformers finds the model, and a comment on it."""
    if name in built_in_models():
        return f"assets/{name}", "  # in headviz's folder"
    if (parts := parts_of(name)) is not None:
        folder = converted_folder(parts.content, KIND)
        if CHECKOUT is not None and folder.is_relative_to(CHECKOUT):
            return folder.relative_to(CHECKOUT).as_posix(), "  # in headviz's folder"
        return str(folder), "  # joined by headviz"
    return name, ""


def _hook(model: LoadedModel, edit: Edit) -> str:
    names = {id(module): name for name, module in model.model.named_modules()}
    factors: dict[str, dict[int, float]] = {}
    for head, factor in sorted(edit.factors.items()):
        projection = names[id(model.projections[head.layer])]
        factors.setdefault(projection, {})[head.index] = factor
    if edit.where in ("image", "prompt") and model.vision is not None:
        sign = "==" if edit.where == "image" else "!="
        place = _PLACES["prompt"]
        place += (
            f'    at = inputs["input_ids"][0] {sign} {model.vision.image_token_id}  # the picture\n'
        )
        at = ":, at"
    else:
        place, at = _PLACES[edit.where], "..."
    return _HOOK.format(factors=_literal(factors), width=model.d_head, place=place, at=at)


def _generate(model: LoadedModel, sampling: Sampling, variable: str) -> str:
    more = ""
    if sampling.temperature:
        more += "\n    logits_processor=[shared_noise],"
    if getattr(model.model.generation_config, "repetition_penalty", None) not in (None, 1.0):
        more += "\n    repetition_penalty=1.0,"
    if model.vision is not None:
        more += f"\n    suppress_tokens={list(model.vision.placeholders)},  # pictures' places"
    return _GENERATE.format(
        n_tokens=sampling.max_new_tokens,
        ends=sorted(end_ids(model)),
        pad=model.tokenizer.pad_token_id,
        more=more,
        variable=variable,
    )


def _literal(value: Any) -> str:
    return pformat(value, width=80, compact=True)
