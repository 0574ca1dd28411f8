"""What can be wrong with a configuration."""


class ConfigurationError(ValueError):
    """The text names the file and every field at fault."""
