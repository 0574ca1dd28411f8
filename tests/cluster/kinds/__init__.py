"""Each kind's everyday life and its failures, driven with kubectl on one lab: stories that are told side by side."""
