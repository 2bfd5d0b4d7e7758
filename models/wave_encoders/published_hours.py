"""How much speech encoders of others were pretrained on, as their authors state it."""

from aalbert.models.encoder_names import TRANSFORMERS

LIBRISPEECH, LIBRILIGHT, WAVLM_MIX, XLS_R_MIX = 960.0, 60_000.0, 94_000.0, 436_000.0
# In place of the names of splits.
STATED = "stated by the authors"
# wav2vec 2.0 (Baevski et al. 2020; Libri-light, of which 53.2 thousand hours were left), XLSR-53
# (Conneau et al. 2020), XLS-R (Babu et al. 2021), HuBERT (Hsu et al. 2021), WavLM (Chen et al.
# 2022), data2vec (Baevski et al. 2022), DistilHuBERT (Chang et al. 2022).
HOURS = {
    "hf:facebook/wav2vec2-base": LIBRISPEECH,
    "hf:facebook/wav2vec2-large": LIBRISPEECH,
    "hf:facebook/wav2vec2-large-lv60": 53_200.0,
    "hf:facebook/wav2vec2-large-xlsr-53": 56_000.0,
    "hf:facebook/wav2vec2-xls-r-300m": XLS_R_MIX,
    "hf:facebook/wav2vec2-xls-r-1b": XLS_R_MIX,
    "hf:facebook/wav2vec2-xls-r-2b": XLS_R_MIX,
    "hf:facebook/hubert-base-ls960": LIBRISPEECH,
    "hf:facebook/hubert-large-ll60k": LIBRILIGHT,
    "hf:facebook/hubert-xlarge-ll60k": LIBRILIGHT,
    "hf:facebook/data2vec-audio-base": LIBRISPEECH,
    "hf:facebook/data2vec-audio-large": LIBRILIGHT,
    "hf:microsoft/wavlm-base": LIBRISPEECH,
    "hf:microsoft/wavlm-base-plus": WAVLM_MIX,
    "hf:microsoft/wavlm-large": WAVLM_MIX,
    "hf:ntu-spml/distilhubert": LIBRISPEECH,
    "s3prl:wav2vec2": LIBRISPEECH,
    "s3prl:wav2vec2_base_960": LIBRISPEECH,
    "s3prl:wav2vec2_large_960": LIBRISPEECH,
    "s3prl:wav2vec2_large_ll60k": 53_200.0,
    "s3prl:xlsr_53": 56_000.0,
    "s3prl:xls_r_300m": XLS_R_MIX,
    "s3prl:xls_r_1b": XLS_R_MIX,
    "s3prl:xls_r_2b": XLS_R_MIX,
    "s3prl:hubert": LIBRISPEECH,
    "s3prl:hubert_base": LIBRISPEECH,
    "s3prl:hubert_large_ll60k": LIBRILIGHT,
    # Its default is Base-Plus.
    "s3prl:wavlm": WAVLM_MIX,
    "s3prl:wavlm_base": LIBRISPEECH,
    "s3prl:wavlm_base_plus": WAVLM_MIX,
    "s3prl:wavlm_large": WAVLM_MIX,
    "s3prl:data2vec": LIBRISPEECH,
    "s3prl:data2vec_base_960": LIBRISPEECH,
    "s3prl:data2vec_large_ll60k": LIBRILIGHT,
    "s3prl:distilhubert": LIBRISPEECH,
    "s3prl:distilhubert_base": LIBRISPEECH,
}


def published_hours(name: str) -> float | None:
    """Return the hours that an encoder was pretrained on by its name, None where none are known."""
    model = name.partition("@")[0] if name.startswith(TRANSFORMERS) else name
    return HOURS.get(model)
