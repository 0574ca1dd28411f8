"""What upstream's conformance suite checks of the API alone, each case in its own few lines.

The names of the tests follow the cases of k8s.io/kubernetes ``test/conformance/testdata/conformance.yaml``. Here are
those that need no container; what tests elsewhere check already is not repeated.
"""
