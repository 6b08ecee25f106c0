"""The command `python -m headviz name-concept`: words for pictures."""

import argparse
from typing import Any

from headviz.clip.load import load_clip
from headviz.clip.name_concept import MOST_WORDS, name_concept, vocabulary_words
from headviz.inputs.concepts import known_concepts
from headviz.inputs.images import open_picture
from headviz.session.session import Session

HELP = "words for what pictures have in common"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="pictures of the concept")
    parser.add_argument(
        "--unlike", action="append", default=[], metavar="IMAGE", help="a picture without it"
    )
    parser.add_argument(
        "--clip",
        default="tiny-clip",
        metavar="NAME",
        help="built-in name, folder or hub name",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="MODEL",
        help=f"also the first {MOST_WORDS} words of this model's vocabulary",
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="words to show")


def run(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Plain data and text."""
    images = [open_picture(path).image() for path in parsed.images]
    unlike = [open_picture(path).image() for path in parsed.unlike]
    clip = load_clip(parsed.clip, parsed.device, session.loading)
    words = None
    if parsed.vocabulary:
        own = vocabulary_words(session.model(parsed.vocabulary))
        words = [*own, *(w for c in known_concepts().values() for w in c.words)]
    named = name_concept(clip, images, unlike, words, store=session.store, progress=session.loading)
    result = named.as_dict(max(parsed.top, 0))
    lines = [
        f"{named.n_images} pictures by {named.model}: {len(named.words)} words, "
        f"score = cosine here minus cosine with {named.compared_with}",
        f"{'#':>3}  {'word':<16} {'score':>7} {'here':>7} {'there':>7}  presets",
    ]
    lines += [
        f"{n:>3}  {w['word']:<16} {w['score']:>7.3f} {w['similarity']:>7.3f} "
        f"{w['elsewhere']:>7.3f}  {', '.join(w['presets'])}".rstrip()
        for n, w in enumerate(result["words"], 1)
    ]
    return result, "\n".join(lines)
