"""Hostile and odd image files, made by code: each is (bytes, what must come of it): "ok", "skip", or "either" where
a codec's version decides.
"""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageDraw

PIXELS = np.random.default_rng(5).integers(0, 255, (40, 56, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def saved(image, format, **options):
    f = io.BytesIO()
    image.save(f, format, **options)
    return f.getvalue()


def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks, width=8, height=8, depth=8, colour=2, pixels=None):
    "A PNG written by hand: `chunks` stand between header and pixels."
    raw = pixels if pixels is not None else zlib.compress(b"".join(b"\0" + bytes(3 * width) for _ in range(height)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 12: "d"}


def tiff(tags, data=b"", big=False):
    "A TIFF written by hand: tags {number: (type, values)}; `data` lies at the place that tag 273 (or 324) is given."
    entry, head = (20, 16 + 8) if big else (12, 8 + 2)
    at = head + entry * len(tags) + (8 if big else 4)
    room, extra, entries = 8 if big else 4, b"", []
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{TYPES[kind]}", *values)
        if number in (273, 324): packed = b"PLACE"
        entries.append((number, kind, len(values), packed))
    place = at + sum(len(p) for *_, p in entries if len(p) > room and p != b"PLACE")
    out = b""
    for number, kind, n, packed in entries:
        if packed == b"PLACE": packed = struct.pack("<I", place)
        if len(packed) > room:
            extra += packed
            packed = struct.pack("<Q" if big else "<I", at + len(extra) - len(packed))
        out += struct.pack("<HHQ" if big else "<HHI", number, kind, n) + packed.ljust(room, b"\0")
    start = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) if big else b"II*\0" + struct.pack("<IH", 8, len(tags))
    return start + out + bytes(8 if big else 4) + extra + data


def grey_tags(width, height, bits=8, format=1, compression=1, size=None):
    return {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [compression]), 262: (3, [1]),
            273: (4, [0]), 277: (3, [1]),
            278: (4, [height]), 279: (4, [size if size is not None else width * height * bits // 8]),
            339: (3, [format])}


def tiff_array(values):
    "An array as an uncompressed TIFF of its own type, signed and float included."
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    return tiff(grey_tags(values.shape[1], values.shape[0], 8 * values.itemsize, kind), values.tobytes())


def tile_bomb(side=12_000):
    "One pixel of image in a tile of 144 million: PackBits writes 128 zeros in two bytes."
    packed = b"\x81\0" * (side * side // 128)
    tags = grey_tags(1, 1, compression=32773) | {322: (4, [side]), 323: (4, [side]), 324: (4, [0]),
                                                 325: (4, [len(packed)])}
    return tiff({k: v for k, v in tags.items() if k not in (273, 278, 279)}, packed)


def gif(screen=(8, 8), frame=None, place=(0, 0), data=b"\x02\x02\x4c\x01\x00"):
    w, h = frame or screen
    return (b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + b"\x2c" + struct.pack("<HHHHB", *place,
        w, h, 0) + data + b"\x3b")


def lying(data, at, format, *values):
    "Bytes with numbers of the header replaced."
    return data[:at] + struct.pack(format, *values) + data[at + struct.calcsize(format):]


def jpeg_size(data, width, height):
    at = next(i for m in (b"\xff\xc0", b"\xff\xc2") if (i := data.find(m)) > 0)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9:]


def scan_bomb(side=7000, scans=1000):
    """A progressive JPEG of 49 million grey pixels whose scans say nothing, over and over: each makes the decoder
    walk over the whole image.
    """
    head = saved(Image.new("L", (8, 8)), "JPEG", progressive=True)
    table = head[head.find(b"\xff\xdb"): head.find(b"\xff\xc2")]
    frame = b"\xff\xc2" + struct.pack(">HBHHBBBB", 11, 8, side, side, 1, 1, 0x11, 0)
    # one code: a run of 2**14 blocks without anything
    huffman = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1] + [0] * 15) + b"\xe0"
    dc = b"\xff\xc4" + struct.pack(">HB", 20, 0x00) + bytes([1] + [0] * 15) + b"\0"
    blocks = (-(-side // 8)) ** 2
    bits = "".join("0" + "1" * 13 + "0" for _ in range(blocks // 2**14 + 2))
    body = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big").replace(b"\xff",
        b"\xff\0")
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + body
    first = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0) + bytes(blocks // 8 + 8)
    return b"\xff\xd8" + table + frame + dc + huffman + first + scan * scans + b"\xff\xd9"


def many_tags(n=30_000, size=500_000):
    "A TIFF whose tags all point at the same half megabyte: 15 GB when each is read."
    entries = b"".join(struct.pack("<HHII", 1000 + i, 7, size, 8) for i in range(n))
    return b"II*\0" + struct.pack("<I", size + 8) + bytes(size) + struct.pack("<H", n) + entries + bytes(4)


def exif(orientation=None, extra=()):
    block = Image.Exif()
    if orientation is not None: block[0x0112] = orientation
    for tag, value in extra: block[tag] = value
    return block.tobytes()


def with_app1(jpeg, *payloads):
    return jpeg[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in payloads) + jpeg[2:]


def animation(format, n=3, **options):
    frames = [Image.fromarray(np.roll(PIXELS, 5 * i, 0)) for i in range(n)]
    return saved(frames[0], format, save_all=True, append_images=frames[1:], **options)


def palette(transparency):
    image = RGB.quantize(16)
    return saved(image, "PNG", transparency=transparency)


def cut(data, share): return data[: max(1, int(len(data) * share))]


SEEDS = {
    "jpeg": saved(RGB, "JPEG"), "progressive": saved(RGB, "JPEG", progressive=True), "png": saved(RGB, "PNG"),
    "tiff": saved(RGB, "TIFF"),
    "tiff-lzw": saved(RGB, "TIFF", compression="tiff_lzw"), "tiff-jpeg": saved(RGB, "TIFF", compression="jpeg"),
    "bmp": saved(RGB, "BMP"),
    "webp": saved(RGB, "WEBP"), "webp-lossless": saved(RGB, "WEBP", lossless=True), "gif": saved(RGB, "GIF"),
    "mpo": saved(RGB, "MPO", save_all=True, append_images=[RGB]), "apng": animation("PNG"),
    "tiff-16": tiff_array(np.arange(600, dtype=np.uint16).reshape(20, 30)),
}  # a valid file of each kind, which the fuzzers mutate as well


def truncations():
    "Each format cut at eleven places, from one byte to almost whole."
    for kind in ("jpeg", "progressive", "png", "tiff", "tiff-lzw", "bmp", "webp", "gif"):
        for share in (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            yield f"cut-{kind}-{share:g}", (cut(SEEDS[kind], share),
                                            "either" if share > 0.85 or kind == "gif" else "skip")


def bombs():
    deep = zlib.compress(bytes(60_000_000), 1)
    yield "bomb-png-square", (png(width=60_000, height=60_000, pixels=deep), "skip")
    yield "bomb-png-strip", (png(width=2**31 - 1, height=1, pixels=b""), "skip")
    yield "bomb-png-ztxt", (png(chunk(b"zTXt", b"Comment\0\0" + deep)), "either")
    yield "bomb-png-many-ztxt", (png(*[chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(bytes(10**6), 1))
                                       for i in range(300)]), "either")
    yield "bomb-png-itxt", (png(chunk(b"iTXt", b"k\0\1\0\0\0" + deep)), "either")
    yield "bomb-png-iccp", (png(chunk(b"iCCP", b"icc\0\0" + deep)), "either")
    yield "bomb-png-more-pixels-than-declared", (png(pixels=deep), "either")
    yield "bomb-png-million-chunks", (png(*[chunk(b"tEXt", b"")] * 100_000), "either")
    yield "bomb-tiff-declared", (tiff(grey_tags(400_000, 400_000, size=10), bytes(10)), "skip")
    yield "bomb-tiff-deflate", (tiff(grey_tags(50_001, 1_001, compression=8, size=len(deep)), deep), "skip")
    yield "bomb-tiff-tile", (tile_bomb(), "skip")
    yield "bomb-tiff-tags", (many_tags(), "skip")
    yield "bomb-gif-screen", (gif((65535, 65535)), "skip")
    yield "bomb-gif-frame", (gif((8, 8), (65535, 65535)), "skip")
    yield "bomb-gif-far-away", (gif((8, 8), (8, 8), (65000, 65000)), "skip")
    yield "bomb-webp", (lying(SEEDS["webp"], 26, "<HH", 16383, 16383), "skip")
    yield "bomb-jpeg-declared", (jpeg_size(SEEDS["jpeg"], 65500, 65500), "skip")
    yield "bomb-jpeg-scans", (scan_bomb(), "skip")
    yield "bomb-bmp-declared", (lying(SEEDS["bmp"], 18, "<ii", 2**30, 2**30), "skip")
    yield "bomb-exif", (with_app1(SEEDS["jpeg"], *[b"Exif\0\0" + many_tags(5000, 300)[:60_000]] * 20), "ok")


def lies():
    yield "lie-jpeg-named-png", (SEEDS["jpeg"], "ok")
    yield "lie-text", (b"<html><script>alert(1)</script></html>", "skip")
    yield "lie-svg", (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "skip")
    yield "lie-pdf", (b"%PDF-1.7\n1 0 obj\n", "skip")
    yield "lie-eps", (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "skip")
    yield "lie-zip", (b"PK\3\4" + bytes(100), "skip")
    yield "lie-elf", (b"\x7fELF" + bytes(100), "skip")
    yield "lie-pickle", (b"\x80\x04cposix\nsystem\n(X\x04\0\0\0exitR.", "skip")
    yield "lie-jpeg-header-only", (b"\xff\xd8\xff\xe0", "skip")
    yield "lie-jpeg-larger", (jpeg_size(SEEDS["jpeg"], 5000, 5000), "either")
    yield "lie-jpeg-smaller", (jpeg_size(SEEDS["jpeg"], 8, 8), "either")
    yield "lie-jpeg-zero", (jpeg_size(SEEDS["jpeg"], 0, 0), "skip")
    yield "lie-png-zero", (png(width=0, height=0), "skip")
    yield "lie-png-larger", (png(width=4000, height=4000, pixels=zlib.compress(b"\0\0\0\0")), "skip")
    yield "lie-png-crc", (lying(SEEDS["png"], 29, ">I", 0), "skip")
    yield "lie-png-chunk-length", (lying(SEEDS["png"], 33, ">I", 2**31 - 1), "either")
    yield "lie-png-no-idat", (SEEDS["png"][:33] + chunk(b"IEND", b""), "skip")
    yield "lie-bmp-negative", (lying(SEEDS["bmp"], 18, "<ii", -56, 40), "either")
    yield "lie-tiff-offset", (lying(SEEDS["tiff"], 4, "<I", 2**32 - 1), "skip")
    yield "lie-tiff-no-tags", (b"II*\0" + struct.pack("<IHI", 8, 0, 0), "skip")
    yield "lie-tiff-loop", (b"II*\0" + struct.pack("<IHI", 8, 0, 8), "skip")
    yield "lie-tiff-sizes", (tiff(grey_tags(100, 100, size=10**9), bytes(100)), "skip")
    yield "lie-gif-lzw", (gif(data=b"\x0c\xff" + bytes(255) + b"\0"), "either")
    yield "lie-webp-riff", (lying(SEEDS["webp"], 4, "<I", 2**32 - 1), "either")
    yield "lie-two-formats", (SEEDS["jpeg"] + SEEDS["png"], "ok")
    yield "lie-appended-script", (SEEDS["png"] + b"<script>alert(1)</script>", "ok")


def kinds():
    "Honest files of odd kinds, which must be read."
    values = np.linspace(0, 1, 600).reshape(20, 30)
    odd = values.astype("f4"); odd[0, :4] = [np.nan, np.inf, -np.inf, 0]
    floats = {"float": values.astype("f4"), "float-nan-inf": odd, "float-all-nan": np.full((9, 9), np.nan, "f4"),
              "float-huge": np.float32(values * 3e38), "float-64": values}
    whole = {"uint16": np.uint16(values * 65535), "int16": np.int16(values * 60000 - 30000),
             "uint32": np.uint32(values * 4e9), "int32": np.int32(values * 4e9 - 2e9),
             "int8": np.int8(values * 250 - 125)}
    for name, array in (floats | whole).items():
        yield f"tiff-{name}", (tiff_array(array), "either" if name in ("float-64", "int8", "uint32") else "ok")
    yield "tiff-big", (tiff(grey_tags(30, 20), bytes(600), big=True), "ok")
    yield "tiff-pages", (animation("TIFF"), "ok")
    yield "tiff-ycbcr-jpeg", (SEEDS["tiff-jpeg"], "ok")
    yield "tiff-lzw", (SEEDS["tiff-lzw"], "ok")
    yield "tiff-deflate", (saved(RGB, "TIFF", compression="tiff_adobe_deflate"), "ok")
    yield "tiff-packbits", (saved(RGB, "TIFF", compression="packbits"), "ok")
    yield "tiff-fax", (saved(RGB.convert("1"), "TIFF", compression="group4"), "ok")
    yield "tiff-lab", (saved(lab(), "TIFF"), "ok")
    yield "tiff-cmyk", (saved(RGB.convert("CMYK"), "TIFF"), "ok")
    yield "tiff-rgba", (saved(RGB.convert("RGBA"), "TIFF"), "ok")
    yield "jpeg-cmyk", (saved(RGB.convert("CMYK"), "JPEG"), "ok")
    yield "jpeg-grey", (saved(RGB.convert("L"), "JPEG"), "ok")
    yield "jpeg-progressive", (SEEDS["progressive"], "ok")
    yield "jpeg-arithmetic", (SEEDS["jpeg"].replace(b"\xff\xc0", b"\xff\xc9", 1), "either")
    yield "jpeg-12-bit", (lying(SEEDS["jpeg"], SEEDS["jpeg"].find(b"\xff\xc0") + 4, "B", 12), "either")
    yield "jpeg-quality-1", (saved(RGB, "JPEG", quality=1), "ok")
    yield "jpeg-restart", (saved(RGB, "JPEG", restart_marker_blocks=1), "ok")
    yield "mpo", (SEEDS["mpo"], "ok")
    yield "gif-animated", (animation("GIF"), "ok")
    yield "webp-animated", (animation("WEBP"), "ok")
    yield "apng", (SEEDS["apng"], "ok")
    for name, transparency in (("index", 3), ("bytes", bytes(range(0, 256, 16)))):
        yield f"palette-transparent-{name}", (palette(transparency), "ok")
    yield "palette-short", (png(chunk(b"PLTE", b"\1\2\3"), colour=3, pixels=zlib.compress((b"\0" + b"\xff" * 8) * 8)),
                            "either")
    yield "palette-missing", (png(colour=3, pixels=zlib.compress((b"\0" + b"\xff" * 8) * 8)), "either")
    yield "one-bit", (saved(RGB.convert("1"), "PNG"), "ok")
    yield "grey-alpha", (saved(RGB.convert("LA"), "PNG"), "ok")
    yield "rgba-invisible", (saved(Image.new("RGBA", (20, 20), (200, 0, 0, 0)), "PNG"), "ok")
    yield "png-16-rgb", (png(width=4, height=4, depth=16, pixels=zlib.compress((b"\0" + bytes(range(24))) * 4)), "ok")
    yield "png-interlaced", (interlaced(), "ok")
    yield "icc-srgb", (saved(RGB, "PNG",
                             icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()), "ok")
    yield "icc-broken", (saved(RGB, "JPEG", icc_profile=b"not a profile" * 9000), "ok")
    yield "icc-lab-on-rgb", (saved(RGB, "PNG",
                                   icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()), "ok")
    for side in ((1, 1), (1, 3000), (3000, 1), (2, 1)):
        yield f"size-{side[0]}x{side[1]}", (saved(Image.new("RGB", side, "pink"), "PNG"), "ok")
    yield "size-20-million", (saved(Image.new("L", (5000, 4000)), "PNG", compress_level=1), "ok")
    yield "one-colour", (saved(Image.new("RGB", (30, 30), "black"), "JPEG"), "ok")


def lab():
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(RGB, to_lab)


def interlaced():
    "An Adam7 PNG of 8 x 8 pixels: seven passes, each a small picture with its own filter bytes."
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    raw = b"".join((b"\0" + bytes(3 * w)) * h for w, h in passes)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def exifs():
    for turn in (0, 6, 9, 65535): yield f"exif-orientation-{turn}", (saved(RGB, "JPEG", exif=exif(turn)), "ok")
    yield "exif-orientation-text", (saved(RGB, "JPEG",
                                          exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"),
                                    "ok")
    yield "exif-broken", (with_app1(SEEDS["jpeg"], b"Exif\0\0II*\0" + b"\xff" * 500), "ok")
    yield "exif-empty", (with_app1(SEEDS["jpeg"], b"Exif\0\0"), "ok")
    yield "exif-giant", (with_app1(SEEDS["jpeg"], *[b"Exif\0\0II*\0\x08\0\0\0" + bytes(65_000)] * 100), "ok")
    yield "exif-script", (saved(RGB, "JPEG", exif=exif(1, [(0x010E, "<script>alert(1)</script>")])), "ok")
    yield "exif-png", (saved(RGB, "PNG", exif=exif(6)), "ok")
    yield "exif-webp", (saved(RGB, "WEBP", exif=exif(3)), "ok")
    yield "xmp-bomb", (with_app1(SEEDS["jpeg"], b"http://ns.adobe.com/xap/1.0/\0"
                                 + b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'), "ok")


def scribbles():
    "Valid files with a few bytes overwritten, always the same ones."
    for kind, data in SEEDS.items():
        dice = random.Random(kind)
        for n in (1, 8):
            changed = bytearray(data)
            for _ in range(n * 3): changed[dice.randrange(len(changed))] = dice.randrange(256)
            yield f"scribbled-{kind}-{n}", (bytes(changed), "either")


def images():
    "All of them by name."
    made = {"empty": (b"", "skip"), "one-byte": (b"\0", "skip"), "zeros": (bytes(10_000), "skip"),
            "ones": (b"\xff" * 10_000, "skip")}
    for source in (truncations, bombs, lies, kinds, exifs, scribbles): made |= dict(source())
    return made


def picture(at=0, dark=False):
    "A small valid PNG, another for every number."
    image = Image.new("RGB", (48, 48), (238, 225, 232))
    x, y = 14 + at % 7, 12 + at % 5
    ImageDraw.Draw(image).ellipse((x, y, x + 18, y + 20), fill=(70, 40, 110) if dark else (170, 130, 190))
    noise = np.random.default_rng(at).integers(-9, 9, (48, 48, 3))
    return saved(Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)), "PNG")
