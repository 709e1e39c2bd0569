"""The commands that a device has."""
