"""A transformers text classifier, by name or folder, that says whether a text is toxic.

Safetensors only, remote code never, as everywhere. Which of its labels means toxic is read off
their names; a classifier without such a label is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import transformers

from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.models.hub import config_of, first_line
from headviz.models.places import Fetching, Folder, local_folder, on_hub

_TOXIC = ("toxic", "toxicity", "hate", "hateful", "offensive", "label_1")
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Classifier:
    """A text classifier in memory."""

    name: str
    revision: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    label: int
    """The output that means toxic."""

    @torch.inference_mode()
    def toxic(self, texts: Sequence[str]) -> list[float]:
        """1 for each text that is judged toxic, 0 for the others and for empty ones."""
        found: list[float] = []
        for start in range(0, len(texts), _BATCH):
            some = list(texts[start : start + _BATCH])
            inputs = self.tokenizer(some, padding=True, truncation=True, return_tensors="pt")
            logits = self.model(**inputs).logits
            # Several labels at once have a probability each; exclusive ones share theirs.
            several = self.model.config.problem_type == "multi_label_classification"
            shares = logits.sigmoid() if several else logits.softmax(1)
            toxic = (shares[:, self.label] > 0.5).float().tolist()
            found += [t if text.strip() else 0.0 for t, text in zip(toxic, some, strict=True)]
        return found


def load_classifier(name: str, progress: Progress = no_progress) -> Classifier:
    """The classifier of that name or folder; `progress` is told how far its download is.

    Raises ModelError, in one sentence, where it does not exist or has no label for toxic.
    """
    here = local_folder(name)
    place = on_hub(name, partial(_nowhere, name)) if here is None else Folder(here)
    # Its config is fetched first, so that the cache knows which commit the name stood for last.
    folder, revision = place.bring(Fetching(progress, config_of))
    try:
        shared: dict[str, Any] = {"trust_remote_code": False}
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, **shared
        ).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **shared)
    except Exception as error:  # transformers raises a dozen types for a bad name or file
        raise _failed(name, first_line(str(error), type(error).__name__)) from error
    labels = {str(text).lower(): int(i) for i, text in model.config.id2label.items()}
    label = next((labels[text] for text in _TOXIC if text in labels), None)
    if label is None:
        raise ModelError(
            f"The classifier {name!r} has no label that means toxic; it has {', '.join(labels)}."
        )
    return Classifier(name, revision, model, tokenizer, label)


def _nowhere(name: str, why: str) -> ModelError:
    return _failed(name, f"there is no such folder, and {why}.")


def _failed(name: str, why: str) -> ModelError:
    return ModelError(f"The classifier {name!r} could not be loaded: {why}")
