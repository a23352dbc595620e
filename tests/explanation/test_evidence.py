"""Evidence adds up to the score whatever the recipe, Grad-CAM and neighbours agree with independent computations,
and the examples show no test image its own neighbours.
"""

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import SVC

from leuknb.explanation.examples import choose_examples, explain_predictions, refit_holdout, short_name
from leuknb.classification.estimators import make_classifier, scores
from leuknb.core import InputError
from leuknb.settings import make_settings, SyntheticSettings
from leuknb.data.images import UnreadableImage
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.predict import evaluate
from leuknb.explanation.evidence import (
    Evidence, evidence_map, explain_image, extractor_of, grad_cam, linear_score, LinearScore, neighbours, NotLinear,
    Part, torch_score)
from leuknb.explanation.faithfulness import areas, curves, map_correlations, share_inside, with_random_weights
from leuknb.features.extraction import extract
from leuknb.data.images import resize, view
from leuknb.data.synthetic import draw_batch

VIEWS = ["identity", "fliplr", "flipud", "rot180", "transpose", "rot90", "rot270", "antitranspose"]


@pytest.fixture(scope="module")
def pictures():
    return draw_batch(SyntheticSettings(n_images=12, images_per_patient=1, seed=5), side=200).rgb


@pytest.fixture(scope="module")
def table():
    "Features of three classes, with unequal scales."
    generator = np.random.default_rng(3)
    y = np.repeat([0, 1, 2], 20)
    X = (generator.normal(size=(60, 30)) + y[:, None] * generator.normal(size=30)) * generator.uniform(0.1, 20, 30) + 5
    return X.astype(np.float32), y


def agrees(evidence, settings, picture, score):
    "Whether the evidence of all places adds up to what the extractor's features give, to 1e-4 of what is summed."
    x = extractor_of(settings).transform([picture])[0].astype(float)
    size = 1 + np.abs(x * score.coef).sum()
    spread = evidence.on(61, 47)
    assert abs(evidence.score - score(x)) < 1e-4 * size
    assert abs(evidence.bias + evidence.elsewhere + spread.sum(dtype=float) - score(x)) < 1e-4 * size


@hypothesis_settings(max_examples=6, deadline=None, derandomize=True,
                     suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.sampled_from(["blocks.2", "blocks.3", "blocks.5", "conv_head"]), min_size=1, max_size=2,
                       unique=True),
       pooling=st.sampled_from(["mean", "max", "flatten", "covariance", "moments"]),
       region=st.sampled_from(["image", "cell"]), frames=st.sampled_from([["whole"], ["cell"], ["whole", "cell"]]),
       views=st.lists(st.sampled_from(VIEWS), min_size=1, max_size=3, unique=True),
       reference=st.booleans(), seed=st.integers(0, 99))
def test_bias_and_evidence_of_all_places_add_up_to_the_score_for_every_recipe(pictures, layers, pooling, region, frames,
    views, reference, seed):
    # 1280 channels would make 819,840 features
    if pooling == "covariance": layers = [la for la in layers if la != "conv_head"] or ["blocks.2"]
    if pooling in ("max", "flatten"): region = "image"
    settings = make_settings(layers=layers, pooling=pooling, region=region, frames=frames, views=views, image_size=96)
    generator = np.random.default_rng(seed)
    n = extractor_of(settings).n_features_out_
    score = LinearScore(generator.normal(size=n), float(generator.normal()), 1)
    picture = pictures[seed % len(pictures)]
    agrees(evidence_map(score, settings, picture, generator.normal(size=n) if reference else None), settings, picture,
           score)


@pytest.mark.parametrize("backbone, layers, size", [("resnet18", [], 64), ("mobilenet_v2", [], 64),
                                                    ("densenet121", [], 64), ("alexnet", ["features.12"], 96),
                                                    ("timm:test_vit", ["blocks.2"], None),
                                                    ("timm:mobilenetv3_small_050", ["blocks.3"], 64)])
