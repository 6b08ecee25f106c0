"""What the fuzzing tests share: seeds of every kind of file, ways to damage them, a watch.

Hypothesis draws from a fixed seed (conftest.py derandomizes it), so that a run is the same
everywhere; HEADVIZ_FUZZ=20 makes twenty times as many inputs.
"""

import contextlib
import io
import json
import os
import re
import signal
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from tiny_vision import noise

from headviz.base.errors import HeadvizError

SECONDS, WAITED, MEMORY = 10.0, 90.0, 2 * 2**30
"""Of the processor; by the clock, as a machine that does other things has it; bytes."""
_MORE = int(os.environ.get("HEADVIZ_FUZZ", "1"))
CORPUS = Path(__file__).parent / "corpus"
"""One file for each input that once failed: `reader--what-it-was.ending`."""


def inputs(n: int) -> hypothesis.settings:
    """Settings for so many inputs. Every one is tried: none is shrunk before it is told."""
    return hypothesis.settings(
        max_examples=n * _MORE,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


# A watch.


def check_sentence(text: str) -> None:
    """One line that a person can read: no traceback, no control character, no object's address."""
    assert text.strip(), "it says nothing"
    assert len(text) <= 1500, f"it says {len(text)} characters"
    assert text.isprintable(), f"it holds what is no print: {text!r}"
    assert "Traceback" not in text and not re.search(r"at 0x[0-9a-f]{6}", text), text


def read(reader: Callable[..., object], *args: object, **more: object) -> object:
    """What the reader gives, or None where it refuses in one sentence."""
    with watched():
        try:
            return reader(*args, **more)
        except HeadvizError as error:
            check_sentence(str(error))
    return None


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Fails what hangs, and what takes more memory than is promised."""

    def hangs(*_: object) -> None:
        raise AssertionError(f"it hangs: {WAITED:.0f} s are over")

    before, began = signal.signal(signal.SIGALRM, hangs), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, WAITED)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    at_first = _peak()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - began < SECONDS
    assert _peak() - at_first < MEMORY, f"it takes {(_peak() - at_first) / 2**20:.0f} MiB"


def _peak() -> int:
    """Bytes of memory at the most since it was last asked to forget; 0 where nothing tells."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024
    return 0


# Seeds.


def picture(kind: str = "PNG", mode: str = "RGB", side: int = 16) -> bytes:
    buffer = io.BytesIO()
    image = noise(side, side + 4).convert(mode)  # the same in every run
    image.save(buffer, kind)
    return buffer.getvalue()


def pictures() -> list[bytes]:
    kinds = [("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "L"), ("JPEG", "CMYK")]
    kinds += [("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "I;16"), ("TIFF", "1")]
    return [picture(*kind) for kind in kinds]


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zips() -> list[bytes]:
    one = picture(side=9)
    return [
        zipped({"cats/a.png": one, "dogs/b.png": one}),
        zipped({"./a.png": one, "labels.csv": b"file,label\na.png,cat\n"}),
        zipped({"a.png": one, "captions.json": b'[{"image": "a.png", "caption": "x"}]'}),
        zipped({"a.png": one, "t.tsv": b"a.png\tred\n"}, zipfile.ZIP_STORED),
    ]


TABLES = {
    "csv": [b"text,label\none two,a\n", b'\xef\xbb\xbftext;label\r\n"a;b";c\r\n', b"sep=;\na;b\n"],
    "tsv": ["question\tanswer\nwho\t['x', 'y']\ncafé\t3\n".encode(), b'text\n"\n'],
    "json": [
        b'[{"text": "a"}, {"text": "b"}]',
        b'{"Data": [{"Question": "q", "Answer": {"Value": "v", "Aliases": ["w"]}}]}',
        b'{"samples": [{"subject": "s", "object": "o"}], "prompt_templates": ["the {} of"]}',
        b'{"images": [{"id": 1, "file_name": "a.png"}], '
        b'"annotations": [{"image_id": 1, "caption": "c"}]}',
    ],
    "jsonl": [b'{"prompt": {"text": "a"}}\n{"prompt": "b"}\n', b'{"question": "q", "answer": 1}\n'],
    "txt": [b"one\ntwo\n", "eins\nzwei \u2028 ü\n".encode(), "é".encode("cp1252") * 3, b"a|b\n"],
}


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    rows = [{"text": "a", "question": "q", "answer": ["x"]}, {"text": "b"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def safetensors(header: object = None, data: bytes = bytes(16)) -> bytes:
    header = header or {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# Damage.

_NUMBERS = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_PIECES = [
    b"\0",
    b"\n",
    b"\r",
    b'"',
    b"[" * 50,
    b"{" * 50,
    b"\\",
    b",",
    b";",
    b"\x1b[31m",
    b"1e999",
]
_PIECES += [b"NaN", b"null", b"-1", b"../", b"/etc/passwd", "\u2028\u202e".encode(), b"\xff\xfe"]
_PIECES += [b"9" * 40, b"\xed\xa0\x80", b"PK\x03\x04", b"<script>", b"=1+1", b"%s%n", b"\x1f\x8b"]


@st.composite
def damaged(draw, seeds: list[bytes]) -> bytes:
    """One of the seeds, with one to eight changes: flips, cuts, repetitions, numbers, pieces."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(content)))
        how = draw(st.integers(0, 6))
        if how == 0 and content:
            content[at % len(content)] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del content[at : at + draw(st.integers(1, 64))]
        elif how == 2:
            del content[at:]
        elif how == 3:
            part = content[at : at + draw(st.integers(1, 64))]
            content[at:at] = part * draw(st.sampled_from([1, 2, 50]))
        elif how == 4:
            size = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from(_NUMBERS)) % 256**size
            content[at : at + size] = number.to_bytes(
                size, draw(st.sampled_from(["little", "big"]))
            )
        elif how == 5:
            content[at:at] = draw(st.sampled_from(_PIECES))
        else:
            content[at:at] = draw(st.binary(max_size=12))
    return bytes(content)


HOSTILE_TEXTS = [
    *(
        "",
        " ",
        "\0",
        "\ud800",
        "\u202e\u2028",
        "a" * 5000,
        "\x1b[31mred\x1b[0m",
        "\r\n\t",
        "💥" * 50,
    ),
    *("../../etc/passwd", "/etc/passwd", "~root", "file:///etc/passwd", "http://127.0.0.1:1/x"),
    *("<img src=x onerror=alert(1)>", "=HYPERLINK(1)", "%s%n{0}{x}", "{{7*7}}", "'; --", "nan"),
    *("1e999", "-1", "L0.H0", "L99.H99=1", "L0.H0=nan", "L0.H0=-1", "red", "colors", "NUL", "."),
]

texts = st.one_of(st.sampled_from(HOSTILE_TEXTS), st.text(max_size=30))
numbers = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([10**9, -(10**30), 1e308, float("nan"), float("inf"), 0.5, True]),
)
plain = st.recursive(
    st.one_of(st.none(), texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
"""Any JSON."""
