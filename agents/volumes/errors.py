"""The one error of this room."""


class VolumeError(Exception):
    """A volume cannot be made ready; the text is fit for a FailedMount event and names volume and cause."""
