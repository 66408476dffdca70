"""The from-scratch transformer family."""
