"""gRPC over HTTP/2 on connections that are there already, in both roles, and the protocol buffers that it carries."""
