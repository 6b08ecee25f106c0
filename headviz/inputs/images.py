"""A picture file -> Picture: checked before it is decoded, upright, RGB, known by its pixels.

A picture keeps its file's bytes and is decoded anew where it is needed, so that two hundred
photographs take the room of their files. Knows nothing of models; folders and zips are
image_folders.py.
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from headviz.base.errors import PictureError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".svg")
"""Endings of pictures that Pillow does not read, or not everywhere."""
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 64 * 10**6
LONGEST = 50
"""Times as long as wide at most: models enlarge the short side to hundreds of pixels."""
_SMALLEST = 8  # pixels; below it, channels and rows cannot be told apart by every processor


@dataclass(frozen=True)
class Picture:
    """One picture."""

    name: str
    width: int
    """Pixels, as it stands upright."""
    height: int
    digest: str
    """Twelve hex digits over size and pixels: the same picture in another file has the same."""
    data: bytes = field(repr=False)
    """The file's content."""

    def image(self) -> Image.Image:
        """The pixels: RGB, upright, transparency laid on white."""
        image = _decode(self.data, self.name)
        short = min(image.size)
        if short < _SMALLEST:
            times = -(-_SMALLEST // short)
            image = image.resize(
                (image.width * times, image.height * times), Image.Resampling.NEAREST
            )
        return image


def open_picture(source: "Path | str | bytes | Image.Image | Picture", name: str = "") -> Picture:
    """The picture in a file, in a file's bytes, or already open.

    Of an animation the first frame. Raises PictureError, in one sentence, for anything that is no
    picture, is broken, or is too large; the size is read before anything is decoded.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        name = name or "picture"
        buffer = io.BytesIO()
        _check_size(name, *source.size)
        _flat(source).save(buffer, "PNG", compress_level=1)
        data = buffer.getvalue()
    elif isinstance(source, bytes):
        name, data = name or "picture", source
    else:
        name, data = name or Path(source).name, _read(Path(source))
    if len(data) > MAX_BYTES:
        raise PictureError(_too_heavy(name, len(data)))
    image = _decode(data, name)
    pixels = hashlib.sha256(f"{image.width}x{image.height};".encode() + image.tobytes())
    return Picture(name, image.width, image.height, pixels.hexdigest()[:12], data)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise PictureError(f"{path.name} is a folder, no picture.")
        if not path.is_file():
            raise PictureError(f"There is no file {str(path)!r}.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PictureError(_too_heavy(path.name, size))
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"{str(path)[:60]!r} cannot be read ({reason}).") from error


def _too_heavy(name: str, size: int) -> str:
    return (
        f"{name} has {size / 2**20:.0f} MB; a picture may have {MAX_BYTES // 2**20} MB. "
        "Save it smaller."
    )


def _decode(data: bytes, name: str) -> Image.Image:
    """The first frame, upright and RGB; the size is checked before any pixel is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(name, *image.size)
            return _flat(image)
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(
            f"{name} has more than {MAX_PIXELS // 10**6} million pixels. Scale it down."
        ) from None
    except Image.UnidentifiedImageError:
        raise PictureError(
            f"{name} is no picture that can be read. Use {', '.join(FORMATS[:-1])} or TIFF."
        ) from None
    except Exception as error:
        # Pillow's decoders raise a dozen types for a broken file.
        raise PictureError(
            f"{name} is broken ({str(error).splitlines()[0][:80] if str(error) else 'no content'}"
            "): it ends early or holds nonsense. Save it anew."
        ) from error


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{name} has {width} × {height} pixels; at most {MAX_PIXELS // 10**6} million are "
            "read. Scale it down."
        )
    if max(width, height) > LONGEST * min(width, height):
        raise PictureError(
            f"{name} has {width} × {height} pixels: more than {LONGEST} times as long as wide. "
            "Crop it."
        )


def _flat(image: Image.Image) -> Image.Image:
    """Upright, transparency on white, eight bits a channel, RGB."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return _eight_bits(upright)
    if "A" in upright.mode or "a" in upright.mode or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert(
            "RGB"
        )
    return upright.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen-bit, integer and float pictures, which Pillow itself would clip at 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    most = values.max()
    # Floats of 0 to 1, bytes, 16 bits; whatever is wider is scaled to its own largest value.
    scale = 1.0 if image.mode == "F" and most <= 1 else 255.0 if most <= 255 else 65535.0
    scale = max(scale, most) if most > 65535 else scale
    if image.mode.startswith("I;16"):
        scale = 65535.0
    gray = (values / scale * 255).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
