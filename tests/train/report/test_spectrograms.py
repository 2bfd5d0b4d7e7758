"""The pictures of spectrograms and their axes, read back by other means."""

import io
from base64 import b64decode

import matplotlib.image
import numpy as np
import pytest

from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
)
from aalbert.train.report.spectrograms import (
    coloured_png,
    frequency_axis,
    limits_of,
    spectrogram_chart,
)


def test_a_picture_has_the_colours_of_its_values_and_is_blank_where_there_is_none() -> None:
    shares = np.array([[0.0, 0.5, 1.0], [2.0, np.nan, -1.0]])
    read = matplotlib.image.imread(io.BytesIO(coloured_png(shares)))
    expected = matplotlib.colormaps["magma"](np.clip(shares, 0, 1))
    blank = np.isnan(shares)
    np.testing.assert_allclose(read[~blank], expected[~blank], atol=0.01)
    assert read[blank][:, 3] == [0]


def test_time_runs_to_the_right_and_low_frequencies_are_below() -> None:
    frames = np.zeros((200, 80), np.float16)
    frames[0, 0] = 1.0
    axis = frequency_axis(LogMelSettings())
    chart = spectrogram_chart(frames, 10.0, axis, (0.0, 1.0), "a spectrogram")
    assert chart.picture is not None
    kind, data = chart.picture.split(",")
    assert kind == "data:image/png;base64"
    read = matplotlib.image.imread(io.BytesIO(b64decode(data)))
    brightest = np.unravel_index(read[:, :, :3].sum(axis=2).argmax(), read.shape[:2])
    assert read.shape[:2] == (80, 200) and brightest == (79, 0)
    assert [tick.text for tick in chart.x.ticks] == ["0.0", "0.5", "1.0", "1.5", "2.0"]


@pytest.mark.parametrize("settings", [LogMelSettings(), FbankSettings()], ids=["htk", "kaldi"])
def test_frequencies_stand_at_the_mel_bands_that_they_are_in(settings: FeatureSettings) -> None:
    axis = frequency_axis(settings)
    assert axis.label == "mel band, by its frequency in Hz"
    lowest = 0.0 if settings.kind == "logmel" else 20.0
    mels = 1127 * np.log1p(np.array([lowest, 8000.0]) / 700)
    for tick in axis.ticks:
        hertz = float(tick.text.replace(",", ""))
        mel = 1127 * np.log1p(hertz / 700)
        # Bands have their centres at 1, 2, ... 80 of 81 equal parts, and are rows of a picture.
        band = (mel - mels[0]) / (mels[1] - mels[0]) * 81 - 1
        assert tick.place == pytest.approx(100 * (band + 0.5) / 80, abs=0.2)


def test_other_features_have_their_own_axes() -> None:
    linear = frequency_axis(LinearSettings())
    assert linear.label == "frequency bin, by its frequency in Hz"
    # Bins are 40 Hz apart, and the 26th begins at an eighth of the picture.
    assert linear.at(1000.0) == pytest.approx(100 * 25.5 / 201, abs=0.01)
    assert frequency_axis(MfccSettings()).label == "cepstral coefficient"


def test_colours_leave_out_extreme_values() -> None:
    values = np.concatenate([np.linspace(0, 1, 1001), [1e4, np.nan]])[:, None]
    assert limits_of(values) == pytest.approx((0.01, 0.99), abs=0.01)
