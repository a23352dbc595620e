"""The simulator: what it promises about determinism, counts, independence, masks, copies and files."""

import io
import threading
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from leuknb.core import InputError, rng
from leuknb.settings import Settings, SyntheticSettings
from leuknb.data.smears import beer_lambert, CELL_TYPES, draw_patient, draw_smear, draw_traits, MICROSCOPES, STAINS
from leuknb.data.synthetic import (
    COPY_KINDS, copy_picture, draw_batch, draw_planned, HARDER, plan_smears, read_masks, synthetic_folder, write_smears)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "A drawn set of 40 pictures with two copies of each kind, one of them relabelled."
    out = write_smears(tmp_path_factory.mktemp("smears") / "set", SyntheticSettings(n_images=40, duplicates=12, seed=3),
                       relabelled=1)
    return out, pd.read_csv(out / "metadata.csv", keep_default_na=False)


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def colour_auroc(batch):
    rgb = batch.rgb.astype(float)
    model, X = make_pipeline(StandardScaler(), LogisticRegression()), np.c_[rgb.mean((1, 2)), rgb.std((1, 2))]
    scores = cross_val_predict(model, X, batch.y, groups=batch.groups, cv=StratifiedGroupKFold(5),
                               method="decision_function")
    return roc_auc_score(batch.y, scores)


# determinism


def test_same_settings_give_the_same_bytes_on_one_and_two_threads(tmp_path, small):
    again = write_smears(tmp_path / "again", SyntheticSettings(n_images=40, duplicates=12, seed=3), relabelled=1,
                         threads=1)
    assert everything(again) == everything(small[0])


def test_another_seed_gives_other_pictures():
    a, b = (draw_batch(SyntheticSettings(n_images=4, seed=s), side=48).rgb for s in (0, 1))
    assert (a != b).any(axis=(1, 2, 3)).all()


def test_a_picture_depends_on_its_row_alone():
    rows = list(plan_smears(SyntheticSettings(n_images=6)).itertuples())
    forwards = [draw_planned(row, side=48).rgb for row in rows]
    backwards = [draw_planned(row, side=48).rgb for row in rows[::-1]]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards[::-1]))


# counts, patients, microscopes


def test_default_counts_are_those_of_the_paper():
    plan = plan_smears()
    assert plan.label.value_counts().to_dict() == {"abnormal": 99, "normal": 96}
    assert plan.groupby("patient_id").label.nunique().max() == 1
    assert plan.groupby("patient_id").size().between(4, 5).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 300), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**40), st.data())
def test_any_plan_keeps_its_counts(n, per_patient, scopes, seed, data):
    n_abnormal = data.draw(st.none() | st.integers(0, n))
    wanted = round(n * 99 / 195) if n_abnormal is None else n_abnormal
    plan = plan_smears(SyntheticSettings(n_images=n, n_abnormal=n_abnormal, images_per_patient=per_patient,
                                         n_microscopes=scopes, seed=seed))
    assert len(plan) == n and (plan.label == "abnormal").sum() == wanted
    assert plan.key.is_unique and plan.groupby("patient_id").size().max() <= per_patient
    assert plan.scope.between(0, scopes - 1).all()
    counts = pd.crosstab(plan.label, plan.scope)
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all() or len(counts.columns) < scopes


@pytest.mark.parametrize("seed", range(5))
def test_microscope_and_label_are_independent_by_default_and_tied_by_confounding(seed):
    free, tied = (plan_smears(SyntheticSettings(seed=seed, confounding=c)) for c in (0, 1))
    assert chi2_contingency(pd.crosstab(free.label, free.scope)).pvalue > 0.9
    assert tied.groupby("scope").label.nunique().eq(1).all() and tied.scope.nunique() == 2


def test_confounding_grows_from_independent_to_tied():
    def association(c):
        plan = plan_smears(SyntheticSettings(confounding=c))
        table = pd.crosstab(plan.label, plan.scope)
        return chi2_contingency(table).statistic / len(plan)

    values = [association(c) for c in (0, 0.3, 0.6, 1)]
    assert values == sorted(values) and values[0] < 0.01 and values[-1] > 0.9


def test_colours_do_not_tell_the_class_by_default_and_do_when_confounded():
    assert colour_auroc(draw_batch(SyntheticSettings(n_images=195, seed=11), side=48)) < 0.7
    assert colour_auroc(draw_batch(SyntheticSettings(n_images=80, seed=11, confounding=1), side=48)) > 0.95


def test_file_names_and_their_order_do_not_tell_the_class(small):
    _, table = small
    assert table.file_name.str.fullmatch(r"(normal|abnormal)/smear_\d{4}\.(jpg|png)").all()
    plan = plan_smears()
    assert abs(roc_auc_score(plan.label == "abnormal", plan.number) - 0.5) < 0.12
    assert abs(roc_auc_score(plan.label == "abnormal", plan.patient_id.str[1:].astype(int)) - 0.5) < 0.2


# sites and a harder subgroup


def test_sites_and_the_hard_group_are_of_patients_and_do_not_tell_the_class():
    plan = plan_smears(SyntheticSettings(n_sites=3, hard_group=0.3, duplicates=10))
    patients = plan.groupby("patient_id")[["site", "subgroup", "label"]].agg(["nunique", "first"])
    assert (patients.xs("nunique", axis=1, level=1) == 1).all(axis=None)
    patients = patients.xs("first", axis=1, level=1)
    for column in ("site", "subgroup"):
        assert chi2_contingency(pd.crosstab(patients.label, patients[column])).pvalue > 0.9
    assert set(patients.site) == {"site 1", "site 2", "site 3"}
    assert abs((patients.subgroup == "hard").mean() - 0.3) < 0.05


def test_a_site_has_its_own_colour_and_the_hard_group_blasts_nearer_to_normal_cells():
    batch = draw_batch(SyntheticSettings(n_images=120, n_sites=3, hard_group=0.5), side=48)
    colour, truth = batch.rgb.mean((1, 2)), batch.truth
    middle = np.stack([colour[truth.site == s].mean(0) for s in sorted(set(truth.site))])
    within = np.mean([colour[truth.site == s].std(0) for s in set(truth.site)])
    assert max(np.linalg.norm(a - b) for a in middle for b in middle) > 1.5 * within
    hard = truth.groupby("subgroup").maturity.mean()
    assert abs(hard["hard"] - hard["usual"] - HARDER) < 0.12  # three standard errors of six patients a group


def test_one_site_and_no_hard_group_leave_the_pictures_as_they_were(small):
    plain = draw_batch(SyntheticSettings(n_images=6), side=48)
    sites = draw_batch(SyntheticSettings(n_images=6, n_sites=2), side=48)
    hard = draw_batch(SyntheticSettings(n_images=6, hard_group=1), side=48)
    assert not {"site", "subgroup"} & {*plain.truth} and not {"site", "subgroup"} & {*small[1]}
    assert (plain.rgb != sites.rgb).any((1, 2, 3)).all()
    assert np.array_equal(plain.rgb[plain.y == 0], hard.rgb[hard.y == 0])  # normal cells are the same


# stain

amounts = arrays(np.float32, (len(STAINS), 3, 3), elements=st.floats(0, 2, width=32))


@settings(max_examples=50, deadline=None)
@given(amounts, amounts)
def test_layers_of_stain_multiply_their_light(a, b):
    assert np.allclose(beer_lambert(a + b), beer_lambert(a) * beer_lambert(b), rtol=1e-4, atol=1e-6)
    assert (beer_lambert(a) <= 1).all() and (beer_lambert(a + b) <= beer_lambert(a) * (1 + 1e-5)).all()


