"""ModelGate: what a candidate must show."""
