"""Data sets for training runs: read from the usual files, built in, or drawn.

Importing this imports NumPy and nothing of the compiled kernels.
"""

from experiments.datasets.dataset import Dataset, DatasetError
from experiments.datasets.fitting import fit_images
from experiments.datasets.loading import dataset_names, load_dataset, load_splits
from experiments.datasets.pipeline import Batches
from experiments.datasets.splits import by_user, non_iid, split_validation

__all__ = [
    "Batches",
    "Dataset",
    "DatasetError",
    "by_user",
    "dataset_names",
    "fit_images",
    "load_dataset",
    "load_splits",
    "non_iid",
    "split_validation",
]
