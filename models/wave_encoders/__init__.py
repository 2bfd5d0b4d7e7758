"""Encoders of other libraries that read waves, as upstreams."""
