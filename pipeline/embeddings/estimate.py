"""An estimate of `extract`, from some recordings of it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from aalbert.common.text import duration, human_bytes
from aalbert.errors import InputError
from aalbert.pipeline.embeddings.extract import (
    ExtractConfig,
    embedding_bytes,
    extract_embeddings,
)
from aalbert.pipeline.embeddings.inputs import Inputs, by_length, refuse_all
from aalbert.pipeline.embeddings.model import EmbeddingModel, check_choice

# At most as many are tried, evenly spread over the lengths.
TRIED_RECORDINGS = 16


@dataclass(frozen=True, kw_only=True)
class ExtractEstimate:
    """What an extraction would take; hours and bytes are about, seconds are of this machine."""

    recordings: int
    skipped: int
    hours: float
    bytes: int
    seconds: float
    tried: int

    def describe(self) -> str:
        """Return the estimate in words."""
        return (
            f"{self.recordings:,} recordings, about {self.hours:,.2f} hours, {self.skipped:,} "
            f"inputs skipped so far; about {human_bytes(self.bytes)}\n"
            f"about {duration(self.seconds)}, from {self.tried:,} recordings that were tried; "
            "nothing was written"
        )


def estimate_extraction(
    model: EmbeddingModel, inputs: Inputs, config: ExtractConfig
) -> ExtractEstimate:
    """Estimate an extraction without writing anything that stays.

    Raises `InputError` when none of the recordings that are tried can be used.
    """
    check_choice(model, config.layers, config.pooling)
    recordings = by_length(inputs.recordings)
    if not recordings:
        refuse_all(inputs.skipped)
    some = recordings[:: -(-len(recordings) // TRIED_RECORDINGS)]
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        try:
            extract_embeddings(
                model, replace(inputs, recordings=some), Path(folder) / "some", config
            )
        except InputError as error:
            raise InputError(f"of {len(some)} recordings that were tried: {error}") from error
        seconds = time.perf_counter() - started
    whole, part = (sum(each.seconds for each in chosen) for chosen in (recordings, some))
    return ExtractEstimate(
        recordings=len(recordings),
        skipped=len(inputs.skipped),
        hours=whole / 3600,
        bytes=round(sum(embedding_bytes(each, model, config) for each in recordings)),
        seconds=seconds * whole / part if part else seconds,
        tried=len(some),
    )
