"""What host and guest know each other by (`coved.streams.knock`), without what it takes to use it: PID 1 writes it down."""

KEY = "/run/cove/streams_key"
"""In hexadecimal digits; there when the host may come by vsock."""
KEY_SIZE = 32
