"""The errors of this room."""


class VolumeError(Exception):
    """A volume cannot be made ready; the text is fit for a FailedMount event and names volume and cause."""


class MountFailed(VolumeError):
    """One that says already what failed of which volume: a claim's is called by its PersistentVolume, as by a kubelet,
    and not by its name in the pod's spec."""
