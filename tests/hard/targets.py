"""What a fuzzer feeds: each takes bytes and returns when they were read or refused in words; anything else raises.
Used by test_fuzz.py and benchmarks/fuzz_readers.py.
"""

import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from inputs import SEEDS

from leuknb.core import InputError, to_json
from leuknb.settings import make_settings, parse_changes, Settings
from leuknb.data.images import UnreadableImage
from leuknb.data.layouts import read_layout
from leuknb.data.images import decode
from leuknb.auditing.published_table import check_table, read_table


@cache
def scratch(): return Path(tempfile.mkdtemp(prefix="fuzz-"))


def words(error):
    "An error a person reads: short, and nothing in it that a terminal would obey."
    text = str(error)
    if not text or len(text) > 3000 or any(ord(c) < 32 and c != "\n" or c == "\x7f" for c in text):
        raise AssertionError(f"no error for a person: {text[:300]!r}")


def image(data):
    try: rgb = decode(data, pixel_limit=300_000)
    except UnreadableImage as e: return words(e)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size > 900_000:
        raise AssertionError(f"{rgb.dtype} {rgb.shape}")


def metadata(data):
    path = scratch() / "metadata.csv"
    path.write_bytes(data)
    try: table = read_layout(path.parent, table=path.name).listing
    except InputError as e: return words(e)
    for column in ("file_name", "label", "group", "why"):
        for value in table[column]:
            if value[:1] in ("=", "@", "\t", "\r") or (value[:1] in ("+", "-")
                                                       and any(c.isalpha() or c in "(|!" for c in value)):
                raise AssertionError(f"live formula {value!r}")
    usable = table[table["why"] == ""]
    if not usable["file_name"].is_unique or any(n.startswith("/") or ".." in n.split("/") for n in usable["file_name"]):
        raise AssertionError("a name that leads elsewhere")


def settings(data):
    pairs = data.decode("utf-8", "replace").split("\n")[:8]
    try: made = make_settings(**parse_changes(pairs))
    except InputError as e: return None if str(e) else words(e)
    if Settings.model_validate_json(to_json(made)) != made: raise AssertionError("settings that do not survive JSON")


def weights(data):
    from leuknb.features.backbones import read_weights

    path = scratch() / ("w.safetensors" if data[:1] == b"s" else "w.pth")
    path.write_bytes(data[1:])
    try: found = read_weights(path)
    except InputError as e: return words(e)
    if not found: raise AssertionError("weights without a tensor")


def published(data):
    path = scratch() / "table.csv"
    path.write_bytes(data)
    try: check_table(read_table(path), bound=12)
    except InputError as e: words(e)


def safe_tensors():
    from safetensors.numpy import save

    return b"s" + save({"a": np.zeros(3, np.float32)})


def torch_weights():
    import io

    import torch

    f = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, f)
    return b"p" + f.getvalue()


CORPUS = {  # valid beginnings of each target
    image: lambda: list(SEEDS.values()),
    metadata: lambda: [b"file_name,label,patient_id\na.png,x,1\nb/c.png,y,2\n",
                       b"\xef\xbb\xbffile_name;label\r\n\"a;b.png\";=x\r\n",
                       "file_name\tlabel\nä.png\t+ve\n".encode("utf-16")],
    settings: lambda: [b"seed=3\nlayers=fc6,fc7", b"params.svm.C=0.01\nsynthetic.n_images=9",
                       b'views=["identity"]\ntest_size=0.3', b"params={\"svm\":{\"C\":1e400}}"],
    weights: lambda: [safe_tensors(), torch_weights()],
    published: lambda: [b"model,accuracy,sensitivity,n_pos,n_neg\nsvm,97.44,95.00,20,19\n",
                        b"Method;Recall (%);Spec.\nx;97,4 %;100\n"],
}


def run(target, data):
    "Call a target; what the libraries warn of is not looked at."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target(data)
