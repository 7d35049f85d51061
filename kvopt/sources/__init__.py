"""Where traces come from: synthetic generators, attention scores, model capture, request logs."""