def test_the_evidence_adds_up_on_networks_of_other_makes(pictures, tmp_path, backbone, layers, size):
    settings = with_random_weights(make_settings(backbone=backbone, layers=layers, image_size=size,
                                                 views=["identity", "rot90"]), tmp_path)
    score = LinearScore(np.random.default_rng(0).normal(size=extractor_of(settings).n_features_out_), 0.3, 1)
    found = evidence_map(score, settings, pictures[0])
    assert found.parts[0].grid.size > 1
    agrees(found, settings, pictures[0], score)


@pytest.mark.parametrize("pooling", ["flatten", "max", "covariance", "moments"])
def test_tokens_of_a_transformer_are_places_and_the_class_token_lies_elsewhere(pictures, tmp_path, pooling):
    settings = with_random_weights(make_settings(backbone="timm:test_vit", layers=["blocks.0"], pooling=pooling),
                                   tmp_path)
    score = LinearScore(np.random.default_rng(0).normal(size=extractor_of(settings).n_features_out_), 0.3, 1)
    found = evidence_map(score, settings, pictures[0])
    assert (found.elsewhere != 0 or pooling == "max") and len(set(found.parts[0].grid.shape)) == 1
    agrees(found, settings, pictures[0], score)


def test_a_hidden_layer_after_the_maps_has_no_exact_evidence_but_grad_cam(pictures, tmp_path):
    settings = with_random_weights(make_settings("paper", image_size=96, augment=0), tmp_path)
    X = extractor_of(settings).transform(pictures)
    svm = make_classifier("svm").fit(X, np.arange(12) % 2)
    with pytest.raises(NotLinear, match="fc7"): evidence_map(linear_score(svm, 1), settings, pictures[0])
    told = explain_image(svm, settings, pictures[0], X, np.arange(12) % 2, x=X[0])
    assert told.evidence.method == "grad-cam" and "fc7" in told.why
    assert told.evidence.score == pytest.approx(told.score, abs=1e-3) and told.evidence.parts[0].grid.size > 1


def test_with_all_eight_views_the_map_of_a_turned_image_is_the_turned_map(pictures):
    settings = make_settings("imagenet", layers=["blocks.4"], views=VIEWS, image_size=128)
    score = LinearScore(np.random.default_rng(1).normal(size=112), 0.0, 1)
    picture = resize(pictures[2], 128)  # so that no later resizing rounds a turned image in another way
    upright = evidence_map(score, settings, picture).parts[0].grid
    for name in ("rot90", "antitranspose", "flipud"):
        turned = evidence_map(score, settings, view(picture, name)).parts[0].grid
        np.testing.assert_allclose(turned, view(upright[..., None], name)[..., 0], atol=1e-3 * np.abs(upright).max())


@given(h=st.integers(1, 20), w=st.integers(1, 20), height=st.integers(1, 60), width=st.integers(1, 60),
       box=st.sampled_from([(0, 0, 1, 1), (0.1, 0.2, 0.7, 0.9)]), seed=st.integers(0, 9))
@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
def test_spreading_a_grid_over_an_image_keeps_its_sum(h, w, height, width, box, seed):
    if box != (0, 0, 1, 1): height, width = height + 10, width + 10  # the part of the image under the crop has pixels
    grid = np.random.default_rng(seed).normal(size=(h, w))
    spread = Evidence(0.0, 1, None, "exact", (Part("whole", "a", grid, box),)).on(height, width)
    assert spread.shape == (height, width) and spread.sum(dtype=float) == pytest.approx(grid.sum(),
        abs=1e-4 * np.abs(grid).sum() + 1e-6)


@pytest.mark.parametrize("before", [[], [StandardScaler()], [RobustScaler(), MinMaxScaler()],
                                    [StandardScaler(), PCA(7, random_state=0)],
                                    [PCA(9, whiten=True, random_state=0), StandardScaler()]])
