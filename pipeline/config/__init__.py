"""What a run is made of: settings, presets and the families of the table."""
