"""Blood-smear images in, an executed and honest notebook report out: normal or leukemia? Research use only.

    import leuknb
    leuknb.inspect("my_images")         # how the folder is read, before anything is computed
    run = leuknb.report("my_images")    # a folder with a folder for each class, or a table of files
    run                                 # in a notebook: the headline, warnings, examples, a link to the page
    run.metrics, run.predictions        # every number, every prediction
    leuknb.rerun("runs/smears").same    # made again from its folder: the same numbers?
    leuknb.audit("my_images")           # copies, leaks, shortcuts, bad pictures
    leuknb.train("my_images", "model").predict(["new.jpg"])
    leuknb.adapt("my_images", "weights.safetensors")    # a pretrained network learns these classes

Nothing heavy is loaded before one of these names is used. The packages behind them, in the order of the flow:
data, features, classification, evaluation, auditing, explanation, modeling, reporting, experiments.
"""

__version__ = "0.1.0"

_HOMES = {
    "report": "reporting.api", "audit": "reporting.api", "train": "reporting.api", "load_model": "reporting.api",
    "adapt": "reporting.api", "rerun": "reporting.api", "Run": "reporting.api", "inspect": "data.inspection",
    "load_dataset": "data.datasets", "Dataset": "data.datasets", "extract": "features.extraction",
    "CNNFeatures": "features.transformer", "evaluate": "evaluation.predict", "Settings": "settings",
    "make_settings": "settings", "InputError": "core",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES: raise AttributeError(f"module 'leuknb' has no attribute {name!r}")
    from importlib import import_module

    return globals().setdefault(name, getattr(import_module(f"leuknb.{_HOMES[name]}"), name))


def __dir__() -> list[str]: return sorted({*globals(), *__all__})