def test_affine_steps_and_a_linear_classifier_fold_into_one_weight_per_feature(table, before):
    X, y = table
    two = make_pipeline(*before, SVC(kernel="linear")).fit(X[:40], y[:40])
    for target, sign in ((1, 1), (0, -1)):
        np.testing.assert_allclose(linear_score(two, target)(X), sign * scores(two, X), rtol=1e-3, atol=1e-3)


def test_of_several_classes_pairs_of_a_support_vector_machine_and_rows_of_a_logistic_regression_are_explained(table):
    X, y = table
    svm = make_pipeline(StandardScaler(), SVC(kernel="linear", decision_function_shape="ovo")).fit(X, y)
    margins = svm.decision_function(X)
    for k, (a, b) in enumerate(itertools.combinations(range(3), 2)):
        np.testing.assert_allclose(linear_score(svm, a, b)(X), margins[:, k], atol=1e-3)
        np.testing.assert_allclose(linear_score(svm, b, a)(X), -margins[:, k], atol=1e-3)
    with pytest.raises(NotLinear, match="vote"): linear_score(svm, 0)
    logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    np.testing.assert_allclose(linear_score(logistic, 2)(X), logistic.decision_function(X)[:, 2], atol=1e-3)
    np.testing.assert_allclose(linear_score(logistic, 2, 0)(X), np.diff(logistic.decision_function(X)[:, [0, 2]])[:, 0],
                               atol=1e-3)


def test_what_is_not_linear_is_refused_and_what_is_not_a_class_is_named(table):
    X, y = table
    for classifier in (make_classifier("tree"), make_classifier("ensemble"), make_classifier("svm", kernel="poly"),
                       make_pipeline(Normalizer(), SVC(kernel="linear"))):
        with pytest.raises(NotLinear): linear_score(classifier.fit(X[:40], y[:40]), 1)
    svm = make_classifier("svm").fit(X, y)
    with pytest.raises(InputError, match="class 7"): linear_score(svm, 7)
    with pytest.raises(InputError, match="against itself"): linear_score(svm, 1, 1)


@pytest.mark.parametrize("kernel", ["rbf", "poly", "sigmoid"])
def test_the_differentiable_score_of_a_curved_kernel_is_the_classifiers_own_and_so_is_its_slope(table, kernel):
    import torch

    X, y = table
    svm = make_classifier("svm", kernel=kernel, coef0=0.5).fit(X[:40], y[:40])
    for target, sign in ((1, 1), (0, -1)):
        score = torch_score(svm, target)
        x = torch.from_numpy(X[:5].astype(float)).requires_grad_()
        np.testing.assert_allclose(score(x).detach(), sign * svm.decision_function(X[:5].astype(float)), atol=1e-6)
        slope = torch.autograd.grad(score(x).sum(), x)[0].numpy()
        step = np.zeros_like(X[:5], float); step[:, 3] = 1e-4
        numeric = sign * (svm.decision_function(X[:5] + step) - svm.decision_function(X[:5] - step)) / 2e-4
        np.testing.assert_allclose(slope[:, 3], numeric, rtol=1e-3, atol=1e-6)


def test_grad_cam_of_a_linear_score_on_a_mean_is_the_exact_evidence_up_to_a_factor(pictures):
    settings = make_settings("imagenet", frames=["whole", "cell"], layers=["blocks.5"], views=["identity", "rot270"],
                             image_size=96)
    X = extractor_of(settings).transform(pictures)
    svm = make_classifier("svm").fit(X, np.arange(12) % 2)
    exact, cam = evidence_map(linear_score(svm, 1), settings, pictures[0]), grad_cam(torch_score(svm, 1), settings,
        pictures[0])
    for a, b in zip(exact.parts, cam.parts):
        assert (a.frame, a.box) == (b.frame, b.box) and np.corrcoef(a.grid.ravel(), b.grid.ravel())[0, 1] > 0.9999


def test_grad_cam_without_captum_says_what_to_install(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError, match=r"pip install 'leuknb\[explain\]'"):
        grad_cam(lambda x: x.sum(1), make_settings(), pictures[0])


