"""DataGate: what the data of a run must be like."""
