"""A run of two models on six tasks with made-up results, and images of generated products."""

import base64
from functools import cache

import numpy as np

from encoded_images import image_bytes
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult
from fashionclip.sample import CATEGORIES, generate_image, sample_products

FMNIST = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
KAGL = tuple(
    f"{kind} {garment}".strip().capitalize()
    for kind in ("", "sports", "formal", "ethnic")
    for garment in (*tuple(CATEGORIES)[:15], "socks & tights")
)[:62]
CHANGES = {
    "full stop": (0.031, -0.004, -0.012, 0.005),
    "plural": (0.064, -0.013, -0.021, -0.006),
    "capital": (0.012, 0.001, -0.003, 0.004),
    "synonym": (0.148, -0.061, -0.074, -0.047),
}
"""Share of labels that change; difference of accuracy, with its interval."""
N_IMAGES = 36
MODELS = (
    ModelInfo(
        *("builtin", "3f9a2c", 512, "cpu bfloat16", "12,000 products of the Kaggle listing"),
        seconds=192.4,
        encoding_seconds=170.1,
    ),
    ModelInfo("patrickjohncyh/fashion-clip", "77ab01", 512, "cpu bfloat16", seconds=4.2),
)


@cache
def product_images() -> tuple[str, ...]:
    """Data URIs of small generated products."""
    uris = []
    for product in sample_products(N_IMAGES, seed=3):
        image = generate_image(product.attributes, seed=product.seed).resize((120, 160))
        encoded = base64.b64encode(image_bytes(image, quality=70)).decode()
        uris.append("data:image/jpeg;base64," + encoded)
    return tuple(uris)


def figure(value: float, n: int) -> Figure:
    half = 1.96 * float(np.sqrt(max(value * (1 - value), 1e-4) / n))
    return Figure(value, max(0.0, value - half), min(1.0, value + half), n)


