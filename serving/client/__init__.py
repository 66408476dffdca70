"""Clients over REST and gRPC."""
