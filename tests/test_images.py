"""Pictures are opened upright, RGB and by size; what is no picture is refused in one sentence."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny_vision import noise

from headviz.base.errors import HeadvizError, PictureError, PromptError
from headviz.inputs import image_folders as image_folders
from headviz.inputs.image_folders import MAX_PICTURES, open_image_folder, open_pictures
from headviz.inputs.images import MAX_BYTES, open_picture
from headviz.inputs.prompt_sets import PromptSet, find_prompt_set, picture_prompt_set

pytest_plugins = ["loaded", "seeing"]


def saved(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source):
    return np.asarray(open_picture(source).image())


# What is opened.


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP"])
def test_every_format_is_read(kind, tmp_path):
    flat = Image.new("RGB", (40, 20), (200, 40, 40))
    path = tmp_path / f"red.{kind.lower()}"
    flat.save(path, kind)
    picture = open_picture(path)
    assert (picture.name, picture.width, picture.height) == (path.name, 40, 20)
    assert picture.image().mode == "RGB"
    assert np.abs(pixels(path).astype(int) - (200, 40, 40)).max() <= 6


def test_a_picture_is_known_by_its_pixels_not_by_its_file(tmp_path):
    image = noise(30, 20)
    for name in ("a.png", "b.bmp"):
        image.save(tmp_path / name)
    digests = {open_picture(tmp_path / name).digest for name in ("a.png", "b.bmp")}
    digests |= {open_picture(image).digest, open_picture(saved(image)).digest}
    assert len(digests) == 1
    assert open_picture(noise(30, 20, seed=1)).digest not in digests
    turned = Image.frombytes("RGB", (20, 30), image.tobytes())
    assert open_picture(turned).digest not in digests, "the same bytes in another shape"


def test_a_turned_photograph_stands_upright():
    upright = noise(12, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    picture = open_picture(saved(lying, exif=exif))
    assert (picture.width, picture.height) == (12, 8)
    assert ImageOps.exif_transpose(picture.image()).size == (12, 8)
    np.testing.assert_array_equal(picture.image(), upright)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode):
    if mode == "P":
        image = Image.new("P", (16, 16), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        data = saved(image, transparency=0)
    else:
        data = saved(Image.new(mode, (16, 16), (0,) * len(mode)))
    assert (pixels(data) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    found = pixels(saved(Image.fromarray(values), kind))
    np.testing.assert_allclose(found[..., 0], values / 257, atol=1)
    dark = Image.fromarray(np.full((16, 16), 200, np.uint16))
    assert pixels(saved(dark, kind)).max() <= 1, "a dark picture stays dark"


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "F"])
def test_other_kinds_of_color_become_rgb(mode):
    image = noise(16, 16).convert(mode)
    assert pixels(saved(image, "TIFF")).shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(kind):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    red = pixels(data)[0, 0]
    assert red[0] > 200 > 60 > red[1]


def test_a_picture_of_one_pixel_is_a_picture():
    picture = open_picture(Image.new("RGB", (1, 1), "red"))
    assert (picture.width, picture.height) == (1, 1)
    assert (np.asarray(picture.image()) == (255, 0, 0)).all()


def test_two_hundred_pictures_take_the_room_of_their_files(tmp_path):
    path = tmp_path / "one.jpg"
    Image.new("RGB", (200, 160), "red").save(path)
    found = open_pictures([path] * 200)
    assert len(found) == 200
    assert sum(len(picture.data) for picture in found) == 200 * path.stat().st_size


# What is refused.


def bomb(width, height) -> bytes:
    """A PNG of that size whose pixels nobody wants to see."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 10**5))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


