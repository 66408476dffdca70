"""The server: connections, the application, its limits, metrics and log."""
