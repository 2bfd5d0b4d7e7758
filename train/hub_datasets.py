"""The name that a corpus has on the Hugging Face hub, where it is certain."""

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
    whole = manifest.corpus == "librispeech" and all(
        split.utterances == LIBRISPEECH_UTTERANCES.get(name)
        for name, split in manifest.splits.items()
    )
    return LIBRISPEECH if whole else ""
