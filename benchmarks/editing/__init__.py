"""What edits along learned directions change, on rendered portraits."""
