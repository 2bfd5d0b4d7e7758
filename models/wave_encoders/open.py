"""Opening an encoder of another library by its name."""

from aalbert.errors import IntegrityError
from aalbert.models.encoder_names import S3PRL
from aalbert.models.wave_encoders.s3prl_encoder import open_s3prl_encoder
from aalbert.models.wave_encoders.transformers_encoder import (
    find_model_files,
    lasting_transformers_name,
    open_transformers_encoder,
)
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream, WaveUpstreamConfig


def lasting_encoder_name(name: str) -> str:
    """Return the name of an encoder that is valid from any folder, and stays what it is."""
    return name if name.startswith(S3PRL) else lasting_transformers_name(name)


def open_wave_encoder(name: str, untrained_seed: int | None = None) -> WaveUpstream:
    """Open an encoder by its lasting name; with a seed, with fresh random weights.

    Raises `ConfigError` when its library is not installed, `InputError` when there is none.
    """
    if name.startswith(S3PRL):
        return open_s3prl_encoder(name, untrained_seed)
    return open_transformers_encoder(name, untrained_seed)


def reopen_wave_encoder(config: WaveUpstreamConfig) -> WaveUpstream:
    """Open the encoder that a configuration describes, where it was.

    Raises `IntegrityError` when it is another one now.
    """
    opened = open_wave_encoder(config.name, config.untrained_seed)
    if identity(opened.config) != identity(config):
        raise IntegrityError(
            f"{config.name} is not the encoder that the head was trained on: put back what it was, "
            "or train again"
        )
    return opened


def identity(config: WaveUpstreamConfig) -> dict[str, object]:
    """Return what must be the same of an encoder; the version of its software may differ."""
    document = config.to_dict()
    del document["software"]
    return document


def weights_of_encoder(name: str) -> str:
    """Return the hash of an encoder's weights by its lasting name."""
    if name.startswith(S3PRL):
        return open_s3prl_encoder(name, None).config.weights_xxh3
    return find_model_files(name).digest()
