"""The commands of the bridge."""