def test_a_layer_that_is_no_map_and_a_file_that_is_no_image_are_refused(pictures):
    score = LinearScore(np.ones(1280), 0.0, 1)
    with pytest.raises(InputError, match="no map"):
        grad_cam(lambda x: x.sum(1), make_settings(), pictures[0], layer="classifier")
    with pytest.raises(UnreadableImage): evidence_map(score, make_settings(), b"not an image")
    with pytest.raises(InputError, match="3 features"):
        evidence_map(LinearScore(np.ones(3), 0.0, 1), make_settings(), pictures[0])
    with pytest.raises(InputError, match="reference"): evidence_map(score, make_settings(), pictures[0], np.ones(5))


def test_neighbours_are_those_that_scikit_learn_finds_in_the_classifiers_space_without_the_same_patient(table):
    X, y = table
    svm, group = make_classifier("svm").fit(X, y), np.arange(60) // 4
    Z = svm[:-1].transform(X)
    for distance in ("cosine", "euclidean"):
        others = group != group[7]
        far, near = NearestNeighbors(n_neighbors=5, metric=distance).fit(Z[others]).kneighbors(Z[[7]])
        rows, distances = neighbours(svm, X, X[7], 5, group == group[7], distance)
        np.testing.assert_array_equal(rows, np.flatnonzero(others)[near[0]])
        np.testing.assert_allclose(distances, far[0], atol=1e-5)
    assert len(neighbours(svm, X[:2], X[7], 5)[0]) == 2
    with pytest.raises(InputError, match="distance"): neighbours(svm, X, X[7], 5, distance="cosinus")


@pytest.fixture(scope="module")
def study():
    settings = make_settings(synthetic={"n_images": 40, "images_per_patient": 2, "difficulty": 0.8, "seed": 1},
                             image_size=96, n_splits=0, cv_repeats=0, classifiers=["svm", "tree"], tune=True, augment=1)
    dataset = load_dataset(settings)
    X, copies = extract(dataset, settings), (extract(dataset, settings, copy=1),)
    return dataset, settings, X, evaluate(X, dataset, settings, copies), copies


def test_the_holdouts_models_fitted_again_give_the_scores_of_the_table_also_when_tuned_and_augmented(study):
    dataset, settings, X, predictions, copies = study
    for model in settings.classifiers:
        held = refit_holdout(dataset, settings, X, predictions, model, copies)
        t = predictions[predictions.model == model].set_index("file_name").loc[held.who.file_name[held.test]]
        np.testing.assert_allclose(scores(held.pipeline, X[held.test]), t.score, atol=1e-4)


def test_no_test_image_and_no_patient_of_an_example_is_among_its_neighbours(study):
    dataset, settings, X, predictions, copies = study
    held = set(predictions.file_name)
    patient = dataset.usable.set_index("file_name").group
    found = explain_predictions(dataset, settings, X, predictions, copies=copies, n=6)
    assert len(found.rows) == 6
    for row in found.rows:
        assert row["file_name"] in held and len(row["neighbours"]) == 3
        assert not {n["file_name"] for n in row["neighbours"]} & held
        assert patient[row["file_name"]] not in {patient[n["file_name"]] for n in row["neighbours"]}
        assert row["average"] + row["inside_cell"] + row["outside_cell"] == pytest.approx(row["score"], abs=2e-3)
    assert all(short_name(r["file_name"]) in "".join(d.alt for d in found.drawn) for r in found.rows)


def test_the_examples_are_the_same_on_one_thread_and_on_two(study):
    import torch

    dataset, settings, X, predictions, copies = study
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(explain_predictions(dataset, settings, X, predictions, copies=copies, n=3).rows)
            assert torch.get_num_threads() == threads
    finally: torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_tree_has_no_map_but_neighbours_and_a_run_without_mistakes_no_page_of_mistakes(study):
    dataset, settings, X, predictions, copies = study
    tree = predictions[predictions.model == "tree"].assign(predicted=lambda t: t.label)
    found = explain_predictions(dataset, settings, X, tree, "tree", copies, n=2)
    assert [d.name for d in found.drawn] == ["surest"]
    assert found.why.startswith("No map") and [r["method"] for r in found.rows] == ["none", "none"]
    assert all(len(r["neighbours"]) == 3 for r in found.rows)


