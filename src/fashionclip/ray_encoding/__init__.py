"""The encoder on Ray: batches of images go to workers, vectors and errors come back in order.

The workers are plain actors, not Ray Data: a Ray dataset is not made from a generator of the driver
without holding all of it, and an actor pool whose actor dies can stall in silence.
"""

from fashionclip.ray_encoding.cluster import open_ray_encoder, plan_workers
from fashionclip.ray_encoding.workers import EncodingWorker, RayEncoder, WorkerPlan

__all__ = ["EncodingWorker", "RayEncoder", "WorkerPlan", "open_ray_encoder", "plan_workers"]
