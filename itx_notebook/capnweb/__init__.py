"""Cap'n Web for Python: object-capability RPC over WebSocket and HTTP, usable on its own."""
