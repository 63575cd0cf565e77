"""A search service of other libraries, for ``serve.py --peers``: an embedder and a database.

    python -m venv --system-site-packages peers
    peers/bin/pip install infinity-emb lancedb qdrant-client fastapi uvicorn "transformers<5" torch
    peers/bin/python benchmarks/peer_service.py --checkpoint FOLDER --table products.parquet
        --encoder infinity --database lancedb --mode hybrid

It runs in an environment of its own and does not import this package. ``--table`` holds the columns
``id``, ``text`` and ``vector``. Texts that arrive together are encoded together: by infinity's
engine, or by transformers behind a queue. LanceDB has an IVF index and a full-text index, and its
own fusion; Qdrant runs in its local mode, by meaning alone. Prints its address when it is ready.
"""

import argparse
import asyncio
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pyarrow.parquet as pq
import uvicorn
from fastapi import FastAPI, Request

MAX_BATCH = 32
K = 10
N_PARTITIONS = 256
Encode = Callable[[str], Awaitable[np.ndarray]]
Find = Callable[[str, np.ndarray], list[str]]


def open_infinity(folder: str) -> tuple[Encode, Callable[[], Awaitable[None]]]:
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=folder,
            engine="torch",
            device="cpu",
            batch_size=MAX_BATCH,
            model_warmup=False,
            bettertransformer=False,
            compile=False,
        )
    )

    async def encode(text: str) -> np.ndarray:
        vectors, _ = await engine.embed([text])
        return np.asarray(vectors[0], np.float32)

    return encode, engine.astart


def open_transformers(folder: str) -> tuple[Encode, Callable[[], Awaitable[None]]]:
    import torch
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = CLIPTextModelWithProjection.from_pretrained(folder).eval()
    waiting: asyncio.Queue[tuple[str, asyncio.Future[np.ndarray]]] = asyncio.Queue()

    def embed(texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            return model(**tokens).text_embeds.float().numpy()

    async def work() -> None:
        while True:
            batch = [await waiting.get()]
            while len(batch) < MAX_BATCH and not waiting.empty():
                batch.append(waiting.get_nowait())
            vectors = await asyncio.to_thread(embed, [text for text, _ in batch])
            for (_, future), vector in zip(batch, vectors, strict=True):
                future.set_result(vector)

    async def encode(text: str) -> np.ndarray:
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        await waiting.put((text, future))
        return await future

    tasks = set()

    async def start() -> None:
        tasks.add(asyncio.create_task(work()))

    return encode, start


def open_lancedb(table_path: str, mode: str, folder: str) -> Find:
    import lancedb
    from lancedb.index import FTS, IvfFlat

    table = lancedb.connect(folder).create_table("products", pq.read_table(table_path))
    partitions = IvfFlat(distance_type="cosine", num_partitions=N_PARTITIONS)
    table.create_index("vector", config=partitions)
    if mode == "hybrid":
        table.create_index("text", config=FTS())

    def find(text: str, vector: np.ndarray) -> list[str]:
        if mode == "hybrid":
            search = table.search(query_type="hybrid").vector(vector).text(text)
        else:
            search = table.search(vector).distance_type("cosine")
        return search.select(["id"]).limit(K).to_arrow()["id"].to_pylist()

    return find


def open_qdrant(table_path: str, mode: str, folder: str) -> Find:
    from qdrant_client import QdrantClient, models

    rows = pq.read_table(table_path)
    vectors = np.stack(rows["vector"].to_numpy())
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("products", vectors_config=size)
    client.upload_collection(
        "products", vectors=vectors, payload=[{"id": name} for name in rows["id"].to_pylist()]
    )

    def find(text: str, vector: np.ndarray) -> list[str]:
        found = client.query_points("products", query=vector, limit=K, with_payload=True)
        return [point.payload["id"] for point in found.points]

    return find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="a folder that CLIPModel loads")
    parser.add_argument("--table", required=True, help="a Parquet file: id, text, vector")
    parser.add_argument("--encoder", choices=["infinity", "transformers"], required=True)
    parser.add_argument("--database", choices=["lancedb", "qdrant"], required=True)
    parser.add_argument("--mode", choices=["hybrid", "vectors"], default="hybrid")
    options = parser.parse_args()
    encoders = {"infinity": open_infinity, "transformers": open_transformers}
    databases = {"lancedb": open_lancedb, "qdrant": open_qdrant}
    with tempfile.TemporaryDirectory() as folder:
        find = databases[options.database](options.table, options.mode, folder)
        encode, start = encoders[options.encoder](options.checkpoint)

        @asynccontextmanager
        async def lifespan(_: FastAPI):  # noqa: ANN202
            await start()
            find("red dress", await encode("red dress"))
            print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
            yield

        app = FastAPI(lifespan=lifespan)

        @app.post("/search")
        async def search(request: Request) -> dict[str, list[dict[str, str]]]:
            text = (await request.json())["text"]
            vector = await encode(text)
            return {"hits": [{"id": name} for name in await asyncio.to_thread(find, text, vector)]}

        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
