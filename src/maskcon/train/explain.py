"""What goes wrong while a run trains, in words: why, what is kept, what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maskcon.errors import DivergedError, TrainingError
from maskcon.runtime.distributed import lost_connection
from maskcon.runtime.progress import Progress
from maskcon.train.state import Training

if TYPE_CHECKING:
    from maskcon.train.loop import Recorder

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(training: Training, record: "Recorder", progress: Progress) -> Iterator[None]:
    """Turn what a run may raise into a `TrainingError` that says how to go on; end the run's parts.

    Args:
        training: its readers are ended.
        record: is closed, and says what there is to go on from.
        progress: is closed.
    """
    try:
        yield
    except DivergedError as error:
        raise DivergedError(_advice(str(error), training, record)) from error
    except TrainingError as error:  # a file that could not be written, or read
        full = isinstance(error.__cause__, OSError) and not isinstance(
            error.__cause__, ConnectionError
        )
        mend = "Make room" if full else "Mend that"
        raise TrainingError(f"{error}. {mend}, then go on with --resume") from error
    except OSError as error:
        mend = "make room" if error.errno in FULL else "mend that"
        raise TrainingError(
            f"{error}; {record.kept()}: {mend}, then go on with --resume"
        ) from error
    except RuntimeError as error:
        ranks = training.ranks
        if ranks.size == 1 or not lost_connection(error):
            raise
        raise TrainingError(
            f"rank {ranks.rank} of {ranks.size} has stopped, most likely because another one did, "
            f"which tells why ({str(error).strip().splitlines()[-1].split('. ')[0]})"
        ) from error
    finally:
        training.close()
        record.close()
        progress.close()


def _advice(message: str, training: Training, record: "Recorder") -> str:
    config = training.config
    return f"{message}; {record.kept()}. Start again with a lower --lr than {config.lr:g}" + (
        ", or --precision fp32" if training.precision.name != "fp32" else ""
    )