def test_optical_density_is_linear_in_stain():
    one = np.zeros((len(STAINS), 1, 1), np.float32)
    one[0] = 0.4
    densities = [-np.log10(beer_lambert(k * one))[0, 0] for k in (1, 2, 3)]
    assert np.allclose(densities, np.outer((1, 2, 3), densities[0]), rtol=1e-4)
    assert np.allclose(densities[0], 0.4 * np.array(STAINS["azure"]), rtol=1e-4)


# cells and masks


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_masks_agree_with_the_truth(cell_type):
    scope = MICROSCOPES[1]
    for seed in range(3):
        smear = draw_smear([cell_type, "lymphocyte"], draw_patient(rng(seed, "p")), scope, rng(seed, "s"))
        white, nucleus, blast = smear.masks["white"], smear.masks["nucleus"], smear.masks["blast"]
        assert smear.rgb.shape == (scope.height, scope.width, 3) and smear.rgb.dtype == np.uint8
        assert set(np.unique(white)) <= {0, 1, 2} and (white > 0).any()
        assert not (nucleus & (white == 0)).any() and not (smear.masks["red"] & (white > 0)).any()
        assert blast.any() == (cell_type == "myeloblast") and not (blast & (white != 1)).any()
        assert smear.truth["n_white"] == 2 and smear.truth["n_blasts"] == int(cell_type == "myeloblast")
        assert smear.truth["nucleus_ratio"] == pytest.approx(nucleus.sum() / (white > 0).sum())


def test_nuclei_are_darker_than_cytoplasm_and_cytoplasm_darker_than_glass():
    smear = draw_smear(["lymphocyte"], draw_patient(rng(0, "p")), MICROSCOPES[0], rng(1, "s"))
    grey, m = smear.rgb.mean(2), smear.masks
    cell = m["white"] > 0
    glass = ~(cell | m["red"] | m["platelet"])
    assert grey[m["nucleus"]].mean() + 30 < grey[cell & ~m["nucleus"]].mean() < grey[glass].mean() - 10


def test_a_whole_cell_has_the_size_and_nucleus_it_was_asked_for():
    scope, generator = MICROSCOPES[0], rng(0, "size")
    for _ in range(8):
        smear = draw_smear(["myeloblast"], draw_patient(generator), scope, generator)
        white, cell = smear.masks["white"] > 0, smear.cells[0]
        if white[[0, -1]].any() or white[:, [0, -1]].any(): continue
        assert white.sum() / scope.scale**2 == pytest.approx(np.pi * cell.diameter**2 / 4, rel=0.12)
        assert smear.truth["nucleus_ratio"] == pytest.approx(cell.ratio, abs=0.1)


def test_blasts_at_difficulty_1_are_drawn_like_their_host():
    for host in ("lymphocyte", "eosinophil"):
        blasts = [draw_traits("myeloblast", rng(i, "b"), 1.0, host) for i in range(300)]
        hosts = [draw_traits(host, rng(i, "h")) for i in range(300)]
        for trait in ("diameter", "ratio", "contrast", "coarse", "basophilia"):
            a, b = (np.array([getattr(c, trait) for c in cells]) for cells in (blasts, hosts))
            assert abs(a.mean() - b.mean()) < 4 * np.hypot(a.std(), b.std()) / np.sqrt(300) + 1e-9
        assert not any(c.auer for c in blasts)


def test_blasts_at_difficulty_0_stand_apart():
    traits = pd.DataFrame([{"type": t, "ratio": c.ratio, "contrast": c.contrast} for t in CELL_TYPES
                           for c in (draw_traits(t, rng(i, t)) for i in range(100))])
    blasts, others = traits[traits.type == "myeloblast"], traits[traits.type != "myeloblast"]
    assert blasts.contrast.max() < others.contrast.min() and blasts.ratio.median() > others.ratio.quantile(0.9)


# copies


