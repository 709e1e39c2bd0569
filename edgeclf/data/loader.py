"""Loading batches in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader, Dataset

from edgeclf.data.plan import Pieces
from edgeclf.data.sequential import Batch, RecordingDataset
from edgeclf_runtime.errors import EdgeclfError


class BatchLoader(DataLoader[Batch]):
    """A `DataLoader` whose processes' errors arrive as what they are; made by `batch_loader`.

    torch puts the text of a traceback into them, and their sentences are for users. Loading starts when the first batch
    is asked for: by then Lightning has told the plan which epoch it is, which it has not when it makes the iterator.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # an iterator is all that its users take it for
        """Yields the batches of one epoch.

        Raises:
            EdgeclfError: Where a file cannot be read.
        """
        for batch in super().__iter__():
            if isinstance(batch, EdgeclfError):
                raise batch
            yield batch


class _ErrorsReturned(Dataset["Batch | EdgeclfError"]):
    def __init__(self, dataset: RecordingDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, pieces: Pieces) -> Batch | EdgeclfError:
        try:
            return self._dataset[pieces]
        except EdgeclfError as error:
            return error


def batch_loader(dataset: RecordingDataset, num_workers: int = 0, pin_memory: bool = False) -> BatchLoader:
    """Returns what loads the batches of a data set's plan, in its order.

    Its `sampler` is the plan, which Lightning tells the epoch.

    Args:
        dataset: The data set.
        num_workers: Processes that load, which go on from epoch to epoch; 0: the process that asks for batches.
        pin_memory: Whether batches go to memory from which a GPU can fetch them by itself.
    """
    return BatchLoader(
        _ErrorsReturned(dataset) if num_workers else dataset,  # type: ignore[arg-type]  # errors do not get out
        batch_size=None,
        sampler=dataset.plan,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )
