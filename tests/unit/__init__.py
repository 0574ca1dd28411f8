"""Pure and fast: virtual time, a fake API, no sleeps. A folder for each package under test."""
