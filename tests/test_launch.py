"""Where the page is served: told at once where it cannot be, answering soon where it can."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from headviz.page.launch import main

# Serves as app.py does; once the page answers, ends with 0 where what is asked holds, else with 3.
SERVED = """
import os, sys, threading, time
from urllib.request import urlopen
from headviz.page.launch import main

def look():
    while True:
        try:
            urlopen("http://127.0.0.1:{port}/", timeout=60).read()
            break
        except OSError:
            time.sleep(0.1)
    os._exit(0 if {holds} else 3)

threading.Thread(target=look, daemon=True).start()
main(["--port", "{port}", "--models", "tiny-lm"])
"""


def test_a_port_in_use_is_said_with_what_may_stand_there(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["--port", str(port), "--models", "tiny-lm"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"Port {port} is in use" in told and f"http://127.0.0.1:{port}" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "99999"], "choose 1 to 65535"),
        (["--port", "0"], "choose 1 to 65535"),
        (["--host", "203.0.113.1"], "203.0.113.1 is no address of this machine"),
        (["--host", "no-such-host.invalid"], "no-such-host.invalid is not known"),
    ],
)
def test_a_place_that_there_is_not_is_one_sentence(arguments, says, capsys):
    assert main([*arguments, "--models", "tiny-lm"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and says in told


def test_the_page_is_opened_without_the_stubs_that_gradio_writes(free_port):
    writer = "sys.modules['gradio.component_meta'].create_or_modify_pyi"
    holds = f"{writer}.__module__ == 'headviz.page.launch'"
    done = subprocess.run(
        [sys.executable, "-c", SERVED.format(port=free_port, holds=holds)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# Ends as app.py does at Control-C, and with 3 where the server had to be left behind.
INTERRUPTED = """
import gc, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
from headviz.page.launch import main

status = main(["--port", "{port}", "--models", "tiny-lm"])
from gradio.http_server import Server
servers = [one for one in gc.get_objects() if isinstance(one, Server)]
sys.exit(status if servers and not any(one.thread.is_alive() for one in servers) else 3)
"""


@pytest.mark.parametrize("seconds", [0, 3])  # as gradio still opens it, and as it is served
def test_control_c_ends_the_server_with_a_tab_open(free_port, seconds):
    with subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTED.format(port=free_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        while b"Running on" not in process.stdout.readline():
            assert process.poll() is None
        tab = urlopen(f"http://127.0.0.1:{free_port}/gradio_api/heartbeat/one-tab", timeout=120)
        assert tab.readline().startswith(b"data:")
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert b"Traceback" not in said


def test_torch_keeps_no_buffers_for_threads_that_end():
    """Nor does whoever imports headviz in another way: torch asks once, when it is imported."""
    script = """
import ctypes, headviz, torch
from pathlib import Path
lib = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
print(lib.mkl_serv_get_fast_mm_status())
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MKL_")}
    run = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=env
    )
    if "libtorch_cpu.so" in run.stderr or "undefined symbol" in run.stderr:
        pytest.skip("this torch has no MKL that can be asked")
    assert run.stdout.strip() == "1", run.stderr
