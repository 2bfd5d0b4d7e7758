"""What s3prl's layout of checkpoints cannot hold."""

from aalbert.errors import ConfigError


class LayoutError(ConfigError):
    """s3prl's layout has no place for a setting; a folder with its own code may have one."""


def require_layout(condition: bool, message: str) -> None:
    """Raise `LayoutError` unless s3prl's layout holds a setting."""
    if not condition:
        raise LayoutError(message)
