"""From a planned point to its records: the task, the frozen blocks, the members."""
