"""NetworkPolicies without a kernel."""
