"""Data: MNIST, the order in which a torch loader takes it, and sources in memory or on disk."""

from jaxnet.data.loader import Batching, DataLoader, make_batching, random_split, start_epoch
from jaxnet.data.mnist import Dataset, load_mnist, one_hot, read_idx
from jaxnet.data.sources import InMemory, Mapped, Source

__all__ = [
    "Batching",
    "DataLoader",
    "Dataset",
    "InMemory",
    "Mapped",
    "Source",
    "load_mnist",
    "make_batching",
    "one_hot",
    "random_split",
    "read_idx",
    "start_epoch",
]
