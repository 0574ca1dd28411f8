"""A lab of real hosts with engines of their own: pods, networks, Services, faults."""