BAD = {
    "a text": (b"the cat is red", "x.png is no picture that can be read. Use PNG, JPEG"),
    "nothing": (b"", "x.png is no picture"),
    "a script": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
    "a truncated jpeg": (saved(noise(64, 64), "JPEG")[:900], "x.png is broken .*Save it anew"),
    "a truncated png": (saved(noise(64, 64))[:900], "x.png is broken"),
    "a decompression bomb": (bomb(30_000, 30_000), "at most 64 million|more than 64 million"),
    "a large one": (bomb(9_000, 8_000), "9000 × 8000 pixels; at most 64 million .*Scale it down"),
    "a strip": (bomb(5_000, 10), "more than 50 times as long as wide. Crop it"),
    "too many bytes": (b"\0" * (MAX_BYTES + 1), "has 32 MB; a picture may have 32 MB"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_picture_is_refused_in_one_sentence(what, tmp_path):
    data, message = BAD[what]
    path = tmp_path / "x.png"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(PictureError, match=message if source is path else None) as raised:
            open_picture(source)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere.png", "a" * 5000, "zero\0byte", "."])
def test_a_file_that_is_not_there_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PictureError):
        open_picture(name)


def test_too_many_pictures_are_refused():
    with pytest.raises(PictureError, match=f"{MAX_PICTURES + 1} pictures; at most {MAX_PICTURES}"):
        open_pictures([b""] * (MAX_PICTURES + 1))


# Folders and zips.

TABLES = {
    "labels.csv": "file,label\na.png,red\nb.png,7\nother.png,x\n",
    "captions.json": '[{"file": "a.png", "captions": ["red", "ruby"]}, '
    '{"file": "b.png", "caption": 7}]',
    "map.json": '{"a.png": "red", "b.png": "7"}',
    "coco.json": '{"images": [{"file_name": "a.png", "caption": "red"}, '
    '{"file_name": "b.png", "caption": "7"}], "info": {"year": 1}}',
    "captions.jsonl": '{"file": "a.png", "caption": "red"}\n\n{"file": "b.png", "caption": "7"}\n',
}


def files(**others) -> dict[str, bytes]:
    """Two pictures and whatever else."""
    return {"b.png": saved(noise(9, 9)), "a.png": saved(noise(8, 8)), **others}


@pytest.fixture(params=["folder", "zip"])
def image_folder_of(request, tmp_path):
    """Writes files as a folder and as a zip."""

    def write(content: dict[str, bytes]):
        if request.param == "zip":
            with zipfile.ZipFile(
                tmp_path / "image_folder.zip", "w", zipfile.ZIP_DEFLATED
            ) as archive:
                for name, data in content.items():
                    archive.writestr(name, data)
            return tmp_path / "image_folder.zip"
        for name, data in content.items():
            path = tmp_path / "image_folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "image_folder"

    return write


@pytest.mark.parametrize("table", TABLES)
def test_an_album_is_its_pictures_by_name_with_what_they_show(image_folder_of, table):
    hidden = {".DS_Store": b"x", "__MACOSX/._a.png": b"x"}
    image_folder = open_image_folder(
        image_folder_of(files(**{table: TABLES[table].encode()}, **hidden))
    )
    assert [picture.name for picture in image_folder.pictures] == ["a.png", "b.png"]
    assert image_folder.labels == ("red", "7")
    assert image_folder.name == "image_folder"


def test_without_a_table_the_folders_are_the_labels(image_folder_of):
    content = {"cat/1.png": saved(noise(8, 8)), "dog/1.png": saved(noise(9, 9))}
    assert open_image_folder(image_folder_of(content)).labels == ("cat", "dog")


BAD_ALBUMS = {
    "no picture": ({"a.txt": b"x"}, "There is no picture in image_folder"),
    "a broken one": (files(**{"c.png": b"x"}), "c.png is no picture"),
    "a broken table": (files(**{"labels.json": b"[{"}), "table labels.json .* cannot be read"),
    "a table of bytes": (files(**{"labels.csv": b"\xff\xfe\0"}), "table labels.csv"),
}


@pytest.mark.parametrize("what", BAD_ALBUMS)
def test_a_bad_album_is_refused_in_one_sentence(image_folder_of, what):
    content, message = BAD_ALBUMS[what]
    with pytest.raises(PictureError, match=message) as raised:
        open_image_folder(image_folder_of(content))
    assert "\n" not in str(raised.value)


def test_an_album_too_large_is_refused(image_folder_of, monkeypatch):
    path = image_folder_of(files())
    for limit, message in (("MAX_PICTURES", "has 2 pictures"), ("MAX_TOTAL", "MB together")):
        with monkeypatch.context() as patch:
            patch.setattr(image_folders, limit, 1)
            with pytest.raises(PictureError, match=message):
                open_image_folder(path)
    monkeypatch.setattr(image_folders, "MAX_ENTRIES", 1)
    with pytest.raises(PictureError, match="files"):
        open_image_folder(path)


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "..\\out.png"])
def test_a_zip_that_climbs_out_of_its_folder_is_refused_and_writes_nothing(tmp_path, name):
    path = tmp_path / "inner" / "image_folder.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, saved(noise(8, 8)))
    with pytest.raises(PictureError, match=r"image_folder\.zip holds a file that climbs out of it"):
        open_image_folder(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["inner", "image_folder.zip"]


def test_a_zip_bomb_is_refused_unopened(tmp_path, monkeypatch):
    path = tmp_path / "image_folder.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(64 * 2**20))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(PictureError, match="unpacks to 64 MB from almost nothing"):
        open_image_folder(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04nonsense", b"the cat"])
def test_what_is_no_zip_is_refused(tmp_path, data):
    path = tmp_path / "image_folder.zip"
    path.write_bytes(data)
    with pytest.raises(PictureError, match="is no zip that can be read"):
        open_image_folder(path)


# Probe sets.


def test_pictures_make_a_probe_set_with_a_hash_of_all_it_depends_on(pictures):
    prompt_set = picture_prompt_set("mine", pictures, "what color", ("a", "b", "c"))
    assert len(prompt_set) == 3
    assert prompt_set.texts == ("what color",) * 3
    digests = {
        made.digest
        for made in (
            prompt_set,
            picture_prompt_set("mine", pictures[::-1], "what color"),
            picture_prompt_set("mine", pictures, "what mood"),
            PromptSet("mine", ("what color",) * 3),
        )
    }
    assert len(digests) == 4
    assert picture_prompt_set("other", pictures, "what color").digest == prompt_set.digest
    with pytest.raises(PromptError, match="There is no picture in 'none'"):
        picture_prompt_set("none", [])


def test_a_folder_a_zip_or_a_picture_is_found_as_probes(image_folder_of, assets, tmp_path):
    path = image_folder_of(files(**{"labels.csv": TABLES["labels.csv"].encode()}))
    prompt_set = find_prompt_set(str(path), "toy", True, "what is it")
    assert [picture.name for picture in prompt_set.pictures] == ["a.png", "b.png"]
    assert (prompt_set.texts, prompt_set.labels) == (("what is it",) * 2, ("red", "7"))
    single = tmp_path / "single.png"
    single.write_bytes(saved(noise(8, 8)))
    assert [p.name for p in find_prompt_set(str(single), "toy", True).pictures] == ["single.png"]


def test_a_model_that_sees_is_offered_pictures_and_another_one_texts(assets):
    folder = assets / "seer" / "prompt_sets" / "scenes"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(saved(noise(8, 8)))
    assert find_prompt_set(None, "some/seeing-model", True).name == "scenes"
    assert find_prompt_set(None, "seer", True).pictures
    assert not find_prompt_set(None, "some/language-model").pictures
    with pytest.raises(HeadvizError, match="a folder or zip of pictures"):
        find_prompt_set("nope", "seer", True)
