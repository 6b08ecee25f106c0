"""The studies as they ship: what the page offers, and what `reports/` is made of.

Two hundred samples, three numbers of heads, two factors, ten random draws, all arms.
"""

from collections.abc import Mapping

from headviz.studies.request import Request

_ALL = ("pursuit", "raw", "logit-lens", "attribution", "ablation", "random")
_KS = ("1", "3", "8")

PRESETS: Mapping[str, Request] = {
    "qa-countries": Request("qa", "tiny-lm", "", "countries", None, _KS, (-1.0, 0.0), _ALL, 200),
    "qa-colors": Request("qa", "tiny-lm", "", "colors", None, _KS, (-1.0, 0.0), _ALL, 200),
    "toxicity-insults": Request(
        "toxicity", "tiny-lm", "", "insults", None, _KS, (-1.0, 0.0), _ALL, 200
    ),
    "classification-digits": Request(
        "classification", "tiny-vlm", "digits", "", None, _KS, (-1.0, 0.0), _ALL, 200
    ),
    "classification-textures": Request(
        "classification", "tiny-vlm", "textures", "", None, _KS, (-1.0, 0.0), _ALL, 200
    ),
    "captioning-colors": Request(
        "captioning", "tiny-vlm", "", "colors", None, _KS, (-1.0, 5.0), _ALL, 200
    ),
    "captioning-numbers": Request(
        "captioning", "tiny-vlm", "", "numbers", None, _KS, (-1.0, 5.0), _ALL, 200
    ),
    "captioning-colors-smol-vlm": Request(
        "captioning", "smol-vlm", "", "colors", None, _KS, (-1.0, 5.0), _ALL, 200
    ),
    "classification-textures-smol-vlm": Request(  # digits are no single tokens of SmolLM2
        "classification", "smol-vlm", "textures", "", None, _KS, (-1.0, 0.0), _ALL, 200
    ),
}
"""Name -> the request."""