def test_examples_of_several_classes_are_explained_against_the_runner_up(study):
    dataset, settings, X, _, _ = study
    kinds = np.where(dataset.usable.label == "abnormal", "blast", np.where(np.arange(len(X)) % 2, "band", "mono"))
    many = type(dataset)("three", dataset.root, dataset.table.assign(label=kinds), ["band", "blast", "mono"], None,
                         True)
    run = settings.model_copy(update={"tune": False})
    predictions = evaluate(X, many, run)
    found = explain_predictions(many, run, X, predictions, n=4)
    assert len(found.rows) == 4 and all(r["method"] == "exact" and r["speaks_for"] == r["predicted"]
                                        for r in found.rows)
    assert " against " in "".join(d.alt for d in found.drawn)


def test_mistakes_come_surest_first_and_right_answers_take_turns_among_classes():
    t = pd.DataFrame({"file_name": list("abcdef"), "label": ["x", "x", "x", "y", "y", "y"],
                      "predicted": ["x", "y", "x", "y", "x", "y"], "score": [-3.0, 0.4, -2.0, 1.0, -0.9, 0.5]})
    t = t.assign(model="svm", scheme="holdout", split=0, group="")
    assert choose_examples(t, "svm", 8) == (["e", "b"], ["a", "d", "c", "f"])
    assert choose_examples(t, "svm", 2) == (["e"], ["a"])


def test_names_of_files_fit_a_figure_whatever_they_hold():
    assert short_name("../../x/<b>$a_1$\n.png") == "<b>$a_1$?.png"
    assert len(short_name("\u00e9" * 250 + ".jpg")) == 26


def test_a_map_that_is_the_models_own_sum_passes_and_a_random_map_does_not():
    """A model whose score is the mean darkness of the image, patch by patch weighted: its exact map wins every
    comparison, a random map none.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 120, (8, 56, 56, 3)).astype(np.uint8)
    images[:, :6] = 255  # clear glass
    weight = generator.normal(size=(14, 14))
    def places(rgb): return weight * (255 - rgb.astype(float).mean(2)).reshape(14, 4, 14, 4).mean((1, 3)) / 1000
    def score_of(pictures): return np.array([places(p).sum() for p in pictures])
    def evidence(grid, rgb):
        return Evidence(float(places(rgb).sum()), 1, None, "exact", (Part("whole", "a", grid, (0, 0, 1, 1)),))
    true = areas(curves(score_of, list(images), [evidence(places(p), p) for p in images], steps=7))
    assert (true.low > 0).all()
    blind = areas(curves(score_of, list(images), [evidence(generator.normal(size=(14, 14)), p) for p in images],
                         steps=7))
    assert (blind.low < 0).all() and (blind.area.abs() < true.area / 2).all()


def test_evidence_inside_a_mask_is_counted_and_maps_of_the_same_model_correlate_fully():
    e = Evidence(0.0, 1, None, "exact", (Part("whole", "a", np.array([[3.0, 0.0], [0.0, -1.0]]), (0, 0, 1, 1)),))
    mask = np.zeros((2, 2), bool); mask[0, 0] = True
    assert share_inside(e, mask) == pytest.approx({"area": 0.25, "positive": 1.0, "absolute": 0.75})
    nothing = Evidence(0.0, 1, None, "exact", (Part("whole", "a", np.zeros((2, 2)), (0, 0, 1, 1)),))
    assert np.isnan(share_inside(nothing, mask)["positive"])
    assert map_correlations([e], [e])[0] == pytest.approx(1) and np.isnan(map_correlations([e], [nothing])[0])
