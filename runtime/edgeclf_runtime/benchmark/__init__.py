"""How fast a classifier is on this machine: candidates side by side, in processes of their own, in shuffled turns."""
