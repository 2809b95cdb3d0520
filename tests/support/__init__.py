"""Code shared by tests: readers, fakes and fixtures, as plain modules."""
