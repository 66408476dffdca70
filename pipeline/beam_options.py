"""Beam's options for a run in this process."""

# The short name is missing from older Beam releases, and Beam 2.68 and later try to download another runner
# first. TFX ships a package of itself with every step unless a container image is named; in memory it is not used.
IN_MEMORY = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",
    "--sdk_container_image=in-memory",
)
