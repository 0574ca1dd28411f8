"""The scheduler at work in a server with controllers."""
