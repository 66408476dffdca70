"""MLflow: runs, registered versions, and the aliases that say what serves."""
