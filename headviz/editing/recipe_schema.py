"""The JSON schema of recipes, and one sentence for whatever breaks it.

The schema is recipe.schema.json, beside this module. Knows nothing of what a recipe is for.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from headviz.base.errors import RecipeError

FORMAT = "headviz-recipe-1"
SCHEMA = Path(__file__).with_name("recipe.schema.json")
_FAMILY = "headviz-recipe-"


@cache
def schema() -> Mapping[str, Any]:
    """The JSON schema of a recipe."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def check_schema(data: Any) -> None:
    """Raise RecipeError for the first thing in which the data break the schema."""
    found = data.get("format") if isinstance(data, dict) else None
    if not isinstance(found, str) or not found.startswith(_FAMILY):
        raise RecipeError("This is no recipe of headviz: a recipe names its format first.")
    if found != FORMAT:
        raise RecipeError(
            f"The recipe has the format {found[:40]!r} and this headviz reads {FORMAT!r}. "
            "Update headviz."
        )
    from jsonschema import Draft202012Validator  # only who reads a recipe needs it
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema()).iter_errors(data))
    if error is not None:
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
        at = f" at {place.lstrip('.')}" if place else ""
        raise RecipeError(f"The recipe is wrong{at}: {error.message[:200]}.")


def no_constant(name: str) -> float:
    """For json.loads: NaN and Infinity are no JSON. Raises ValueError."""
    raise ValueError(name)