def image_ids(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


def zero_shot(
    task: str, classes: tuple[str, ...], *, right: float, n: int, seed: int, n_seen: int = 0
) -> TaskResult:
    """Results with a given accuracy; most wrong labels are those of a few similar classes."""
    rng = np.random.default_rng(5)
    truth = np.sort(rng.integers(0, len(classes), n))
    rng = np.random.default_rng(seed)
    ease = right + 0.2 * np.cos(np.arange(len(classes)) * 1.7)
    near = (truth + rng.choice([1, 2, len(classes) - 1], n)) % len(classes)
    wrong = np.where(rng.random(n) < 0.7, near, rng.integers(0, len(classes), n))
    predicted = np.where(rng.random(n) < ease[truth], truth, wrong)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (truth, predicted), 1)
    hits = np.diag(confusion)
    precision = hits / np.maximum(confusion.sum(0), 1)
    recall = hits / np.maximum(confusion.sum(1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    counts = confusion.sum(1)
    weighted = float((f1 * counts).sum() / n)
    cells = sorted(
        (-int(confusion[i, j]), i, j)
        for i in range(len(classes))
        for j in range(len(classes))
        if i != j and confusion[i, j]
    )[:8]
    figures = {
        "weighted_f1": figure(weighted, n),
        "macro_f1": figure(float(f1.mean()), n),
        "accuracy": figure(float(hits.sum() / n), n),
        "top_5": figure(min(0.99, weighted + 0.2), n),
    }
    unseen = {
        name: figure(max(0.0, value.value - 0.06), n - n_seen)
        for name, value in figures.items()
        if n_seen
    }
    styles = {"bare": -0.041, "product": -0.012, "ensemble": 0.0, "synonyms": -0.02}
    ids = image_ids(N_IMAGES)
    return TaskResult(
        task=task,
        kind="zero-shot",
        headline="weighted_f1",
        n=n,
        left_out=2,
        figures=figures,
        n_seen=n_seen,
        unseen=unseen,
        notes=("White on black pictures are inverted and padded to a product picture.",),
        warnings=("2 pictures could not be read and are left out: img-17, img-233",),
        shown=tuple(ids),
        details={
            "classes": list(classes),
            "confusion": confusion.tolist(),
            "per_class": [
                {
                    "name": name,
                    "precision": figure(float(precision[i]), max(1, int(confusion[:, i].sum()))),
                    "recall": figure(float(recall[i]), max(1, int(counts[i]))),
                    "f1": figure(float(f1[i]), max(1, int(counts[i]))),
                }
                for i, name in enumerate(classes)
            ],
            "confused": [
                {
                    "truth": classes[i],
                    "predicted": classes[j],
                    "n": -n,
                    "pictures": [ids[(4 * k + m) % N_IMAGES] for m in range(4)],
                }
                for k, (n, i, j) in enumerate(cells)
            ],
            "prompts": {
                "chosen": "ensemble",
                "by": "development",
                "development": "every tenth training picture",
                "n_development": 600,
                "styles": {
                    style: {
                        "development": figure(weighted + d + 0.01, 600),
                        "test": figure(weighted + d, n),
                    }
                    for style, d in styles.items()
                },
                "words": {
                    name: [f"a photo of a {name.lower()}", f"{name.lower()}, product picture"]
                    for name in classes
                },
                "changes": {
                    change: {"flips": figure(flips, n), "accuracy": Figure(gain, *ends, n)}
                    for change, (flips, gain, *ends) in CHANGES.items()
                },
            },
        },
        items={
            "item": [f"img-{i}" for i in range(n)],
            "truth": [classes[t] for t in truth],
            "predicted": [classes[p] for p in predicted],
            "seen": [i < n_seen for i in range(n)],
        },
    )


def retrieval(task: str, *, right: float, n: int, seed: int) -> TaskResult:
    rng = np.random.default_rng(seed)
    rank = 1 + rng.geometric(right, n)
    columns = {
        "mrr@10": np.where(rank <= 10, 1 / rank, 0.0),
        "recall@1": (rank == 1) * 0.8,
        "recall@10": (rank <= 10) * 0.9,
        "hit@10": (rank <= 10) * 1.0,
    }
    columns["recall@1"] = (rank <= 2) * 0.8
    ids = image_ids(N_IMAGES)

    def shown(place: int, first: int) -> dict[str, object]:
        product = sample_products(N_IMAGES, seed=3)[place]
        top = [ids[(place + 3 * k) % N_IMAGES] for k in range(5)]
        relevant = [ids[place]] if first == 1 else [ids[(place + 17) % N_IMAGES]]
        return {"query": product.title, "rank": first, "relevant": relevant, "top": top}

    return TaskResult(
        task=task,
        kind="retrieval",
        headline="mrr@10",
        n=n,
        left_out=0,
        figures={name: figure(float(column.mean()), n) for name, column in columns.items()},
        notes=("Products with the same caption are all relevant to it.",),
        shown=tuple(ids),
        details={
            "n_documents": 2400,
            "several_relevant": 0.27,
            "random": {"mrr@10": 0.0012, "recall@1": 0.0004, "recall@10": 0.004, "hit@10": 0.005},
            "best": [shown(place, 1) for place in range(6)],
            "worst": [shown(6 + place, 2100 - 31 * place) for place in range(6)],
        },
        items={
            "item": [f"query {i}" for i in range(n)],
            "seen": [False] * n,
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


def image_to_image(*, right: float, n: int, seed: int) -> TaskResult:
    rng = np.random.default_rng(seed)
    coarse = rng.random(n) < right + 0.25
    fine = coarse & (rng.random(n) < right)
    ndcg = np.where(coarse, rng.random(n), 0.1 * rng.random(n))
    ids = image_ids(N_IMAGES)
    rows = [
        {
            "query": ids[k],
            "rank": 1 + 9 * (k > 5) * k,
            "relevant": [ids[k + 1], ids[k + 2]],
            "top": [ids[k + 1 + (k > 5) * (j + 5)] if j == 0 else ids[k + j + 3] for j in range(5)],
        }
        for k in range(12)
    ]
    columns = {"fine_recall@1": fine * 1.0, "coarse_recall@1": coarse * 1.0, "ndcg@5": ndcg}
    return TaskResult(
        task="lookbench/RealStudioFlat",
        kind="picture-to-picture",
        headline="fine_recall@1",
        n=n,
        left_out=3,
        figures={name: figure(float(column.mean()), n) for name, column in columns.items()},
        warnings=("3 queries have no document of their category and are left out: q4, q9, q77",),
        shown=tuple(ids),
        details={"n_documents": 62226, "several_relevant": 0.91, "random": {}}
        | {"best": rows[:6], "worst": rows[6:]},
        items={
            "item": [f"query {i}" for i in range(n)],
            "seen": [False] * n,
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


def probe(*, right: float, n: int, seed: int) -> TaskResult:
    rng = np.random.default_rng(seed)
    shots = {k: right - 0.34 * 0.62**i for i, k in enumerate((1, 2, 4, 8, 16))}
    few = {f"few_shot@{k}": figure(value, n // 6) for k, value in shots.items()}
    truth = np.arange(n) % 10
    predicted = np.where(rng.random(n) < right, truth, (truth + 1) % 10)
    return TaskResult(
        task="fmnist/probe",
        kind="probe",
        headline="weighted_f1",
        n=n,
        left_out=0,
        figures={"weighted_f1": figure(right, n), "accuracy": figure(right + 0.004, n), **few},
        details={
            "n_training": 6000,
            "c": 0.316,
            "shots": {
                str(k): [float(v + 0.02 * rng.standard_normal()) for _ in range(5)]
                for k, v in shots.items()
            },
        },
        items={
            "item": [f"img-{i}" for i in range(n)],
            "truth": [FMNIST[t] for t in truth],
            "predicted": [FMNIST[p] for p in predicted],
            "seen": [False] * n,
        },
    )


def wrong_attribute(*, right: float, n: int, seed: int) -> TaskResult:
    rng = np.random.default_rng(seed)
    win = np.clip(rng.normal(right, 0.2, n), 0, 1)
    colours = ("red", "navy", "black", "beige", "olive", "white", "burgundy", "grey")
    ids = image_ids(N_IMAGES)
    return TaskResult(
        task="scorecard/colour",
        kind="wrong-attribute",
        headline="win_rate",
        n=n,
        left_out=0,
        figures={
            "win_rate": figure(float(win.mean()), n),
            "beats_all": figure(float((win > 0.95).mean()), n),
        },
        shown=tuple(ids),
        details={
            "attribute": "colour",
            "by_value": {
                colour: figure(float(np.clip(right + 0.3 * np.cos(i), 0, 1)), 12 + 3 * i)
                for i, colour in enumerate(colours)
            },
            "lost_to": [
                {
                    "right": colours[i],
                    "wrong": colours[(i + 3) % 8],
                    "n": 9 - i,
                    "pictures": [ids[(3 * i + m) % N_IMAGES] for m in range(3)],
                }
                for i in range(8)
            ],
        },
        items={
            "item": [f"img-{i}" for i in range(n)],
            "seen": [False] * n,
            "win_rate": win.tolist(),
            "beats_all": (win > 0.95).astype(float).tolist(),
        },
    )


@cache
def two_model_run() -> Run:
    """Two models on six tasks, and a benchmark whose data are missing."""
    results = {
        model.name: (
            zero_shot("fmnist", FMNIST, right=0.62 + 0.11 * i, n=1000, seed=i),
            zero_shot(
                "kagl/article-type",
                KAGL,
                right=0.55 + 0.08 * i,
                n=930,
                seed=10 + i,
                n_seen=420 * (1 - i),
            ),
            retrieval("kagl/text-to-image", right=0.18 + 0.05 * i, n=400, seed=i),
            image_to_image(right=0.4 + 0.1 * i, n=300, seed=i),
            probe(right=0.78 + 0.06 * i, n=800, seed=i),
            wrong_attribute(right=0.6 + 0.1 * i, n=180, seed=i),
        )
        for i, model in enumerate(MODELS)
    }
    return Run(
        models=MODELS,
        results=results,
        missing={
            "deep": "DeepFashion is not here: ask its owners for Category and Attribute Prediction "
            "and unpack it into deepfashion/ in the data folder"
        },
        created="2026-11-23T18:40:12+00:00",
        version="0.1.0",
    )


@cache
def run_thumbnails() -> dict[str, str]:
    """The images of the run, by task and id."""
    ids = image_ids(N_IMAGES)
    return {
        f"{result.task}/{image_id}": uri
        for result in two_model_run().results["builtin"]
        for image_id, uri in zip(ids, product_images(), strict=True)
    }
