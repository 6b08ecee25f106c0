"""An edit on the command line: what `--edit` means, and the command `bake`.

An edit is written as factors by head, or is the name of a recipe's file.
"""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from headviz.base.assets import DEFAULT_MODEL
from headviz.base.errors import OptionError
from headviz.editing.bake import write_checkpoint
from headviz.editing.recipe import Recipe, check_fit
from headviz.heads.edits import Edit
from headviz.session.session import Session

HELP = "write a checkpoint that has an edit in its weights"
EDIT_HELP = 'factors by head, e.g. "L3.H7=-1,L2.H1=0", or a recipe\'s file'
MODEL_HELP = f"built-in name, folder or hub name; the recipe's, or {DEFAULT_MODEL}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bake` takes."""
    parser.add_argument("--model", help=MODEL_HELP)
    parser.add_argument("--edit", required=True, help=EDIT_HELP)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new or empty folder")


def run(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Bake an edit into a checkpoint."""
    recipe = given_recipe(session, parsed.model, parsed.edit)
    with session.lock:
        done = write_checkpoint(session.model(recipe.model), recipe, Path(parsed.out))
    result = {
        "model": recipe.model,
        "revision": recipe.revision,
        "edit": str(recipe.edit),
        "folder": str(done.folder),
        "dtype": done.dtype,
        "bytes": done.n_bytes,
    }
    return result, f"wrote {done.folder} ({done.n_bytes / 2**20:.1f} MB, {done.dtype})"


def given_recipe(
    session: Session, model: str | None, edit: str, where: str | None = None
) -> Recipe:
    """The edit that a person gave, for the model that is to be edited.

    A recipe that was made for another model or revision leaves a notice in the session. Raises
    RecipeError for a file that is none, OptionError for an edit that does not fit the model.
    """
    if not _is_file(edit):
        name = model or session.default_model
        written = Edit.parse(edit, where or "everywhere")
        return Recipe(name, session.model(name).revision, written)
    recipe = Recipe.load(edit)
    if where not in (None, recipe.edit.where):
        raise OptionError(
            f"The recipe says that its edit holds {recipe.edit.where}; leave --where out."
        )
    loaded = session.model(model or recipe.model)
    if warning := check_fit(recipe, loaded):
        session.notices.append(warning)
    return recipe.on(loaded)


def _is_file(edit: str) -> bool:
    if "=" in edit or not edit:
        return False
    with suppress(OSError, ValueError):  # too long for a path, or with a null in it
        return edit.endswith(".json") or Path(edit).is_file()
    return False
