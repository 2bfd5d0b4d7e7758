"""The dataset card: a README for people who find the folder later."""

import re
from collections import Counter
from dataclasses import asdict

from aalbert.pipeline.corpora.corpus import Skip
from aalbert.shards.manifest import Manifest

TEMPLATE = """\
# {corpus}: features for aalbert

{utterances:,} utterances, {hours:.2f} hours, fingerprint `{fingerprint}`.
Licence of the corpus: {licence}.

| split | utterances | hours | speakers | shards |
|---|---|---|---|---|
{splits}

## Features

{features}

Stored as float16 `.npy`, raw: deltas and normalisation belong to the model that reads them.

## Inputs not taken

{skipped}

## Reading

The shards are plain WebDataset tars (`KEY.FEATURE.npy` and `KEY.json` per utterance);
`index/*.arrow` has one row per utterance, with the byte offset of every array.
`aalbert.shards.Dataset` reads by index, `webdataset.WebDataset` reads the tars.
"""


def dataset_card(manifest: Manifest, licence: str, skipped: list[Skip]) -> str:
    """Describe a dataset in Markdown: what it holds, how it was made, how to read it."""
    return TEMPLATE.format(
        corpus=manifest.corpus,
        utterances=manifest.utterances,
        hours=manifest.hours,
        fingerprint=manifest.fingerprint,
        licence=licence,
        splits="\n".join(
            f"| {cell(name)} | {split.utterances:,} | {split.hours:.2f} | {split.speakers} "
            f"| {len(split.shards)} |"
            for name, split in manifest.splits.items()
        ),
        features="\n".join(
            f"- `{name}`: " + ", ".join(f"{key} {value}" for key, value in asdict(settings).items())
            for name, settings in manifest.features.items()
        ),
        skipped=skip_table(skipped),
    )


def skip_table(skipped: list[Skip]) -> str:
    """Count the reasons for which inputs were not taken."""
    if not skipped:
        return "None."
    counts = Counter(skip.kind for skip in skipped).most_common(20)
    rows = "\n".join(f"| {count} | {cell(reason)} |" for reason, count in counts)
    header = f"{len(skipped)} in all, each listed in `skipped.jsonl`."
    return f"{header}\n\n| files | reason |\n|---|---|\n{rows}"


def cell(text: str) -> str:
    """Return a text that stays in its cell of a Markdown table and means no markup."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))
