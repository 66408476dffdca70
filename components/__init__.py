"""What TFX lacks: ingest, gates, text transform, metrics, push and tracking as small components."""
