"""A model's name or folder -> LoadedModel: the model, its tokenizer or processor, its layout.

Safetensors only, remote code never. Says why it chose the device and the number format. Knows
nothing of concepts, probes or edits.
"""

import hashlib
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from headviz.devices import choose_device
from headviz.discovery import discover
from headviz.errors import ModelError
from headviz.families import Family, family_of
from headviz.loaded import LoadedModel, describe
from headviz.survival import with_notes

ASSETS = Path(__file__).resolve().parent.parent / "assets"
TRAINED_HERE = ("tiny-lm", "tiny-vlm", "tiny-clip")
"""Models that this repository trains; without their weights they are not built in."""
_HASH_WHOLE_BELOW = 256 * 2**20  # bytes; larger weight files are hashed by their ends and size


def built_in_models() -> dict[str, Path]:
    """Name -> folder of the models that ship in assets/."""
    return {f.parent.name: f.parent for f in sorted(ASSETS.glob("*/config.json"))}


def check_trained(name: str) -> None:
    """Raise ModelError, saying how to make them, where `name` is trained here and has no weights.

    For a name that was found neither among the built-in models nor as a folder.
    """
    if name in TRAINED_HERE:
        raise ModelError(
            f"The weights of {name} are not here yet. Make them with "
            f"`python -m headviz.toyworld train {name}`, or name another model."
        )


def load_model(name: str, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """The model called `name`: a built-in one, a local folder, or one of the hub.

    Raises ModelError, in one sentence, where it does not exist, has no safetensors weights or is
    of a family that is not supported; OptionError for an unknown device or dtype.
    """
    name = name.strip()
    source, revision, offline = _locate(name)
    chosen, number_format, why = choose_device(device, dtype)
    try:
        shared: dict[str, Any] = {"trust_remote_code": False, "local_files_only": offline}
        config = AutoConfig.from_pretrained(source, **shared)
        family = family_of(config)
        sees = family is not None and family.sight is not None
        maker: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        loaded = maker.from_pretrained(
            source, dtype=number_format, use_safetensors=True, output_loading_info=True, **shared
        )
        model, report = loaded
        if missing := sorted(report["missing_keys"]):
            # transformers would make them up at random, and every score with them.
            raise ModelError(f"The weights of {name!r} lack {', '.join(missing[:3])}.")
        model = model.to(chosen)
        reader: Any = (AutoProcessor if sees else AutoTokenizer).from_pretrained(source, **shared)

        def described(family: Family) -> LoadedModel:
            return describe(name, revision, model, reader, family, chosen, number_format, why)

        return with_notes(described(family) if family is not None else discover(model, described))
    except ModelError:
        raise
    except Exception as error:
        # transformers, the hub client and safetensors raise a dozen types for a bad name or file.
        raise ModelError(_load_failure(name, offline, error)) from error


def _locate(name: str) -> tuple[str, str, bool]:
    """What to hand to transformers, the revision ('' if read after loading), and if offline."""
    if not name:
        raise ModelError(f"No model named. Built in: {', '.join(built_in_models())}.")
    folder = built_in_models().get(name) or _folder(name)
    if folder is None:
        check_trained(name)
        return name, "", _is_offline(name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {name!r} has no config.json: it is no model folder.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"The folder {name!r} has no .safetensors weights, the only format headviz loads. "
            "Write them with model.save_pretrained(folder)."
        )
    return str(folder), model_revision(folder), True


def _folder(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path; ~ of nobody
        return None


def model_revision(folder: Path) -> str:
    """Twelve hex digits over a folder's config, tokenizer and weights.

    Of a very large file only both ends, the size and the time of its last change are read.
    """
    digest = hashlib.sha256()
    names = (
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "processor_config.json",
        "preprocessor_config.json",
        "chat_template.jinja",
    )
    files = [folder / n for n in names if (folder / n).is_file()]
    for path in files + sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            if size <= _HASH_WHOLE_BELOW:
                digest.update(file.read())
                continue
            digest.update(file.read(2**22))
            file.seek(-(2**22), 2)
            digest.update(file.read() + str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:12]


def _is_offline(name: str) -> bool:
    """Whether only a copy downloaded before can be had. Raises ModelError for a wrong name.

    One quick question to the hub: transformers itself would try for half a minute.
    """
    try:
        HfApi().model_info(name, timeout=10)
    except GatedRepoError:
        raise ModelError(
            f"The model {name!r} is gated: accept its licence on its page at the hub and set the "
            "environment variable HF_TOKEN, then load it again."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(_unknown(name, "the hub does not have it")) from None
    except Exception:  # the HTTP client's errors differ from release to release
        return True
    return False


def _unknown(name: str, why: str) -> str:
    return (
        f"Unknown model {name!r}: not built in ({', '.join(built_in_models())}), no local folder, "
        f"and {why}."
    )


def _load_failure(name: str, offline: bool, error: Exception) -> str:
    text = str(error).strip()
    if offline and name not in built_in_models() and _folder(name) is None:
        return _unknown(name, "the hub cannot be reached")
    first = text.splitlines()[0][:200] if text else type(error).__name__
    return f"The model {name!r} could not be loaded: {first}"
