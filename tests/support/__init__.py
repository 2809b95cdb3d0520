"""What tests share: readers, fakes and fixtures, as plain modules."""