def test_planted_copies_are_recorded_and_counted(small):
    out, table = small
    copies = table[table.duplicate_of != ""]
    assert len(table) == 40 and len(copies) == 12 and table.label.value_counts()["abnormal"] == 20
    assert copies.duplicate_kind.value_counts().to_dict() == dict.fromkeys(COPY_KINDS, 2)
    assert copies.duplicate_of.isin(table.file_name).all() and not copies.duplicate_of.isin(copies.file_name).any()
    sources = table.set_index("file_name").loc[copies.duplicate_of]
    assert (sources.patient_id.to_numpy() == copies.patient_id.to_numpy()).all()
    assert (sources.label.to_numpy() != copies.label.to_numpy()).sum() == 1


def test_each_copy_is_what_its_kind_says(small):
    out, table = small
    for row in table[table.duplicate_of != ""].itertuples():
        a, b = (out / name for name in (row.duplicate_of, row.file_name))
        one, two = (np.asarray(Image.open(p).convert("RGB")).astype(float) for p in (a, b))
        assert (a.read_bytes() == b.read_bytes()) == (row.duplicate_kind == "exact")
        if row.duplicate_kind == "reencoded": assert np.abs(one - two).mean() < 4
        if row.duplicate_kind == "rotated":
            assert min(np.abs(np.rot90(one, k) - two).mean() for k in (1, 2, 3)
                       if np.rot90(one, k).shape == two.shape) < 4
        if row.duplicate_kind == "flipped": assert min(np.abs(np.flip(one, k) - two).mean() for k in (0, 1)) < 4
        if row.duplicate_kind == "resized": assert 0.65 < two.shape[0] / one.shape[0] < 0.95
        if row.duplicate_kind == "cropped": assert 0.84 < two.size / one.size < 1


def test_copies_keep_the_counts_for_any_number():
    for k in range(0, 21, 4):
        plan = plan_smears(SyntheticSettings(n_images=41, duplicates=k))
        assert len(plan) == 41 and (plan.copy_of != "").sum() == k and (plan.label == "abnormal").sum() == 21


@pytest.mark.parametrize("kind", COPY_KINDS)
def test_masks_are_turned_with_their_picture(kind):
    rgb = rng(0, "x").integers(0, 255, (40, 60, 3), dtype=np.uint8)
    mask = rgb[..., 0] > 128
    a, b = copy_picture(rgb, kind, rng(1, "c")), copy_picture(mask.astype(np.uint8), kind, rng(1, "c"))
    assert a.shape[:2] == b.shape
    if kind != "resized": assert np.array_equal(a[..., 0] > 128, b > 0)


# files


def test_written_masks_fit_their_pictures(small):
    out, table = small
    for row in table.itertuples():
        masks = read_masks(out / row.mask)
        with Image.open(out / row.file_name) as image: assert masks["white"].shape == image.size[::-1]
        assert not (masks["nucleus"] & ~masks["white"]).any()
        assert masks["blast"].any() == (row.n_blasts > 0)
    originals = table[table.duplicate_of == ""]
    assert ((originals.label == "abnormal") == (originals.n_blasts > 0)).all()
    assert ((originals.label == "abnormal") == (originals.cell_type == "myeloblast")).all()


def test_frames_are_of_several_sizes_and_nearly_all_jpeg():
    plan = plan_smears()
    assert plan.scope.nunique() == 3
    assert all(300 <= side <= 480 for m in MICROSCOPES for side in (m.width, m.height))


def test_the_set_is_drawn_once_and_mended_when_something_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path))
    wanted = Settings(synthetic=SyntheticSettings(n_images=6))
    folder = synthetic_folder(wanted)
    before, stamp = everything(folder), (folder / "metadata.csv").stat().st_mtime_ns
    assert synthetic_folder(wanted) == folder and (folder / "metadata.csv").stat().st_mtime_ns == stamp
    next(folder.glob("normal/*")).unlink()
    assert everything(synthetic_folder(wanted)) == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_two_runs_at_once_end_with_one_whole_set(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path))
    wanted, found = Settings(synthetic=SyntheticSettings(n_images=6)), []
    runs = [threading.Thread(target=lambda: found.append(synthetic_folder(wanted))) for _ in range(2)]
    for r in runs: r.start()
    for r in runs: r.join()
    assert len(found) == 2 and found[0] == found[1] and len(pd.read_csv(found[0] / "metadata.csv")) == 6
    assert [p.name for p in found[0].parent.iterdir()] == [found[0].name]


