"""The graph of the default recipe, without its weights, as it comes with leuknb: written anew after a change of the
recipe, of the network's pooling or of its weights.

    python benchmarks/graph.py

Needs torch, timm and onnx. `tests/features/test_onnx.py` fails while the graph that comes with leuknb is not
what torch computes.
"""

from pathlib import Path

from safetensors.numpy import load_file

import leuknb.features.onnx as graphs
from leuknb.core import write_atomic
from leuknb.features.backbones import load_backbone
from leuknb.features.extraction import network_of, recipe_of
from leuknb.settings import make_settings


def main():
    path = Path(graphs.__file__).parent / "assets" / graphs.STORED
    path.unlink(missing_ok=True)  # what is there may be of another form
    network = network_of(recipe_of(make_settings(engine="onnx", device="cpu")))
    hollow = graphs.hollow_graph(network.make(), load_file(network.backbone.file),
                                 graphs.folded_layers(load_backbone(network.backbone)), key=network.key)
    with write_atomic(path, "wb") as f: f.write(hollow)
    print(f"{path.name}: {len(hollow):,} bytes")


if __name__ == "__main__": main()
