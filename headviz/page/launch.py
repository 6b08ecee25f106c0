"""Opens the page and serves it: the command `headviz page`, and app.py where there is a checkout.

gradio is imported only then, so that the command line has this command and needs no gradio.
"""

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Sequence

from headviz.cli.first_start import bring_default
from headviz.clip.load import built_in_clips
from headviz.models.known import DEFAULT, offered_models, small_models
from headviz.session.session import Session

HELP = "open the page"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the page is served, and what its visitors may load."""
    parser.add_argument("--host", default=None, metavar="H", help="address, 127.0.0.1 by default")
    parser.add_argument("--port", type=int, default=None, metavar="P", help="7860 by default")
    parser.add_argument("--share", action="store_true", help="a public link through gradio.live")
    parser.add_argument(
        "--models",
        metavar="NAME,…",
        help="models that visitors may load; 'any' for all. Default: any on this machine's own "
        "address, the built-in ones where others can reach the page",
    )


def build_parser() -> argparse.ArgumentParser:
    """The parser of app.py, which takes the same as the command."""
    parser = argparse.ArgumentParser(prog="python app.py", description="Open the headviz page.")
    add_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """What app.py does; returns the exit status."""
    return serve(build_parser().parse_args(arguments))


def serve(options: argparse.Namespace) -> int:
    """Open the page and serve it until interrupted."""
    on_spaces = "SPACE_ID" in os.environ
    host = options.host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    public = options.share or on_spaces or host not in LOOPBACK
    if options.models is None or DEFAULT in options.models.split(","):
        bring_default()
    session = make_session(allowed_models(options.models, public))
    if not session.model_names():
        print("headviz: --models names no model.", file=sys.stderr)
        return 2
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from headviz.page.page import build_page, launch_options

    page = build_page(session)
    page.launch(
        server_name=None if on_spaces else host,
        server_port=options.port or (None if on_spaces else 7860),
        share=options.share,
        max_file_size="200mb",
        prevent_thread_lock=True,
        **launch_options(),
    )
    # The first model loads while the visitor reads the shipped results, and not before the page
    # answers: the two would share the processor.
    first = session.model_names()[0]
    threading.Thread(target=session.model, args=(first,), daemon=True).start()
    page.block_thread()
    return 0


def make_session(allowed: list[str] | None) -> Session:
    """The page's session; on a Space with ZeroGPU, one whose models compute where the GPU is."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        return Session(allowed=allowed)
    spaces = importlib.import_module("spaces")  # is there, and there alone

    from headviz.page.zero_gpu import ZeroGpuSession, seconds_for

    return ZeroGpuSession(lend=spaces.GPU(duration=seconds_for), allowed=allowed)


def allowed_models(models: str | None, public: bool) -> list[str] | None:
    """The models that may be loaded, None for any: a public page must not read local folders."""
    if models == "any" or (models is None and not public):
        return None
    if models is None:
        return [*offered_models(), *built_in_clips(), *small_models()]
    return [name.strip() for name in models.split(",") if name.strip()]
