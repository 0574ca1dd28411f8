"""What objects count for in quotas: admission refuses by it, a controller reports it."""
