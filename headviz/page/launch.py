"""Opens the page and serves it: the command `headviz page`, and app.py where there is a checkout.

gradio is imported only then, so that the command line has this command and needs no gradio.
"""

import argparse
import ctypes
import errno
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from headviz.cli.first_start import bring_default
from headviz.clip.load import built_in_clips
from headviz.models.known import DEFAULT, offered_models, small_models
from headviz.session.session import Session

HELP = "open the page"
_ARENA_MAX = -8  # M_ARENA_MAX in glibc's malloc.h
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the page is served, and what its visitors may load."""
    parser.add_argument("--host", default=None, metavar="H", help="address, 127.0.0.1 by default")
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        metavar="P",
        help="the first free one from 7860 on by default",
    )
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
    few_heaps()
    on_spaces = "SPACE_ID" in os.environ
    host = options.host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    public = options.share or on_spaces or host not in LOOPBACK
    refusal = None if on_spaces else _why_not(host, options.port)
    if refusal:
        print(f"headviz: {refusal}", file=sys.stderr)
        return 2
    if options.models is None or DEFAULT in options.models.split(","):
        bring_default()
    session = make_session(allowed_models(options.models, public))
    if not session.model_names():
        print("headviz: --models names no model.", file=sys.stderr)
        return 2
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    sys.meta_path.insert(0, _WithoutStubs())
    from headviz.page.page import build_page, launch_options
    from headviz.page.work import end_all

    page = build_page(session)
    with suppress(KeyboardInterrupt):
        page.launch(
            server_name=None if on_spaces else host,
            server_port=options.port,
            share=options.share,
            max_file_size="200mb",
            prevent_thread_lock=True,
            **launch_options(),
        )
        # The first model loads while the visitor reads the shipped results, and not before the page
        # answers: the two would share the processor.
        first = session.model_names()[0]
        threading.Thread(target=session.model, args=(first,), daemon=True).start()
        while page.is_running:
            time.sleep(0.1)
    # gradio's block_thread would wait five seconds for open tabs and what is answered there.
    end_all()
    page.close(verbose=False)
    return 0


def _why_not(host: str, port: int | None) -> str | None:
    """Why the page cannot be served there, in a sentence; None where it can.

    Without a port only the address is tried: gradio takes the first free port from 7860 on.
    """
    if port is not None and not 1 <= port <= 65535:
        return f"--port is {port}; choose 1 to 65535."
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    except OSError:
        return f"The address {host} is not known. Leave --host out, or name one of this machine's."
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return (
                f"Port {port} is in use, perhaps by another page of headviz: open "
                f"http://{host}:{port}, or choose another --port."
            )
        if error.errno == errno.EACCES:
            return f"Port {port} is kept for others by this system; choose a --port above 1023."
        return f"{host} is no address of this machine. Leave --host out, or name one of its own."
    return None


class _WithoutStubs(MetaPathFinder):
    """Lets gradio be imported without its stubs.

    For whoever writes components in an editor, gradio 6 parses the source of every component at
    each import and writes a .pyi beside it: a second of two, before the page can answer.
    """

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        """The module that writes them, with nothing in place of the function that does."""
        if name != "gradio.component_meta":
            return None
        sys.meta_path.remove(self)
        spec: ModuleSpec | None = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            vars(module)["create_or_modify_pyi"] = lambda *_: None

        vars(spec.loader)["exec_module"] = exec_module
        return spec


def few_heaps() -> None:
    """Before there are threads: let all of them share two heaps, where the C library is glibc.

    Each of the page's forty threads would else get one of its own, and what visitors have freed
    stays in them: in a crowd memory grew by 50 MiB a minute though nothing was kept.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, 2)


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
