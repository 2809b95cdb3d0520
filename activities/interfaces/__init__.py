"""Activities as workflows see them, and how a workflow is found: nothing here does anything."""
