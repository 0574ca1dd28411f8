"""The API as it is served: every kind and verb, with plain HTTP and with real kubectl."""
