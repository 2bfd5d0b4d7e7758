"""The names by which s3prl's hub, and the AALBERT repository's, call upstreams, as ours.

A name stands for what it stands for there, or is refused with the way out. A folder of that name
goes first. (`s3prl/upstream/{audio_albert,mockingjay,tera,baseline}/hubconf.py`, s3prl 0.4.18)
"""

from dataclasses import dataclass
from pathlib import Path

from aalbert.common.hub import find_hub_place
from aalbert.common.notes import note
from aalbert.common.settings_text import Document
from aalbert.common.text import flat
from aalbert.errors import ConfigError

HUB = "hf://s3prl"
AUDIO_ALBERT = "audio_albert_logMelBase_T_share_AdamW_b32_1m_960hr_drop1"
MOCKINGJAY = "mockingjay_logMelLinearLarge_T_AdamW_b32_500k_360hr_drop1"
TERA = "tera_logMelBase_T_F_M_AdamW_b32_1m_960hr_drop1"
CHECKPOINTS = {
    **dict.fromkeys(
        ("audio_albert", "audio_albert_960hr", AUDIO_ALBERT),
        f"{HUB}/audio_albert/{AUDIO_ALBERT}/states-1000000.ckpt",
    ),
    **dict.fromkeys(
        ("mockingjay", "mockingjay_origin", MOCKINGJAY),
        f"{HUB}/mockingjay/{MOCKINGJAY}/states-500000.ckpt",
    ),
    **dict.fromkeys(("tera", "tera_960hr", TERA), f"{HUB}/tera/{TERA}/states-1000000.ckpt"),
}
# The subsets of LibriSpeech that their names tell, in hours (Panayotov et al. 2015, table 1).
CLEAN_360 = {"openslr/librispeech_asr/train-clean-360": 363.6}
ALL_960 = {
    "openslr/librispeech_asr/train-clean-100": 100.6,
    **CLEAN_360,
    "openslr/librispeech_asr/train-other-500": 496.7,
}
DROPBOX = (
    *("mockingjay_100hr", "mockingjay_960hr"),
    "mockingjay_logMelBase_T_AdamW_b32_200k_100hr",
    "mockingjay_logMelBase_T_AdamW_b32_1m_960hr",
    "mockingjay_logMelBase_T_AdamW_b32_1m_960hr_drop1",
    "mockingjay_logMelBase_T_AdamW_b32_1m_960hr_seq3k",
    "tera_100hr",
    "tera_logMelBase_T_F_AdamW_b32_200k_100hr",
    "tera_logMelBase_T_F_M_AdamW_b32_200k_100hr",
    "tera_logMelBase_T_F_AdamW_b32_1m_960hr",
    "tera_logMelBase_T_F_AdamW_b32_1m_960hr_drop1",
    "tera_logMelBase_T_F_AdamW_b32_1m_960hr_seq3k",
    "tera_fbankBase_T_F_AdamW_b32_200k_100hr",
)
SYSTEMS = ("audio_albert", "mockingjay", "tera")


@dataclass(frozen=True, kw_only=True)
class PlainFeature:
    """A feature without an encoder: its kind here, and how s3prl normalises it and adds deltas."""

    kind: str
    deltas: int
    normalisation: str

    @property
    def settings(self) -> Document:
        """The same as settings of a downstream task."""
        return {"baseline": {"deltas": self.deltas, "normalisation": self.normalisation}}

    def __str__(self) -> str:
        settings = (f"{name}={value}" for name, value in flat(self.settings))
        return f"{self.kind} with {' and '.join(settings)}"


# `fbank`, `mfcc` and `linear` are names here too: of the features alone, to which deltas and
# normalisation are settings.
FEATURES = {
    "baseline": PlainFeature(kind="fbank", deltas=2, normalisation="utterance"),
    "fbank_no_cmvn": PlainFeature(kind="fbank", deltas=2, normalisation="none"),
    "mel": PlainFeature(kind="logmel", deltas=0, normalisation="utterance"),
}
REFUSED = {
    **{
        f"{system}_local": "takes a checkpoint by -k in s3prl: name its file itself, here that is "
        "the model, such as states-200000.ckpt"
        for system in SYSTEMS
    },
    **{
        f"{system}_url": "takes the URL of a checkpoint by -k in s3prl: name the URL itself, here "
        "that is the model"
        for system in SYSTEMS
    },
    **dict.fromkeys(
        DROPBOX,
        "was published on Dropbox, from where nothing is fetched here: download it and name its "
        "file, or put a head on it as an installed s3prl opens it, by 'aalbert downstream "
        f"--upstream s3prl:NAME'; on the Hugging Face hub are {', '.join(SYSTEMS)}",
    ),
    "baseline_local": "takes the settings of a feature by -g in s3prl: give them to 'aalbert "
    "prepare', and name the feature, such as fbank",
    "spectrogram": "is Kaldi's power spectrogram in s3prl, which is not computed here: the nearest "
    "is linear, a log power spectrogram with Hann windows",
}


def find_plain_feature(name: str) -> PlainFeature | None:
    """Return the plain feature that a name of s3prl's stands for, and say so on stderr, or None."""
    if name not in FEATURES or Path(name).exists():
        return None
    note(f"{name}: {FEATURES[name]}, as in s3prl, unless these are set")
    return FEATURES[name]


def published_speech(place: str) -> dict[str, float]:
    """Return the hours of speech, by split, of a checkpoint at a place on the hub, if published."""
    found = find_hub_place(place)
    if found is None:
        return {}
    unpinned = f"hf://{found.repository}/{found.file}"
    if unpinned not in CHECKPOINTS.values():
        return {}
    return dict(CLEAN_360 if "360hr" in unpinned else ALL_960)


def find_published(name: str) -> str:
    """Return the place of the checkpoint that a name of s3prl's stands for, and say so on stderr.

    Any other text is returned as it is. Raises `ConfigError` for a name that stands for no model
    that can be opened.
    """
    if name not in {*CHECKPOINTS, *FEATURES, *REFUSED} or Path(name).exists():
        return name
    if name in REFUSED:
        raise ConfigError(f"'{name}' {REFUSED[name]}")
    if name in FEATURES:
        raise ConfigError(
            f"'{name}' is a plain feature, no model: here it is {FEATURES[name]}, for --upstream "
            "of 'aalbert downstream' and 'aalbert sweep'"
        )
    note(f"{name}: {CHECKPOINTS[name]}")
    return CHECKPOINTS[name]
