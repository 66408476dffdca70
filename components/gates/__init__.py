"""Gates: components that stop a run, each a thin adapter over a plain function that decides."""