def test_a_run_that_breaks_leaves_nothing(tmp_path, monkeypatch):
    from leuknb.data import synthetic

    def broken(*args): raise OSError("disk full")

    monkeypatch.setattr(synthetic, "encode", broken)
    with pytest.raises(OSError, match="disk full"): write_smears(tmp_path / "set", SyntheticSettings(n_images=4))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"): write_smears(tmp_path, SyntheticSettings(n_images=4))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "bad, said",
    [
        ({"n_images": 10, "n_abnormal": 11}, "n_abnormal = 11"),
        ({"n_images": 10, "duplicates": 6}, "duplicates = 6"),
        ({"n_images": 10, "n_microscopes": 1, "confounding": 0.5}, "n_microscopes"),
    ],
)
def test_impossible_settings_are_refused_by_name(bad, said):
    with pytest.raises(InputError, match=said): plan_smears(SyntheticSettings(**bad))


def test_the_pictures_hold_no_metadata(small):
    out, table = small
    for name in table.file_name:
        image = Image.open(io.BytesIO((out / name).read_bytes()))
        assert not image.getexif() and "comment" not in image.info and not getattr(image, "text", {})


def test_drawing_is_fast_enough_for_a_default_set():
    rows = list(plan_smears().head(12).itertuples())
    start = time.process_time()
    for row in rows: draw_planned(row)
    assert (time.process_time() - start) / len(rows) * 195 / 2 < 30  # seconds on two cores, twice the promise


# flipped labels and patients of mixed cells


def test_flips_and_mixed_patients_are_off_by_default_and_change_no_other_picture():
    plain, both = plan_smears(SyntheticSettings(n_images=40)), SyntheticSettings(n_images=40, flipped=0.1)
    assert not {"true_label", "blast_share"} & set(plain)
    flipped = plan_smears(both)
    assert (flipped.key == plain.key).all() and (flipped.true_label == plain.label).all()
    row, other = next(flipped.itertuples()), next(plain.itertuples())
    assert np.array_equal(draw_planned(row, both, 48).rgb, draw_planned(other, SyntheticSettings(n_images=40), 48).rgb)


@pytest.mark.parametrize("share", (0.05, 0.2))
def test_so_many_labels_are_wrong_and_the_truth_is_kept(share, tmp_path):
    out = write_smears(tmp_path / "set", SyntheticSettings(n_images=40, duplicates=4, flipped=share, seed=2))
    table = pd.read_csv(out / "metadata.csv", keep_default_na=False)
    wrong = table.label != table.true_label
    assert (wrong & (table.duplicate_of == "")).sum() == round(share * 36)
    assert (table.file_name.str.split("/").str[0] == table.label).all()
    assert (table.cell_types.str.contains("myeloblast") == (table.true_label == "abnormal")).all()
    copies = table[table.duplicate_of != ""].set_index("duplicate_of")
    assert (table.set_index("file_name").label[copies.index] == copies.label).all()


def test_mixed_patients_hold_both_classes_and_the_counts_stay():
    wanted = SyntheticSettings(n_images=120, images_per_patient=10, mixed=0.5, n_abnormal=50)
    plan = plan_smears(wanted)
    kinds = plan.groupby("patient_id").label.nunique()
    assert (plan.label == "abnormal").sum() == 50 and (kinds == 2).sum() == 6
    share = (plan.label == "abnormal").groupby(plan.patient_id).mean()
    assert np.allclose(plan.groupby("patient_id").blast_share.first(), share)
    assert (plan_smears(wanted).label == plan.label).all()
