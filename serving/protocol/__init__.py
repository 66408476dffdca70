"""Bodies and replies: TensorFlow Serving's REST API and KServe's v2."""
