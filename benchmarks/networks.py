"""Images a second of the networks that a report can be asked for, with weights of random values.

    python benchmarks/networks.py [--images 64] [--repeats 3] [--only dinobloom_s,resnet18]

One pass of the whole image at the network's own size, JPEG decoding included, as `engine=auto` computes it. Kept in
results/networks.json: images a second by the clock, and seconds of all processors for an image, which neighbours on
the machine change less.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from machine import keep, machine, parse

NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "alexnet", "dinobloom_s",
            "dinobloom_b", "dinobloom_l")
SECONDS = 6  # about what one measurement may take


def ready(name: str, folder: Path, files: list[Path]):
    "A network with its graph made, warmed up, and what it is."
    import torch

    from leuknb.features import backbones
    from leuknb.features.transformer import CNNFeatures

    weights = folder / f"{name}.pth"
    model = backbones.build(name)
    torch.save(model.state_dict(), weights)
    cnn = CNNFeatures(name, weights=str(weights)).fit()
    batch = cnn.recipe_["batch"]  # a pass of fewer images takes as long
    start = time.perf_counter()
    cnn.transform(files[:batch])
    affordable = int(SECONDS / (time.perf_counter() - start))
    backbone = backbones.describe(name, weights)
    return cnn, {"network": name, "parameters": sum(p.numel() for p in model.parameters()),
                 "image_size": backbone.image_size, "engine": cnn.recipe_["engine"],
                 "images": batch * max(1, min(len(files) // batch, affordable))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(NETWORKS))
    said = parse(parser, images=16, repeats=1, only="efficientnet_lite0,dinobloom_s")
    from extract import drawn

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEUKNB_HOME"] = folder
        files, rows = drawn(Path(folder), said.images), []
        for name in said.only.split(","):
            cnn, row = ready(name, Path(folder), files)
            rates, spent = [], []
            for _ in range(said.repeats):
                start, used = time.perf_counter(), time.process_time()
                cnn.transform(files[: row["images"]])
                rates.append(row["images"] / (time.perf_counter() - start))
                spent.append((time.process_time() - used) / row["images"])
            # others may have been at work: the best that was ever seen counts
            rows.append(row | {"images_a_second": round(max(rates), 2), "lowest": round(min(rates), 2),
                               "processor_seconds": round(min(spent), 4), "most_seconds": round(max(spent), 4)})
            print(rows[-1], flush=True)
            keep("networks", {"machine": machine(), "repeats": said.repeats, "rows": rows}, said.quick)


if __name__ == "__main__":
    main()
