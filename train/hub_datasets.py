"""The name that a corpus has on the Hugging Face hub, and its splits, where it is certain."""

from aalbert.shards.format.manifest import Manifest

LIBRISPEECH = "openslr/librispeech_asr"
# The utterances of its official subsets. Other speech may lie in the same folders.
LIBRISPEECH_UTTERANCES = {
    "train-clean-100": 28_539,
    "train-clean-360": 104_014,
    "train-other-500": 148_688,
    "dev-clean": 2_703,
    "dev-other": 2_864,
    "test-clean": 2_620,
    "test-other": 2_939,
}


def hub_dataset(manifest: Manifest) -> str:
    """Return the name on the hub of the corpus of a dataset; empty where it is not certain.

    LibriSpeech is known by subsets that are whole.
    """
    whole = all(is_official(manifest, split) for split in manifest.splits)
    return LIBRISPEECH if whole else ""


def speech_name(manifest: Manifest, split: str) -> str:
    """Return a name of a split that other datasets of the same speech have too.

    Where its speech is not known, it has the dataset's fingerprint, and is that of no other.
    """
    corpus = LIBRISPEECH if is_official(manifest, split) else manifest.fingerprint
    return f"{corpus}/{split}"


def is_official(manifest: Manifest, split: str) -> bool:
    """Return whether a split of a dataset is an official subset of LibriSpeech as a whole."""
    found = manifest.splits[split].utterances
    return manifest.corpus == "librispeech" and found == LIBRISPEECH_UTTERANCES.get(split)
