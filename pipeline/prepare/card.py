"""The card of a dataset, `README.md`: a header for the hub, contents, and how to read it."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from aalbert.common.text import flat, markdown, visible
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.shards.format.manifest import SKIPPED_NAME, Manifest

# What stands for the place of the dataset in the examples.
PLACE = "DATASET"
# The names that the hub has for licences, by how the text of a corpus begins.
LICENCES = {"CC BY 4.0": "cc-by-4.0"}
# The hub takes no other characters in the name of a split.
OTHER_CHARACTERS = re.compile(r"\W+", re.ASCII)
# Up to so many utterances, the hub has these names for sizes.
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LARGEST_SIZE = "10M<n<100M"
MOST_REASONS = 20

CARD = """\
---
{header}---

# {corpus}: features of speech for aalbert

{utterances:,} utterances, {hours:.2f} hours, as features such as spectrograms, with one row of an
index for each utterance. There is no audio in it. Fingerprint `{fingerprint}`.

| split | utterances | hours | speakers | shards |
|---|---|---|---|---|
{splits}

For pretraining and measuring encoders of speech that read these features. Recordings whose features
are to be compared with these have to be computed with the same settings.

## Licence

Licence of the corpus: {licence}. These features are made from its recordings: speech can be made
audible from them again, and speakers can be told apart. So what holds for the recordings holds for
them.

## Features

{features}

Stored as float16, `(frames, numbers)`, raw: deltas and normalisation belong to the model that reads
them. Made with {software}.

## Loading

With `aalbert`, by index, verified against checksums, and in
reproducible batches:

```python
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig

dataset = Dataset("{place}")  # this folder, or its URL
features = dataset.features(0, "{feature}")
order = OrderConfig(frames_per_batch=6000)
config = LoaderConfig(feature="{feature}", order=order, prefetch=0)
for batch in Loader(dataset.select(["{split}"]), config):
    padded, lengths = batch.features, batch.lengths
```

With `webdataset`, as a stream of the tars:

```python
import glob
import io
import json

import numpy as np
import webdataset

paths = sorted(glob.glob("{place}/{split}/*.tar"))
for sample in webdataset.WebDataset(paths, shardshuffle=False):
    features = np.load(io.BytesIO(sample["{feature}.npy"]))
    about = json.loads(sample["json"])
```

With `pyarrow` and NumPy, one utterance at a time by the index, where `{feature}_offset` says at
which byte of its shard an array begins:

```python
import json
import pathlib

import numpy as np
import pyarrow as pa

index = pa.ipc.open_file("{place}/index/{split}.arrow").read_all()
manifest = json.loads(pathlib.Path("{place}/manifest.json").read_text())
shards = manifest["splits"]["{split}"]["shards"]
row = index.slice(0, 1).to_pylist()[0]
features = np.fromfile(
    "{place}/" + shards[row["shard"]]["path"],
    dtype="<f2",
    count=row["{feature}_bytes"] // 2,
    offset=row["{feature}_offset"],
).reshape(row["{feature}_frames"], -1)
```

With PyTorch's `DataLoader`, in any order, padded:

```python
import torch
from aalbert.shards import Dataset

dataset = Dataset("{place}")


class Utterances(torch.utils.data.Dataset):
    rows = dataset.rows(["{split}"])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return torch.from_numpy(dataset.features(self.rows[number], "{feature}").copy())


loader = torch.utils.data.DataLoader(
    Utterances(), batch_size=4, shuffle=True, collate_fn=torch.nn.utils.rnn.pad_sequence
)
for padded in loader:
    frames, batch, numbers = padded.shape
```

Hugging Face `datasets` opens this folder with `load_dataset`, by the header of this card; the names
of splits have underscores there.

## Files

Every split has plain WebDataset tars (`KEY.FEATURE.npy` and `KEY.json` per utterance).
`index/*.arrow` have one row per utterance, `statistics/*.arrow` the mean and the deviation of every
utterance, `manifest.json` all settings, and sizes and hashes of all files: `aalbert shards verify`
compares them.

## Inputs not taken

{skipped}
"""


def dataset_card(manifest: Manifest, licence: str, skipped: list[Skip]) -> str:
    """Return the description of a dataset in Markdown: contents, features, and how to read it."""
    return CARD.format(
        header=header(manifest, licence),
        corpus=markdown(manifest.corpus),
        utterances=manifest.utterances,
        hours=manifest.hours,
        fingerprint=manifest.fingerprint,
        licence=markdown(licence),
        splits="\n".join(
            f"| {markdown(name)} | {split.utterances:,} | {split.hours:.2f} | {split.speakers:,} "
            f"| {len(split.shards):,} |"
            for name, split in manifest.splits.items()
        ),
        features="\n".join(
            f"- `{name}`, {settings.dims} numbers a frame: {in_words(asdict(settings))}"
            for name, settings in manifest.features.items()
        ),
        software=in_words(manifest.software) or "unknown software",
        place=PLACE,
        feature=next(iter(manifest.features)),
        split=visible(next(iter(manifest.splits))),
        skipped=skip_table(skipped),
    )


def header(manifest: Manifest, licence: str) -> str:
    """Return the header in YAML, in the names that the hub reads, without what is not known."""
    licences = (name for text, name in LICENCES.items() if licence.startswith(text))
    sizes = (name for most, name in SIZES if manifest.utterances < most)
    known: dict[str, Any] = {
        "pretty_name": f"{visible(manifest.corpus)}: features of speech for aalbert",
        "license": next(licences, "unknown"),
        "tags": ["audio", "speech", "webdataset", "aalbert", *manifest.features],
        "size_categories": [next(sizes, LARGEST_SIZE)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": OTHER_CHARACTERS.sub("_", name), "path": f"{visible(name)}/*.tar"}
                    for name in manifest.splits
                ],
            }
        ],
    }
    text: str = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return text


def in_words(settings: Mapping[str, Any]) -> str:
    """Return names and values in one line: `mels 80, wave.gain_db 0.0`."""
    shown = ((name, "none" if value is None else value) for name, value in flat(settings))
    return ", ".join(f"{name} {markdown(str(value))}" for name, value in shown)


def skip_table(skipped: list[Skip]) -> str:
    """Return a Markdown table that counts the reasons of skipped inputs."""
    if not skipped:
        return "None."
    counts = Counter(skip.kind for skip in skipped).most_common(MOST_REASONS)
    rows = "\n".join(f"| {count} | {markdown(reason)} |" for reason, count in counts)
    header = f"{len(skipped)} in all, each listed in `{SKIPPED_NAME}`."
    return f"{header}\n\n| files | reason |\n|---|---|\n{rows}"
