"""Text-to-image and image-to-image retrieval, with rankings that are easy to verify."""

from dataclasses import replace

import numpy as np
import pytest
import pytrec_eval

from fashionclip.evaluate.retrieval import score_image_to_image, score_retrieval
from fashionclip.evaluate.tasks import Garment, ImageRef, ImageToImage, Retrieval
from fixed_encoder import FixedEncoder, refs

RED, BLUE, GREEN = np.eye(3, dtype=np.float32)
WORDS = {"red": RED, "blue": BLUE, "green": GREEN}
UNREADABLE = np.full(3, np.nan, np.float32)


def rows(*numbers):
    return np.array(numbers, np.int64)


def like(a, b, share=0.9):
    vector = share * a + (1 - share) * b
    return vector / np.linalg.norm(vector)


TASK = Retrieval(
    name="t",
    queries=("a red dress", "a blue dress"),
    documents=refs(RED, like(RED, BLUE, 0.6), like(BLUE, RED, 0.6), BLUE, GREEN),
    relevant=(rows(0, 2), rows(4)),
    figures=("mrr@3", "hit@1", "recall@2", "recall@3", "precision@10", "map@3", "ndcg@3"),
)


def test_rankings_can_be_checked_by_eye():
    found = score_retrieval(TASK, FixedEncoder(WORDS))
    values = {name: figure.value for name, figure in found.figures.items()}
    # red: documents 0, 1, 2 come first, of which 0 and 2 are right; blue: 3, 2, 1, none is right
    assert values == {
        "mrr@3": 0.5,
        "hit@1": 0.5,
        "recall@2": 0.25,
        "recall@3": 0.5,
        "precision@10": pytest.approx((2 + 1) / 10 / 2),
        "map@3": pytest.approx((1 + 2 / 3) / 2 / 2),
        "ndcg@3": pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)) / 2),
    }
    assert found.headline == "mrr@3"
    assert (found.n, found.left_out, found.warnings) == (2, 0, ())
    assert found.items["item"] == ["a red dress", "a blue dress"]
    assert found.items["hit@1"] == [1.0, 0.0]
    details = found.details
    assert (details["n_documents"], details["several_relevant"]) == (5, 0.5)
    assert details["random"]["hit@1"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert details["best"] == [
        {
            **{"query": "a red dress", "rank": 1, "relevant": ["p0", "p2"]},
            **{"top": ["p0", "p1", "p2", "p3", "p4"]},
        }
    ]
    assert [(worst["query"], worst["rank"]) for worst in details["worst"]] == [("a blue dress", 5)]
    assert set(found.shown) == {"p0", "p1", "p2", "p3", "p4"}


def test_figures_are_trec_evals():
    rng = np.random.default_rng(0)
    words = {f"query-{i:02}": vector for i, vector in enumerate(rng.normal(size=(40, 8)))}
    documents = refs(*rng.normal(size=(60, 8)).astype(np.float32))
    relevant = tuple(rng.choice(60, size=rng.integers(1, 9), replace=False) for _ in words)
    metrics = ("recall@10", "precision@1", "precision@10", "map@10", "ndcg@10", "hit@5")
    made = FixedEncoder(words)
    found = score_retrieval(Retrieval("t", tuple(words), documents, relevant, metrics), made)
    cosines = made.encode_text(list(words)) @ made.encode_images(documents).T
    run = {
        query: {f"p{i}": float(score) for i, score in enumerate(scores)}
        for query, scores in zip(words, cosines, strict=True)
    }
    qrels = {
        query: {f"p{i}": 1 for i in right} for query, right in zip(words, relevant, strict=True)
    }
    names = {"precision": "P", "map": "map_cut", "ndcg": "ndcg_cut", "hit": "success"}
    for name in metrics:
        metric, _, k = name.partition("@")
        measure = f"{names.get(metric, metric)}.{k}"
        theirs = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
        expected = [theirs[query][measure.replace(".", "_")] for query in words]
        np.testing.assert_allclose(found.items[name], expected, atol=1e-9)
        assert found.figures[name].value == pytest.approx(np.mean(expected), abs=1e-9)


def test_documents_can_be_images_joined_with_their_words():
    plain, named = ImageRef("plain", np.array([BLUE])), ImageRef("named", np.array([GREEN]), "red")
    task = Retrieval("t", ("red",), (plain, named), (rows(1),), ("mrr@1",), image_weight=0.5)
    found = score_retrieval(task, FixedEncoder(WORDS))
    assert found.figures["mrr@1"].value == 1
    # without its title the named document is no closer than the plain one, which comes first
    assert (
        score_retrieval(replace(task, image_weight=1.0), FixedEncoder(WORDS)).figures["mrr@1"].value
        == 0
    )


def test_an_unreadable_image_is_no_document_and_is_named_in_a_warning():
    broken = replace(TASK, documents=(*TASK.documents[:4], *refs(UNREADABLE, name="broken")))
    found = score_retrieval(broken, FixedEncoder(WORDS))
    assert (found.n, found.left_out, found.details["n_documents"]) == (1, 1, 4)
    assert found.warnings == (
        "1 of 5 pictures could not be read and are left out: broken0.",
        "1 of 2 queries have no relevant picture and are left out: 'a blue dress'.",
    )


def test_figures_without_the_queries_that_were_seen():
    found = score_retrieval(TASK, FixedEncoder(WORDS), seen=np.array([True, False]))
    assert (found.n, found.n_seen) == (2, 1)
    assert (found.unseen["hit@1"].value, found.unseen["hit@1"].n) == (0.0, 1)
    everything = score_retrieval(TASK, FixedEncoder(WORDS), seen=np.ones(2, bool))
    assert everything.unseen == {}
    assert "trained on all 2 queries" in everything.warnings[-1]


def test_queries_with_equal_words_have_different_names():
    twice = replace(TASK, queries=("red", "red", "red (2)"), relevant=(rows(0), rows(1), rows(2)))
    assert score_retrieval(twice, FixedEncoder(WORDS)).items["item"] == [
        "red",
        "red (3)",
        "red (2)",
    ]


def test_a_task_without_answers_has_no_figures_and_a_warning():
    empty = Retrieval("t", (), TASK.documents, ())
    assert score_retrieval(empty, FixedEncoder(WORDS)).warnings == (
        "There is nothing to measure: it has no queries.",
    )
    lost = replace(TASK, relevant=(rows(), rows()))
    found = score_retrieval(lost, FixedEncoder(WORDS))
    assert (found.figures, found.left_out) == ({}, 2)
    assert "no query has a relevant picture" in found.warnings[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"figures": ("mrr",)}, "there is no metric 'mrr' of rankings; write recall@10"),
        ({"figures": ("recall@0",)}, "no metric 'recall@0'"),
        ({"relevant": (rows(0),)}, "2 queries have 1 lists of documents"),
        ({"relevant": (rows(0), rows(5))}, "rows go from 0 to 5, and there are 5 documents"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        score_retrieval(replace(TASK, **change), FixedEncoder(WORDS))


# image to image


def garments(*described):
    """Garments with a vector, a category and attributes each."""
    return tuple(
        Garment(image, category, frozenset(words.split()))
        for image, (_, category, words) in zip(
            refs(*(vector for vector, _, _ in described)), described, strict=True
        )
    )


WARDROBE = garments(
    (RED, "dress", "red long"),
    (like(RED, BLUE, 0.9), "dress", "red short"),
    (like(RED, BLUE, 0.8), "dress", "red long"),
    (like(RED, BLUE, 0.7), "skirt", "red long"),
    (like(GREEN, BLUE, 0.9), "skirt", ""),
)
ALIKE = ImageToImage("t", WARDROBE, WARDROBE)


def test_likeness_can_be_checked_by_eye():
    found = score_image_to_image(ALIKE, FixedEncoder(WORDS))
    items = found.items
    assert items["item"] == ["p0", "p1", "p2", "p3", "p4"]
    # nearest of each, but for itself: 1, 2 or 0, 1 or 3, 2, 3
    assert items["coarse_recall@1"][0] == 1
    assert items["coarse_recall@1"][3:] == [0, 1]
    # 0 wants long: 1 is short; 1 has no similar one; 4 has no attributes
    assert items["fine_recall@1"][0] == 0
    assert np.isnan(items["fine_recall@1"][1])
    assert np.isnan(items["fine_recall@1"][4])
    assert found.figures["coarse_recall@1"].n == 5
    assert found.figures["fine_recall@1"].n == 2
    best = 1 + (1 / 3) / np.log2(3)
    assert items["ndcg@5"][0] == pytest.approx((1 / 3 + 1 / np.log2(3)) / best)
    assert any("fine_recall@1 is over the other 2" in warning for warning in found.warnings)


def test_an_image_is_not_its_own_answer():
    found = score_image_to_image(ALIKE, FixedEncoder(WORDS))
    for example in (*found.details["best"], *found.details["worst"]):
        assert example["query"] not in example["top"]
        assert example["query"] in found.shown
    elsewhere = replace(ALIKE, documents=tuple(
        replace(g, image=replace(g.image, image_id=f"shop-{i}"))
        for i, g in enumerate(WARDROBE)
    ))  # fmt: skip
    copies = score_image_to_image(elsewhere, FixedEncoder(WORDS))
    assert copies.figures["coarse_recall@1"].value == 1
    assert copies.figures["fine_recall@1"].n == 4


def test_a_query_without_a_document_of_its_category_is_left_out_with_a_warning():
    lonely = (*WARDROBE[:3], *garments((GREEN, "hat", "green"))[:1])
    lonely = tuple(
        replace(g, image=replace(g.image, image_id=f"q{i}")) for i, g in enumerate(lonely)
    )
    broken = Garment(ImageRef("broken", np.array([UNREADABLE])), "dress")
    found = score_image_to_image(ImageToImage("t", (*lonely, broken), lonely), FixedEncoder(WORDS))
    assert (found.n, found.left_out) == (3, 2)
    assert found.warnings[0] == "1 of 5 queries could not be read and are left out: broken."
    assert "no other picture of their category and are left out: q3." in found.warnings[1]
    seen = score_image_to_image(
        ImageToImage("t", (broken, *lonely), lonely),
        FixedEncoder(WORDS),
        seen=np.array([False, True, False, False, False]),
    )
    assert seen.items["seen"] == [True, False, False]
    assert seen.unseen["coarse_recall@1"].n == 2


def test_no_queries_and_no_matches_are_named_in_a_warning():
    empty = score_image_to_image(ImageToImage("t", (), WARDROBE), FixedEncoder(WORDS))
    assert "it has no queries" in empty.warnings[-1]
    alone = score_image_to_image(ImageToImage("t", WARDROBE[:1], WARDROBE[:1]), FixedEncoder(WORDS))
    assert (alone.figures, alone.left_out) == ({}, 1)
    with pytest.raises(ValueError, match="t: 'seen' marks 1 of 5"):
        score_image_to_image(ALIKE, FixedEncoder(WORDS), seen=np.ones(1, bool))
