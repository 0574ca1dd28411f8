"""``orca.store`` on real etcds, also when they die, stand still or are partitioned."""
