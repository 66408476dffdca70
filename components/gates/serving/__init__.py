"""ServingGate: what an exported model must do in a process of its own."""
